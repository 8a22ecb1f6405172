# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Each value of each option gives its own placement."""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from tests.functional.harness import Daemon, Json
from tools.synthetic import Shape

from .asking import CACHES_REFUSE, NUMA_REFUSES, THREADS_REFUSE, Request, Value, ask, begin, cores, numa, outcome
from .hosts import CACHES, CHAIN, CLUSTERS, CORES, EIGHT, FOUR, NODES, SYSTEM, WIDE_NODES, write_core_types
from .option_values import VALUES


class Case(NamedTuple):
    """A request while services hold CPUs, and its outcome by each value of an option."""

    option: str
    shape: Shape
    held: dict[str, str]
    request: Request
    expected: dict[Value, str]
    also: Json = {}  # noqa: RUF012  # never changed


OTHER_HALVES: Final = {"other": "2-3,6-7,10-11,14-15"}

CASES: Final = [
    # Six CPUs would fit an empty node; four are free in each.
    Case("numa-policy", EIGHT, OTHER_HALVES, cores(6), {
        "best-effort": "0-1,4,8-9,12", "none": "0-1,4,8-9,12",
        "restricted": NUMA_REFUSES, "single-numa-node": NUMA_REFUSES}),
    # Only the second node has four.
    Case("numa-policy", CLUSTERS, {"other": "0"}, cores(4), {
        "best-effort": "4-7", "none": "1-4", "restricted": "4-7", "single-numa-node": "4-7"}),
    # No node ever has five.
    Case("numa-policy", CLUSTERS, {"other": "0"}, cores(5), {
        "best-effort": "1-5", "none": "1-5", "restricted": "1-5", "single-numa-node": NUMA_REFUSES}),
    # The first node has four left, the second all six.
    Case("numa-allocation-strategy", WIDE_NODES, {"other": "0-1"}, cores(2), {
        "packed": "2-3", "spread": "6-7", "distribute": "2-3"}),
    Case("numa-allocation-strategy", WIDE_NODES, {}, cores(8), {
        "packed": "0-7", "spread": "0-7", "distribute": "0-3,6-9"}),
    Case("prefer-closest-numa-nodes", CHAIN, {}, cores(4), {True: "0-1,4-5", False: "0-3"}),
    Case("uncore-cache-alignment", CACHES, {"other": "0"}, cores(4), {
        "prefer": "4-7", "none": "1-4", "require": "4-7"}),
    Case("uncore-cache-alignment", CACHES, {"other": "0,4"}, cores(4), {
        "prefer": "1-3,5", "none": "1-3,5", "require": CACHES_REFUSE}),
    Case("cpu-thread-policy", CORES, {"other": "0"}, cores(1), {
        "prefer": "1", "share": "4", "require": THREADS_REFUSE, "isolate": "1 + 5"}),
    Case("cpu-thread-policy", CORES, {"other": "0"}, cores(2), {
        "prefer": "1,5", "share": "1,4", "require": "1,5", "isolate": "1-2 + 5-6"}),
    Case("cpu-distribution", EIGHT, {}, cores(4), {"packed": "0-1,8-9", "cores": "0-3", "caches": "0,2,8,10"}),
    Case("prefer-core-type", FOUR, {}, cores(2), {"none": "0-1", "performance": "1-2", "efficiency": "0,3"}),
    Case("numa-reclaim", NODES, {"other": "0-1"}, numa(0, 2), {"if-needed": "2-3", "always": "0-1", "never": "2-3"}),
    Case("numa-reclaim", NODES, {"other": "0-1"}, numa(0, 3), {
        "if-needed": "0,2-3", "always": "0-2", "never": "refused"}),
    Case("resize-policy", WIDE_NODES, {"svc": "3"}, cores(2), {"in-place": "0,3", "reallocate": "0-1"}),
    Case("resize-policy", WIDE_NODES, {"svc": "3"}, cores(1), {"in-place": "3", "reallocate": "0"}),
    Case("resize-policy", WIDE_NODES, {"svc": "3"}, numa(0, 3), {"in-place": "0-1,3", "reallocate": "0-2"}),
    Case("default-allocation-percent", CACHES, {}, cores(0), {80: "0-5", 50: "0-3", 100: "0-7", 1: "0"}),
    Case("large-system-threshold", CACHES, {}, cores(0), {100: "0-5", 8: "0-5", 7: "0-4"},
         {"large-system-reserved-cpus": 3}),
    Case("large-system-reserved-cpus", CACHES, {}, cores(0), {16: "0", 3: "0-4", 0: "0-7"},
         {"large-system-threshold": 7}),
    Case("reserved-cpus", CORES, {}, cores(2), {"": "0,4", "0": "1,5", "0-3": "4-5"}),
    Case("cpu-pool", SYSTEM, {}, cores(1, pool="general"), {
        "": "refused", "0,4": "0", "4": "4"}),
]  # fmt: skip


def test_every_value_differs_in_some_case() -> None:
    for option, values in VALUES.items():
        answers = [tuple(case.expected[value] for case in CASES if case.option == option) for value in values]
        assert len(set(answers)) == len(values), f"two values of {option} give the same answers everywhere"


SHAPES: Final = {
    "eight": EIGHT, "cores": CORES, "clusters": CLUSTERS, "caches": CACHES, "nodes": NODES, "wide nodes": WIDE_NODES,
    "chain": CHAIN, "four": FOUR, "system": SYSTEM,
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_each_value_places_cpus_as_worked_out(shape: Shape) -> None:
    """Each value is tried after a SIGHUP, first in a dry run; the last one also after a restart."""
    with Daemon(shape) as daemon:
        write_core_types(daemon)
        daemon.start()
        restarted: set[str] = set()
        cases = [case for case in CASES if case.shape is shape]
        assert cases
        for case in cases:
            for value, expected in case.expected.items():
                settings = case.also | {case.option: value}
                daemon.reload({"cpu-pool": "0,4"} if shape is SYSTEM else {})
                begin(daemon, case.held)
                daemon.reload(settings)
                assert outcome(ask(daemon, case.request, dry_run=True)) == expected, settings
                if value == list(case.expected)[-1] and case.option not in restarted:
                    restarted.add(case.option)
                    daemon.restart()
                assert outcome(ask(daemon, case.request)) == expected, settings


def test_new_claims_get_the_default_preemption_policy(daemon: Daemon) -> None:
    for value in ("non-preemptive", "legacy"):
        daemon.reload({"default-preemption-policy": value})
        assert ask(daemon, cores(2, service_name=value))["preemption_policy"] == value


def test_default_preemption_policy_protects_claims(daemon: Daemon) -> None:
    for value in ("non-preemptive", "legacy"):
        daemon.reload({"default-preemption-policy": value})
        daemon.cores(value, 2)
    protected = daemon.claims()["non-preemptive"]
    daemon.numa("taker", 0, 6)
    assert daemon.claims() == {"non-preemptive": protected, "taker": {0, 1, 2, 3, 8, 9, 10, 11} - protected}


def test_reserved_hugepages_are_not_granted(daemon: Daemon) -> None:
    for reserved, free in (("", 64), ("0:2048:60", 4), ("0:2M:60", 4), ("1:2M:60", 64)):
        daemon.reload({"reserved-hugepages": reserved})
        assert daemon.free_pages(0, 2048) == free
        daemon.pages("a", 0, 2048, free)
        daemon.pages("a", 0, 2048, -1)
        assert f"only has {free} free hugepages" in daemon.refused(
            "allocate_hugepages", service_name="a", node_id=0, size_kb=2048, hugepages_requested=free + 1
        )
