# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Noise of some CPUs, between two readings, as JSON, and its culprit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.noise import Noise, culprit, noise_between, noise_so_far
from tests.unit.isolation.quiet_host import CPU, INTERRUPTS, LATER, Files, facts, task

CPUS = CpuSet([2, 3])
QUIET = Noise(seconds=10, ticks=0, interrupts={}, ipis=0, other=0, waited_ns=0, involuntary=0, cpus=CPUS)


def so_far(changes: Files | None = None, cpus: CpuSet = CPUS) -> Noise:
    noise = noise_so_far(facts(changes), cpus, ())
    assert isinstance(noise, Noise)
    return noise


def with_interrupts(title: str, *counts: int) -> Noise:
    """Noise of a device on the CPUs 2 and 3."""
    by_cpu = {cpu: count for cpu, count in zip(CPUS, counts, strict=True) if count}
    return replace(QUIET, interrupts={title: sum(counts)}, interrupts_by_cpu={title: by_cpu})


def with_ticks(*counts: int) -> Noise:
    by_cpu = {cpu: count for cpu, count in zip(CPUS, counts, strict=True) if count}
    return replace(QUIET, ticks=sum(counts), ticks_by_cpu=by_cpu)


def test_counts_since_the_boot_by_kind() -> None:
    noise = so_far()
    assert (noise.seconds, noise.ticks, noise.ipis, noise.other) == (100.0, 200, 6 + 6 + 75 + 76, 3)
    assert noise.interrupts == {}
    assert noise.ticks_by_cpu == {2: 100, 3: 100}


def test_interrupts_are_counted_by_device_and_cpu() -> None:
    noise = so_far(cpus=CpuSet([0, 1]))
    assert noise.interrupts == {"ttyS0 (IRQ 4)": 49, "virtio0-input.0 (IRQ 45)": 700}
    assert noise.interrupts_by_cpu == {"ttyS0 (IRQ 4)": {1: 49}, "virtio0-input.0 (IRQ 45)": {0: 700}}


def test_offline_cpus_are_not_counted() -> None:
    assert so_far(cpus=CpuSet([3, 4])).cpus == CpuSet([3])


def test_involuntary_switches_are_those_of_the_owners_tasks() -> None:
    noise = noise_so_far(facts(), CPUS, (task(2, involuntary=3), task(3, involuntary=4)))
    assert isinstance(noise, Noise)
    assert noise.involuntary == 7


def test_what_could_not_be_read_is_none() -> None:
    noise = noise_so_far(facts(tasks=Unread("proc", "denied")), CPUS, ())
    assert isinstance(noise, Noise)
    assert (noise.involuntary, noise.waited_ns) == (None, None)


def test_waiting_is_that_for_these_cpus() -> None:
    lines = [f"cpu{cpu} 0 0 0 0 0 0 100 {waited} 5" for cpu, waited in ((0, 900), (2, 30), (3, 4))]
    noise = so_far({"proc/schedstat": "version 17\ntimestamp 1\n" + "\n".join(lines) + "\n"})
    assert noise.waited_ns == 34


@pytest.mark.parametrize("path", ["proc/interrupts", "proc/uptime"])
def test_noise_needs_counters_and_their_age(path: str) -> None:
    assert noise_so_far(facts({path: None}), CPUS, ()) == Unread(path)


def test_noise_between_two_readings_is_the_difference() -> None:
    added = noise_between(so_far(), so_far(LATER))
    assert (added.seconds, added.ticks, added.ipis, added.other, added.interrupts) == (10.0, 10, 0, 0, {})
    assert added.ticks_by_cpu == {2: 10}


def test_counter_that_went_down_has_started_again() -> None:
    before, after = with_interrupts("eth0 (IRQ 9)", 100, 5), with_interrupts("eth0 (IRQ 9)", 7, 6)
    assert noise_between(before, after).interrupts_by_cpu == {"eth0 (IRQ 9)": {2: 7, 3: 1}}


def test_cpu_that_was_offline_in_one_reading_does_not_count() -> None:
    before = replace(with_ticks(0, 5), cpus=CpuSet([3]))
    added = noise_between(before, with_ticks(900, 8))
    assert (added.cpus, added.ticks_by_cpu) == (CpuSet([3]), {3: 3})


def test_switches_of_ended_tasks_are_never_negative() -> None:
    assert noise_between(replace(QUIET, involuntary=9), replace(QUIET, involuntary=4)).involuntary == 0


@pytest.mark.parametrize(("before", "after"), [(None, 5), (5, None)])
def test_unknown_counts_stay_unknown(before: int | None, after: int | None) -> None:
    added = noise_between(
        replace(QUIET, waited_ns=before, involuntary=before), replace(QUIET, waited_ns=after, involuntary=after)
    )
    assert (added.waited_ns, added.involuntary) == (None, None)


@pytest.mark.parametrize(
    "noise",
    [
        QUIET,
        replace(with_ticks(3, 4), waited_ns=None, involuntary=None),
        with_interrupts("eth0-rx-3 (IRQ 45)", 1, 2),
        replace(QUIET, ipis=5, other=6),
    ],
)
def test_noise_survives_json(noise: Noise) -> None:
    assert Noise.from_document(json.loads(json.dumps(noise.document()))) == noise


@pytest.mark.parametrize(
    "change", [{"ticks": None}, {"cpus": 7}, {"cpus": "x"}, {"interrupts": []}, {"waited_ns": "1"}]
)
def test_other_documents_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Noise.from_document({**QUIET.document(), **change})


def test_rate_of_no_time_is_zero() -> None:
    assert replace(QUIET, seconds=0).per_second(5) == 0
    assert QUIET.per_second(5) == 0.5


@pytest.mark.parametrize(
    "noise",
    [
        QUIET,
        with_ticks(100, 100),
        with_interrupts("eth0 (IRQ 9)", 2, 0),
        replace(QUIET, ipis=20_000, waited_ns=20_000_000, involuntary=200, other=100),
        replace(with_ticks(9_999, 0), seconds=0),
        with_interrupts("vfio-msix[0](0000:03:00.0) (IRQ 9)", 5_000, 0),
        with_interrupts("nvme0q3 (IRQ 9)", 5_000, 0),
    ],
)
def test_quiet_cpus_have_no_culprit(noise: Noise) -> None:
    assert culprit(noise, CPUS, facts()) is None


@pytest.mark.parametrize(
    ("noise", "seen", "remedy"),
    [
        (
            with_ticks(2_500, 2_500),
            "timer ticks: 250 a second on CPUs 2-3",
            "add nohz_full=2-3 to the kernel line, then reboot",
        ),
        (
            with_interrupts("eth0-rx-3 (IRQ 45)", 0, 120),
            "12 interrupts a second of eth0-rx-3 (IRQ 45) on CPU 3",
            "echo 0-1 | sudo tee /proc/irq/45/smp_affinity_list",
        ),
        (
            with_interrupts("IRQ 45", 120, 0),
            "12 interrupts a second of IRQ 45 on CPU 2",
            "echo 0-1 | sudo tee /proc/irq/45/smp_affinity_list",
        ),
        (
            replace(QUIET, waited_ns=5_000_000_000),
            "threads waited 500 ms in each second for CPUs 2-3",
            "pin each thread to its own CPU",
        ),
        (
            replace(QUIET, involuntary=500),
            "50 times a second another thread took over on CPUs 2-3",
            "pin each thread to its own CPU",
        ),
        (
            replace(QUIET, ipis=30_000),
            "3,000 interrupts a second from other CPUs on CPUs 2-3",
            "keep the owner's other threads from mapping and unmapping memory, and from waking threads on these CPUs",
        ),
    ],
)
def test_culprit_has_its_rate_and_remedy(noise: Noise, seen: str, remedy: str) -> None:
    assert culprit(noise, CPUS, facts({f"{CPU}/nohz_full": "(null)\n", "proc/cmdline": "isolcpus=2-3\n"})) == (
        seen,
        remedy,
    )


def test_ticks_under_nohz_full_come_from_threads_that_take_turns() -> None:
    found = culprit(with_ticks(2_500, 0), CPUS, facts())
    assert found is not None
    assert found[1] == "let only one thread run on each CPU: the tick stays on while several take turns"


def test_culprit_costs_the_owner_most() -> None:
    waiting = replace(with_ticks(2_500, 2_500), waited_ns=5_000_000_000)
    found = culprit(waiting, CPUS, facts())
    assert found is not None
    assert found[0].startswith("threads waited")


def test_named_cpus_are_those_with_the_noise() -> None:
    ticking = INTERRUPTS.replace("100        100   Local", "100       2600   Local")
    noise = noise_between(so_far(), so_far({**LATER, "proc/interrupts": ticking}))
    found = culprit(noise, CPUS, facts())
    assert found is not None
    assert found[0] == "timer ticks: 250 a second on CPU 3"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("seconds", float("inf")),
        ("seconds", float("nan")),
        ("seconds", -1),
        ("seconds", "1"),
        ("ticks", {"1": 1 << 80}),
        ("ticks", {"1": -1}),
        ("ticks", {"1": float("inf")}),
        ("interrupts", {"eth0": {"1": 10**400}}),
        ("interrupts", {"eth0": 1}),
        ("ipis", float("inf")),
        ("other", 10**400),
        ("waited_ns", 10**400),
        ("involuntary", -1),
    ],
)
def test_a_document_with_numbers_that_no_kernel_counts_is_refused(member: str, value: object) -> None:
    document = Noise(1.0, 0, {}, 0, 0, None, None).document()
    Noise.from_document(document)
    with pytest.raises(ValueError, match="not one of noise"):
        Noise.from_document({**document, member: value})
