"""A changed setting moves no claim; claims that it would place otherwise are listed."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import pytest

from tests.functional.harness import Daemon, Json, wait_until
from tools.synthetic import Shape

from .asking import Request, cores, numa, tables
from .hosts import CHAIN, EIGHT, FOUR, WIDE_NODES, write_core_types
from .option_values import VALUES

CHANGES: Final = [
    *({option: value} for option, values in VALUES.items() for value in values),
    {"default-allocation-percent": 10}, {"large-system-threshold": 1}, {"large-system-reserved-cpus": 0},
    {"default-preemption-policy": "non-preemptive"}, {"reserved-hugepages": "0:2048:4"}, {"cpu-pool": ""},
    {"reserved-cpus": "11"},
]  # fmt: skip


#: The daemon reviews a few claims within this time (s) after the last change.
REVIEWED_WITHIN: Final = 0.5


def wait_for_outdated(daemon: Daemon, expected: list[str]) -> None:
    """Wait until a listing names exactly these outdated placements; none must still be none after a review."""

    def listed() -> list[str]:
        return daemon.ok("list_allocations")["outdated_placements"]

    wait_until(lambda: listed() == expected, f"the outdated placements are {expected}")
    if not expected:
        time.sleep(REVIEWED_WITHIN)
        assert listed() == []


def test_no_setting_moves_a_claim(daemon: Daemon) -> None:
    daemon.cores("a", 3)
    daemon.numa("b", 1, 2)
    daemon.cores("c", 1, cpu_thread_policy="isolate")
    daemon.cores("d", 4, near=1)
    before = daemon.snapshot()[0]["allocations"], tables(daemon)
    for change in CHANGES:
        daemon.reload(change)
        assert (daemon.snapshot()[0]["allocations"], tables(daemon)) == before
        daemon.claims()
        if "resize-policy" not in change:
            for service, count in (("a", 3), ("d", 4)):
                held = daemon.claims()[service]
                assert daemon.cores(service, count) == held, f"a repeated request moves nothing ({change})"
            assert daemon.numa("b", 1, 2) == daemon.claims()["b"]
            assert tables(daemon)["event"] == before[1]["event"]
    daemon.reload({})
    wait_for_outdated(daemon, [])


class Outdated(NamedTuple):
    """Claims made in this order by default, a change, and the services whose CPUs it would choose otherwise."""

    shape: Shape
    claims: dict[str, Request]
    change: Json
    expected: list[str]


OUTDATED: Final = [
    # A claim of one CPU stays the best; `cores` would put two CPUs on two cores.
    Outdated(EIGHT, {"one": cores(1), "pair": cores(2), "node": numa(1, 2)}, {"cpu-distribution": "cores"},
             ["node", "pair"]),
    Outdated(EIGHT, {"one": cores(1), "pair": cores(2)}, {"cpu-thread-policy": "require"}, ["one"]),
    Outdated(EIGHT, {"one": cores(1), "pair": cores(2)}, {"cpu-thread-policy": "isolate"}, ["pair"]),
    Outdated(EIGHT, {"four": cores(4), "pair": cores(2)}, {"cpu-distribution": "caches"}, ["four"]),
    Outdated(EIGHT, {"nine": cores(9), "pair": cores(2)}, {"numa-policy": "single-numa-node"}, ["nine"]),
    # The daemon judges each claim by itself.
    Outdated(WIDE_NODES, {"a": cores(2), "b": cores(2)}, {"numa-allocation-strategy": "spread"}, ["a", "b"]),
    Outdated(CHAIN, {"four": cores(4)}, {"prefer-closest-numa-nodes": False}, []),
    # CPU 0 is an efficiency core, CPU 1 a performance core; CPU 2 is a free performance core.
    Outdated(FOUR, {"a": cores(1), "b": cores(1)}, {"prefer-core-type": "performance"}, ["a"]),
    Outdated(EIGHT, {"a": cores(3)}, {"default-allocation-percent": 5, "large-system-threshold": 1}, []),
    Outdated(EIGHT, {"a": cores(3)}, {"resize-policy": "reallocate", "numa-reclaim": "never"}, []),
    Outdated(EIGHT, {"a": cores(4, cpu_thread_policy="share")}, {"cpu-thread-policy": "prefer"}, []),
]  # fmt: skip


@pytest.mark.parametrize("shape", [EIGHT, WIDE_NODES, CHAIN, FOUR], ids=["eight", "wide nodes", "chain", "four"])
def test_listing_names_outdated_placements(shape: Shape) -> None:
    with Daemon(shape) as daemon:
        write_core_types(daemon)
        daemon.start()
        cases = [case for case in OUTDATED if case.shape is shape]
        assert cases
        for case in cases:
            daemon.reload({})
            daemon.release_everything()
            for service, (action, fields) in case.claims.items():
                daemon.ok(action, service_name=service, **fields)
            before = daemon.listing()
            daemon.reload(case.change)
            wait_for_outdated(daemon, case.expected)
            assert daemon.listing() == before, case
            if case.expected:
                daemon.kill()
                daemon.start()
                wait_for_outdated(daemon, case.expected)
                assert daemon.listing() == before, case
                for service in case.expected:
                    daemon.cores(service, -1)
                assert daemon.ok("list_allocations")["outdated_placements"] == []


def test_outdated_placements_depend_on_free_cpus(daemon: Daemon) -> None:
    """The daemon compares with the CPUs that are free now, also after a restart."""
    daemon.cores("four", 4)
    daemon.cores("rest", 12)
    daemon.reload({"cpu-distribution": "cores"})
    wait_for_outdated(daemon, [])
    daemon.cores("rest", -1)
    wait_for_outdated(daemon, ["four"])
    daemon.restart()
    wait_for_outdated(daemon, ["four"])
