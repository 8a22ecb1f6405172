# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claim noise: it counts from the reading after a grant, and begins again with other CPUs."""

from __future__ import annotations

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon.claim_noise import Baselines, ClaimNoise, Heard, Listened
from tests.unit.daemon.audited import BOOTED_AT, facts_of, files_of


def listened(cpus: str = "2-3", asked_at: float | None = None) -> Listened:
    return Listened("ovs", "isolated", CpuSet.parse(cpus), (), asked_at)


def hear(noise: ClaimNoise, uptime: float, ticks: int, claim: Listened | None = None, boot: str = "b") -> Heard:
    """What is heard `uptime` seconds after the boot, with so many ticks on CPU 2 by then."""
    facts = facts_of(uptime, files_of(uptime, ticks=(9, 9, ticks, 0), boot=boot))
    return noise.listen(facts, [claim or listened()])["ovs"]


def ticks(heard: Heard) -> tuple[int | None, int | None]:
    """The ticks in all and lately."""
    return (heard.total and heard.total.ticks, heard.now and heard.now.ticks)


def test_noise_counts_from_the_first_reading() -> None:
    noise = ClaimNoise()
    first = hear(noise, 100.0, 1000)
    assert (first.since, ticks(first)) == (BOOTED_AT + 100, (None, None))
    second = hear(noise, 160.0, 1006)
    assert (second.since, ticks(second)) == (BOOTED_AT + 100, (6, 6))
    assert second.total is not None
    assert second.total.seconds == 60.0
    assert ticks(hear(noise, 220.0, 1010)) == (10, 4)


def test_other_cpus_begin_again() -> None:
    noise = ClaimNoise()
    hear(noise, 100.0, 1000)
    grown = hear(noise, 160.0, 1006, listened("1-3"))
    assert (grown.since, ticks(grown)) == (BOOTED_AT + 160, (None, None))
    assert ticks(hear(noise, 220.0, 1008, listened("1-3"))) == (2, 2)


def test_a_later_grant_of_the_same_cpus_begins_again() -> None:
    noise = ClaimNoise()
    hear(noise, 100.0, 1000, listened(asked_at=BOOTED_AT + 50))
    again = hear(noise, 160.0, 1006, listened(asked_at=BOOTED_AT + 150))
    assert (again.since, again.total) == (BOOTED_AT + 160, None)


def test_a_grant_that_the_history_has_forgotten_is_the_same_one() -> None:
    noise = ClaimNoise()
    hear(noise, 100.0, 1000, listened(asked_at=BOOTED_AT + 50))
    assert ticks(hear(noise, 160.0, 1006)) == (6, 6)


def test_a_claim_from_before_the_boot_counts_from_the_boot() -> None:
    heard = hear(ClaimNoise(), 100.0, 1000, listened(asked_at=BOOTED_AT - 5))
    assert (heard.since, ticks(heard)) == (BOOTED_AT, (1000, None))


def test_another_boot_counts_from_its_beginning() -> None:
    noise = ClaimNoise()
    hear(noise, 100.0, 1000, listened(asked_at=BOOTED_AT + 50))
    rebooted = hear(noise, 30.0, 7, listened(asked_at=BOOTED_AT + 50), boot="another")
    assert (rebooted.since, ticks(rebooted)) == (BOOTED_AT, (7, None))
    assert ticks(hear(noise, 90.0, 9, listened(asked_at=BOOTED_AT + 50), boot="another")) == (9, 2)


def test_baselines_of_an_earlier_daemon_go_on() -> None:
    before = ClaimNoise()
    hear(before, 100.0, 1000)
    heard = hear(ClaimNoise(before.baselines), 160.0, 1006)
    assert (heard.since, ticks(heard)) == (BOOTED_AT + 100, (6, None))


def test_released_claims_are_forgotten() -> None:
    noise = ClaimNoise()
    hear(noise, 100.0, 1000)
    noise.listen(facts_of(130.0), [])
    assert noise.baselines.of == {}
    assert hear(noise, 160.0, 1006).total is None


def test_without_counters_the_problem_says_what_is_missing() -> None:
    files = files_of()
    del files["proc/interrupts"]
    (heard,) = ClaimNoise().listen(facts_of(100.0, files), [listened()]).values()
    assert heard == Heard(problem="The noise is not known: it needs /proc/interrupts, which is not there")


def test_a_recorded_host_has_no_noise_because_no_time_passes() -> None:
    noise = ClaimNoise()
    hear(noise, 100.0, 1000)
    assert ticks(hear(noise, 100.0, 1000)) == (None, None)


def test_switches_are_not_known_without_the_owners_threads() -> None:
    noise = ClaimNoise(Baselines("5a1c"))
    claim = listened(asked_at=BOOTED_AT - 5)
    (known,) = noise.listen(facts_of(), [claim]).values()
    (unknown,) = noise.listen(facts_of(160.0), [claim._replace(tasks=None)]).values()
    assert known.total is not None
    assert unknown.total is not None
    assert (known.total.involuntary, unknown.total.involuntary) == (0, None)


def test_baselines_change_only_with_the_claims() -> None:
    noise = ClaimNoise()
    hear(noise, 100.0, 1000)
    assert noise.changed
    noise.changed = False
    hear(noise, 160.0, 1006)
    assert not noise.changed
    hear(noise, 220.0, 1006, listened("2"))
    assert noise.changed
