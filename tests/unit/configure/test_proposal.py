"""Settings are refused when they do not fit the machine or would orphan claims, and only for what they change."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.configure.proposal import NotAcceptable, Surroundings, check
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import Hugepages, Machine
from epa_orchestrator.names import PoolName
from tests.machines import made_up
from tools.synthetic import Shape

#: Two nodes of four cores with one thread each: node 0 has CPUs 0-3, node 1 has CPUs 4-7.
MACHINE = made_up(Shape(packages=2, cores_per_l3=4, isolated="2-3,6-7"))
HUGEPAGES = {0: (Hugepages(2048, 16, 16), Hugepages(1048576, 2, 2)), 1: (Hugepages(2048, 8, 8),)}


def claim(service: str, cpus: str, pool: PoolName = "isolated") -> Claim:
    return Claim(service, pool, CpuSet.parse(cpus), EMPTY, "legacy")


#: nova has CPUs 2 and 6, ceph has CPU 0 of the pool general (0-1 and 4 when it was claimed), ovs has hugepages.
LEDGER = Ledger.of(
    [claim("nova", "2,6"), claim("ovs", "7"), claim("ceph", "0", "general")],
    {"ovs": {(0, 2048): 4}, "dpdk": {(0, 2048): 6, (1, 2048): 8}},
)


def around(
    machine: Machine | None = MACHINE, ledger: Ledger | None = LEDGER, problem: str = "it is not there"
) -> Surroundings:
    return Surroundings(machine, HUGEPAGES if machine else {}, ledger, problem)


def propose(current: dict[str, Any], proposed: dict[str, Any], surroundings: Surroundings | None = None) -> None:
    check(parse_settings(current), parse_settings(proposed), surroundings or around())


def refusal(current: dict[str, Any], proposed: dict[str, Any], surroundings: Surroundings | None = None) -> str:
    """The sentence that refuses the change."""
    with pytest.raises(NotAcceptable) as caught:
        propose(current, proposed, surroundings)
    return str(caught.value)


POOL = {"cpu-pool": "0-1,4"}


@pytest.mark.parametrize(
    ("current", "proposed"),
    [
        ({}, {}),
        ({}, {"cpu-pool": "0-1,4-5"}),
        ({}, {"reserved-cpus": "3"}),
        ({}, {"reserved-cpus": "0-1,4-5"}),
        (POOL, {"cpu-pool": "0"}),
        (POOL, {"cpu-pool": "0,5"}),
        (POOL, POOL | {"reserved-cpus": "1,3"}),
        ({"reserved-cpus": "3"}, {}),
        (POOL | {"reserved-cpus": "1"}, POOL),
        (POOL | {"reserved-cpus": "1"}, {"cpu-pool": "0,4"}),
        ({}, {"reserved-hugepages": "0:2048:6"}),
        ({}, {"reserved-hugepages": "0:1048576:2"}),
        ({}, {"reserved-hugepages": "1:2048:0"}),
        ({"reserved-hugepages": "0:2048:6"}, {}),
        ({}, {"numa-reclaim": "never", "log-level": "debug"}),
    ],
)
def test_what_fits_the_machine_and_takes_nothing_from_anybody_is_accepted(
    current: dict[str, Any], proposed: dict[str, Any]
) -> None:
    propose(current, proposed)


# --- the machine ---


@pytest.mark.parametrize(
    ("proposed", "sentence"),
    [
        (
            {"cpu-pool": "0-1,8-9"},
            "cpu-pool=0-1,8-9 names CPUs 8-9, which this machine does not have: choose out of 0-7",
        ),
        (
            {"reserved-cpus": "7-8"},
            "reserved-cpus=7-8 names CPUs 8, which this machine does not have: choose out of 0-7",
        ),
        (
            {"cpu-pool": "0-2,7"},
            "cpu-pool=0-2,7 overlaps the isolated CPUs 2,7: take them out of cpu-pool",
        ),
        (
            {"reserved-hugepages": "0:4096:1"},
            (
                "reserved-hugepages=0:4096:1: NUMA node 0 shows no hugepages of 4096 KiB; choose another node or size,"
                " and in a snap see that its plugs are connected"
            ),
        ),
        (
            {"reserved-hugepages": "2:2048:1"},
            (
                "reserved-hugepages=2:2048:1: NUMA node 2 shows no hugepages of 2048 KiB; choose another node or size,"
                " and in a snap see that its plugs are connected"
            ),
        ),
        (
            {"reserved-hugepages": "0:2048:1,0:1048576:3"},
            (
                "reserved-hugepages=0:1048576:3 reserves more than the 2 hugepages of 1048576 KiB that NUMA node 0 has:"
                " reserve fewer"
            ),
        ),
    ],
)
def test_what_the_machine_does_not_have_is_refused(proposed: dict[str, Any], sentence: str) -> None:
    assert refusal({}, proposed) == sentence


def test_an_offline_cpu_may_be_named() -> None:
    machine = made_up(Shape(packages=2, cores_per_l3=4, isolated="2-3", offline="5"))
    propose({}, {"cpu-pool": "0,5", "reserved-cpus": "1"}, around(machine))


def test_all_pages_of_a_node_may_be_reserved_when_none_is_in_use() -> None:
    propose({}, {"reserved-hugepages": "0:2048:16"}, around(ledger=Ledger()))
    assert refusal({}, {"reserved-hugepages": "0:2048:17"}, around(ledger=Ledger())).startswith(
        "reserved-hugepages=0:2048:17 reserves more than the 16 hugepages"
    )


@pytest.mark.parametrize(
    "kept",
    [
        {"cpu-pool": "0,64"},
        {"cpu-pool": "0,2"},
        {"reserved-cpus": "64"},
        {"reserved-hugepages": "5:2048:99"},
    ],
)
def test_what_was_so_before_is_not_judged_again(kept: dict[str, Any]) -> None:
    """The machine may have come back with other CPUs, pages or isolation."""
    propose(kept, kept | {"numa-reclaim": "never"})
    propose(kept, {}, around(ledger=Ledger()))


@pytest.mark.parametrize(
    ("proposed", "option"),
    [
        ({"cpu-pool": "0"}, "cpu-pool"),
        ({"reserved-cpus": "1"}, "reserved-cpus"),
        ({"reserved-hugepages": "0:2048:1"}, "reserved-hugepages"),
    ],
)
def test_without_a_machine_nothing_that_needs_it_is_accepted(proposed: dict[str, Any], option: str) -> None:
    unreadable = around(machine=None, problem="sysfs shows no CPUs")
    assert refusal({}, proposed, unreadable) == f"{option} cannot be checked against the machine: sysfs shows no CPUs"


@pytest.mark.parametrize(("current", "proposed"), [({}, {"numa-reclaim": "never"}), (POOL, POOL), ({}, {})])
def test_without_a_machine_all_else_is_accepted(current: dict[str, Any], proposed: dict[str, Any]) -> None:
    propose(current, proposed, around(machine=None))


def test_without_a_machine_options_can_be_reset() -> None:
    current = POOL | {"reserved-cpus": "3", "reserved-hugepages": "0:2048:1"}
    propose(current, {}, around(machine=None, ledger=Ledger()))


# --- claims ---

RELEASE = "; release them first, or choose other CPUs"
WOULD_TAKE = "would take CPUs out of the pool that are in use: "


@pytest.mark.parametrize(
    ("current", "proposed", "sentence"),
    [
        ({}, {"reserved-cpus": "2"}, f"reserved-cpus=2 {WOULD_TAKE}2 (held by nova){RELEASE}"),
        (
            {},
            {"reserved-cpus": "2-3,6-7"},
            f"reserved-cpus=2-3,6-7 {WOULD_TAKE}2,6 (held by nova), 7 (held by ovs){RELEASE}",
        ),
        (POOL, {"cpu-pool": "1,4"}, f"cpu-pool=1,4 {WOULD_TAKE}0 (held by ceph){RELEASE}"),
        (POOL, {}, f"cpu-pool=empty {WOULD_TAKE}0 (held by ceph){RELEASE}"),
        (POOL, POOL | {"reserved-cpus": "0"}, f"reserved-cpus=0 {WOULD_TAKE}0 (held by ceph){RELEASE}"),
        (
            POOL,
            {"cpu-pool": "4", "reserved-cpus": "6"},
            f"cpu-pool=4 and reserved-cpus=6 {WOULD_TAKE}0 (held by ceph), 6 (held by nova){RELEASE}",
        ),
        (
            {"reserved-cpus": "3"},
            {"reserved-cpus": "3,7"},
            f"reserved-cpus=3,7 {WOULD_TAKE}7 (held by ovs){RELEASE}",
        ),
    ],
)
def test_cpus_in_use_are_not_taken_out_of_their_pool(
    current: dict[str, Any], proposed: dict[str, Any], sentence: str
) -> None:
    assert refusal(current, proposed) == sentence


def test_claims_are_safe_even_where_the_kernel_has_stopped_isolating_their_cpus() -> None:
    machine = made_up(Shape(packages=2, cores_per_l3=4))
    assert "2 (held by nova)" in refusal({}, {"reserved-cpus": "2"}, around(machine))


def test_a_claim_in_the_other_pool_does_not_hinder() -> None:
    """CPU 2 is nova's in the pool isolated; that it leaves the pool general takes nothing from nova."""
    propose({"cpu-pool": "0,2"}, {"cpu-pool": "0"})


def test_a_claim_that_was_outside_its_pool_already_does_not_hinder() -> None:
    propose({"reserved-cpus": "2"}, {"reserved-cpus": "2-3"})
    propose({"cpu-pool": "1,4"}, {"cpu-pool": "4"})


UNKNOWN = around(ledger=None, problem="the state database is empty")


@pytest.mark.parametrize(
    ("current", "proposed"),
    [({}, {"reserved-cpus": "3"}), (POOL, {"cpu-pool": "0-1"}), (POOL, {}), (POOL, POOL | {"reserved-cpus": "4"})],
)
def test_without_the_claims_no_cpu_leaves_a_pool(current: dict[str, Any], proposed: dict[str, Any]) -> None:
    assert refusal(current, proposed, UNKNOWN) == (
        "CPUs cannot be taken out of a pool while the claims are not known: the state database is empty"
    )


def test_without_the_claims_no_hugepages_are_reserved() -> None:
    assert refusal({}, {"reserved-hugepages": "0:2048:1"}, UNKNOWN) == (
        "Hugepages cannot be reserved while the claims are not known: the state database is empty"
    )


@pytest.mark.parametrize(
    ("current", "proposed"),
    [
        ({}, {"numa-reclaim": "never"}),
        ({}, POOL),
        (POOL, {"cpu-pool": "0-1,4-5"}),
        ({"reserved-cpus": "3"}, {}),
        ({"reserved-hugepages": "0:2048:4"}, {"reserved-hugepages": "0:2048:3"}),
    ],
)
def test_without_the_claims_what_takes_nothing_away_is_accepted(
    current: dict[str, Any], proposed: dict[str, Any]
) -> None:
    propose(current, proposed, UNKNOWN)


# --- hugepage records ---


@pytest.mark.parametrize(
    ("current", "proposed", "sentence"),
    [
        # 16 pages, of which ovs has 4 and dpdk 6: 6 may be reserved.
        (
            {},
            {"reserved-hugepages": "0:2048:7"},
            (
                "reserved-hugepages=0:2048:7 leaves 9 of 16 pages, but 10 are in use (6 by dpdk, 4 by ovs): release"
                " some first, or reserve fewer"
            ),
        ),
        (
            {"reserved-hugepages": "0:2048:6"},
            {"reserved-hugepages": "0:2048:8"},
            (
                "reserved-hugepages=0:2048:8 leaves 8 of 16 pages, but 10 are in use (6 by dpdk, 4 by ovs): release"
                " some first, or reserve fewer"
            ),
        ),
        (
            {},
            {"reserved-hugepages": "0:1048576:1,1:2048:1"},
            (
                "reserved-hugepages=1:2048:1 leaves 7 of 8 pages, but 8 are in use (8 by dpdk): release some first, or"
                " reserve fewer"
            ),
        ),
    ],
)
def test_pages_in_use_are_not_reserved(current: dict[str, Any], proposed: dict[str, Any], sentence: str) -> None:
    assert refusal(current, proposed) == sentence


def test_reserving_fewer_pages_is_accepted_even_where_more_are_in_use_than_that_leaves() -> None:
    propose({"reserved-hugepages": "0:2048:9"}, {"reserved-hugepages": "0:2048:8"})


def test_pages_that_were_reserved_before_do_not_hinder_others() -> None:
    propose({"reserved-hugepages": "1:2048:5"}, {"reserved-hugepages": "1:2048:5,0:2048:2"})
