# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolation figures: checks by result, and the noise of claims, of a bounded number of services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epa_orchestrator.metrics.catalogue import MOST_SERVICES
from epa_orchestrator.metrics.isolation_figures import isolation_figures
from epa_orchestrator.protocol.isolation import CheckResult, ClaimIsolation, ClaimOwner, NoiseCounts, NoisyThread

OWNER = ClaimOwner(snap=None, unit=None, comm=None, pid=None, asked_at=None, cgroups=[])
STRANGER = NoisyThread(pid=7, tid=7, name="x", cpu=2, cgroup=None)


@dataclass
class Audit:
    read_at: float
    checks: list[CheckResult]
    claims: dict[str, ClaimIsolation]


def noise(ticks: int, waited: float | None = 0.5, switches: int | None = 4) -> NoiseCounts:
    return NoiseCounts(
        seconds=60.0,
        ticks=ticks,
        interrupts={"eth0 (IRQ 45)": 5, "(other)": 2},
        ipis=3,
        other=1,
        waited_seconds=waited,
        involuntary_switches=switches,
    )


def claim(service: str, cpus: str, counts: NoiseCounts | None, **more: Any) -> ClaimIsolation:
    fields: dict[str, Any] = {"strangers": [], "outside": [], "stacked": [], **more}
    return ClaimIsolation(
        service_name=service,
        pool="isolated",
        allocated_cores=cpus,
        owner=OWNER,
        since=5.0,
        noise=counts,
        now=None,
        culprit=None,
        remedy=None,
        problem=None,
        **fields,
    )


def figures(*claims: ClaimIsolation, checks: tuple[CheckResult, ...] = ()) -> dict[tuple[str, ...], float]:
    audit = Audit(66.5, [*checks], {each.service_name: each for each in claims})
    return {(figure.metric.shown, *figure.labels): figure.value for figure in isolation_figures(audit)}


def test_before_the_first_audit_there_are_no_figures() -> None:
    assert list(isolation_figures(None)) == []


def test_each_check_has_one_result() -> None:
    check = CheckResult(id="B3", result="fail", seen="a", why="b", remedy="c", since="")
    assert figures(checks=(check,)) == {
        ("epa_isolation_reading_timestamp_seconds",): 66.5,
        ("epa_isolation_check", "B3", "fail"): 1,
        ("epa_isolation_check", "B3", "warn"): 0,
        ("epa_isolation_check", "B3", "not-checked"): 0,
        ("epa_isolation_check", "B3", "pass"): 0,
    }


def test_the_noise_of_a_claim_is_counted_by_kind() -> None:
    found = figures(claim("ovs", "2-3", noise(9), strangers=[STRANGER], more_threads={"strangers": 2}))
    del found[("epa_isolation_reading_timestamp_seconds",)]
    of_claim = ("isolated", "ovs")
    assert found == {
        ("epa_claim_interruptions_total", *of_claim, "tick"): 9,
        ("epa_claim_interruptions_total", *of_claim, "device"): 7,
        ("epa_claim_interruptions_total", *of_claim, "ipi"): 3,
        ("epa_claim_interruptions_total", *of_claim, "other"): 1,
        ("epa_claim_wait_seconds_total", *of_claim): 0.5,
        ("epa_claim_involuntary_switches_total", *of_claim): 4,
        ("epa_claim_strangers", *of_claim): 3,
        ("epa_claim_stacked_threads", *of_claim): 0,
    }


def test_what_is_not_known_has_no_figure() -> None:
    names = {name for name, *_ in figures(claim("ovs", "2", None), claim("nova", "3", noise(1, None, None)))}
    assert names == {
        "epa_isolation_reading_timestamp_seconds",
        "epa_claim_interruptions_total",
        "epa_claim_strangers",
        "epa_claim_stacked_threads",
    }


def test_only_the_largest_services_have_figures_of_their_own() -> None:
    """The others are the smallest ones, however noisy they are: so no series ends because a claim gets quiet."""
    large = [claim(f"large-{number}", f"{number * 2}-{number * 2 + 1}", noise(1)) for number in range(MOST_SERVICES)]
    found = figures(*large, claim("small", "900", noise(70)), claim("smaller", "901", noise(7)))
    ticks = {labels[2]: value for labels, value in found.items() if labels[-1] == "tick"}
    assert ticks == {f"large-{number}": 1 for number in range(MOST_SERVICES)} | {"(other)": 77}
