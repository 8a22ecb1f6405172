# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Changed settings are refused when they do not fit the machine, or take CPUs or pages from claims."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.allocation.usable_settings import usable_settings
from epa_orchestrator.configure.proposal import HostState, NotAcceptable, check_proposal
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.names import PoolName
from tests.machines import made_up
from tools.synthetic import Shape

#: Two NUMA nodes of four cores with one thread each: node 0 has CPUs 0-3, node 1 has CPUs 4-7.
MACHINE = made_up(Shape(packages=2, cores_per_l3=4, isolated="2-3,6-7"))
HUGEPAGES = {0: (Hugepages(2048, 16, 16), Hugepages(1048576, 2, 2)), 1: (Hugepages(2048, 8, 8),)}


def claim(service: str, cpus: str, pool: PoolName = "isolated") -> Claim:
    return Claim(service, pool, CpuSet.parse(cpus), EMPTY, "legacy")


#: nova has CPUs 2 and 6, ovs has CPU 7, ceph has CPU 0 of the general pool; ovs and dpdk have hugepages.
LEDGER = Ledger.of(
    [claim("nova", "2,6"), claim("ovs", "7"), claim("ceph", "0", "general")],
    {"ovs": {(0, 2048): 4}, "dpdk": {(0, 2048): 6, (1, 2048): 8}},
)


def host_state(
    machine: Machine | None = MACHINE, ledger: Ledger | None = LEDGER, problem: str = "it is not there"
) -> HostState:
    return HostState(machine, HUGEPAGES if machine else {}, ledger, problem)


def propose(current: dict[str, Any], proposed: dict[str, Any], host: HostState | None = None) -> None:
    check_proposal(usable_settings(current), parse_settings(proposed), host or host_state())


def refusal(current: dict[str, Any], proposed: dict[str, Any], host: HostState | None = None) -> str:
    """The sentence that refuses the change."""
    with pytest.raises(NotAcceptable) as caught:
        propose(current, proposed, host)
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
def test_settings_that_fit_are_accepted(current: dict[str, Any], proposed: dict[str, Any]) -> None:
    propose(current, proposed)


# --- the machine ---


@pytest.mark.parametrize(
    ("proposed", "sentence"),
    [
        (
            {"cpu-pool": "0-1,8-9"},
            "cpu-pool=0-1,8-9 names CPUs 8-9, which this machine does not have: choose from 0-7",
        ),
        (
            {"reserved-cpus": "7-8"},
            "reserved-cpus=7-8 names CPUs 8, which this machine does not have: choose from 0-7",
        ),
        (
            {"cpu-pool": "0-2,7"},
            "cpu-pool=0-2,7 overlaps the isolated CPUs 2,7: remove them from cpu-pool",
        ),
        (
            {"reserved-hugepages": "0:4096:1"},
            (
                "reserved-hugepages=0:4M:1: NUMA node 0 has no hugepages of 4M: choose another node or size;"
                " in a snap, check that its plugs are connected"
            ),
        ),
        (
            {"reserved-hugepages": "2:2048:1"},
            (
                "reserved-hugepages=2:2M:1: NUMA node 2 has no hugepages of 2M: choose another node or size;"
                " in a snap, check that its plugs are connected"
            ),
        ),
        (
            {"reserved-hugepages": "0:2048:1,0:1048576:3"},
            ("reserved-hugepages=0:1G:3 reserves more than the 2 hugepages of 1G that NUMA node 0 has: reserve fewer"),
        ),
    ],
)
def test_settings_that_do_not_fit_the_machine_are_refused(proposed: dict[str, Any], sentence: str) -> None:
    assert refusal({}, proposed) == sentence


def test_offline_cpu_is_accepted() -> None:
    machine = made_up(Shape(packages=2, cores_per_l3=4, isolated="2-3", offline="5"))
    propose({}, {"cpu-pool": "0,5", "reserved-cpus": "1"}, host_state(machine))


def test_all_unused_pages_of_a_node_may_be_reserved() -> None:
    propose({}, {"reserved-hugepages": "0:2048:16"}, host_state(ledger=Ledger()))
    assert refusal({}, {"reserved-hugepages": "0:2048:17"}, host_state(ledger=Ledger())).startswith(
        "reserved-hugepages=0:2M:17 reserves more than the 16 hugepages"
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
def test_unchanged_settings_are_not_judged_again(kept: dict[str, Any]) -> None:
    """The machine may have come back with other CPUs, pages or isolation."""
    propose(kept, kept | {"numa-reclaim": "never"})
    propose(kept, {}, host_state(ledger=Ledger()))


@pytest.mark.parametrize(
    "proposed", [{"cpu-pool": "0-1,2,64"}, {"reserved-cpus": "1,64"}, {"reserved-hugepages": "0:2048:1,7:4:9"}]
)
def test_options_are_not_judged_by_a_machine_that_cannot_be_read(proposed: dict[str, Any]) -> None:
    """A snap is configured before its plugs are connected. The daemon judges again."""
    propose({}, proposed, host_state(machine=None, problem="sysfs shows no CPUs"))


def test_hugepages_are_not_judged_by_a_node_that_cannot_be_read() -> None:
    propose({}, {"reserved-hugepages": "0:2048:999"}, HostState(MACHINE, {0: None}, LEDGER))


@pytest.mark.parametrize(("current", "proposed"), [({}, {"numa-reclaim": "never"}), (POOL, POOL), ({}, {})])
def test_other_options_are_accepted_without_a_machine(current: dict[str, Any], proposed: dict[str, Any]) -> None:
    propose(current, proposed, host_state(machine=None))


def test_claims_are_judged_without_a_machine() -> None:
    assert "2 (held by nova)" in refusal({}, {"reserved-cpus": "2"}, host_state(machine=None))


def test_options_can_be_reset_without_a_machine() -> None:
    current = POOL | {"reserved-cpus": "3", "reserved-hugepages": "0:2048:1"}
    propose(current, {}, host_state(machine=None, ledger=Ledger()))


# --- claims ---

RELEASE = "; release them first, or choose other CPUs"
WOULD_REMOVE = "would remove CPUs in use from their pool: "


@pytest.mark.parametrize(
    ("current", "proposed", "sentence"),
    [
        ({}, {"reserved-cpus": "2"}, f"reserved-cpus=2 {WOULD_REMOVE}2 (held by nova){RELEASE}"),
        (
            {},
            {"reserved-cpus": "2-3,6-7"},
            f"reserved-cpus=2-3,6-7 {WOULD_REMOVE}2,6 (held by nova), 7 (held by ovs){RELEASE}",
        ),
        (POOL, {"cpu-pool": "1,4"}, f"cpu-pool=1,4 {WOULD_REMOVE}0 (held by ceph){RELEASE}"),
        (POOL, {}, f"cpu-pool=empty {WOULD_REMOVE}0 (held by ceph){RELEASE}"),
        (POOL, POOL | {"reserved-cpus": "0"}, f"reserved-cpus=0 {WOULD_REMOVE}0 (held by ceph){RELEASE}"),
        (
            POOL,
            {"cpu-pool": "4", "reserved-cpus": "6"},
            f"cpu-pool=4 and reserved-cpus=6 {WOULD_REMOVE}0 (held by ceph), 6 (held by nova){RELEASE}",
        ),
        (
            {"reserved-cpus": "3"},
            {"reserved-cpus": "3,7"},
            f"reserved-cpus=3,7 {WOULD_REMOVE}7 (held by ovs){RELEASE}",
        ),
    ],
)
def test_cpus_in_use_stay_in_their_pool(current: dict[str, Any], proposed: dict[str, Any], sentence: str) -> None:
    assert refusal(current, proposed) == sentence


def test_cpus_in_use_that_are_no_longer_isolated_stay_in_their_pool() -> None:
    machine = made_up(Shape(packages=2, cores_per_l3=4))
    assert "2 (held by nova)" in refusal({}, {"reserved-cpus": "2"}, host_state(machine))


def test_claim_in_the_other_pool_prevents_nothing() -> None:
    """CPU 2 is nova's in the isolated pool, so it may leave the general pool."""
    propose({"cpu-pool": "0,2"}, {"cpu-pool": "0"})


def test_claim_already_outside_its_pool_prevents_nothing() -> None:
    propose({"reserved-cpus": "2"}, {"reserved-cpus": "2-3"})
    propose({"cpu-pool": "1,4"}, {"cpu-pool": "4"})


UNKNOWN = host_state(ledger=None, problem="the state database is empty")


@pytest.mark.parametrize(
    ("current", "proposed"),
    [({}, {"reserved-cpus": "3"}), (POOL, {"cpu-pool": "0-1"}), (POOL, {}), (POOL, POOL | {"reserved-cpus": "4"})],
)
def test_no_cpu_leaves_a_pool_while_claims_are_unreadable(current: dict[str, Any], proposed: dict[str, Any]) -> None:
    assert refusal(current, proposed, UNKNOWN) == (
        "CPUs cannot leave a pool while the claims cannot be read: the state database is empty"
    )


def test_no_hugepages_are_reserved_while_the_claims_are_unreadable() -> None:
    assert refusal({}, {"reserved-hugepages": "0:2048:1"}, UNKNOWN) == (
        "Hugepages cannot be reserved while the claims cannot be read: the state database is empty"
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
def test_settings_that_take_nothing_are_accepted_while_the_claims_are_unreadable(
    current: dict[str, Any], proposed: dict[str, Any]
) -> None:
    propose(current, proposed, UNKNOWN)


# --- another source of the isolated CPUs ---

FROM_NOHZ_FULL = {"isolated-cpus-from": "nohz_full"}
SOURCE = "isolated-cpus-from=nohz_full"


def with_nohz_full(cpus: str, ledger: Ledger | None = LEDGER) -> HostState:
    """The host whose nohz_full has these CPUs, and whose `isolated` has 2-3 and 6-7."""
    machine = made_up(Shape(packages=2, cores_per_l3=4, isolated=cpus))
    return HostState(machine, HUGEPAGES, ledger, "the state database is empty", MACHINE.isolated)


@pytest.mark.parametrize(
    ("current", "proposed", "nohz_full", "sentence"),
    [
        ({}, {}, "2-3", f"{SOURCE} {WOULD_REMOVE}6 (held by nova), 7 (held by ovs){RELEASE}"),
        ({}, {}, "", f"{SOURCE} {WOULD_REMOVE}2,6 (held by nova), 7 (held by ovs){RELEASE}"),
        (
            {},
            {"reserved-cpus": "7"},
            "2-7",
            f"{SOURCE} and reserved-cpus=7 {WOULD_REMOVE}7 (held by ovs){RELEASE}",
        ),
        (
            {"cpu-pool": "0-1"},
            {"cpu-pool": "0-1"},
            "1-7",
            f"cpu-pool=0-1 overlaps the isolated CPUs 1 of {SOURCE}: remove them from cpu-pool",
        ),
    ],
)
def test_source_without_the_cpus_in_use_is_refused(
    current: dict[str, Any], proposed: dict[str, Any], nohz_full: str, sentence: str
) -> None:
    assert refusal(current, FROM_NOHZ_FULL | proposed, with_nohz_full(nohz_full)) == sentence


@pytest.mark.parametrize("nohz_full", ["2-7", "2,6-7"])
def test_source_with_the_cpus_in_use_is_accepted(nohz_full: str) -> None:
    propose({}, FROM_NOHZ_FULL, with_nohz_full(nohz_full))


def test_claim_outside_the_earlier_source_does_not_prevent_another_one() -> None:
    """CPU 5 was in no pool before, so the change does not take it away."""
    ledger = Ledger.of([claim("nova", "3,5")], {})
    propose({}, FROM_NOHZ_FULL, with_nohz_full("2-3,6-7", ledger))


def test_source_without_cpus_of_the_earlier_one_is_refused_while_the_claims_are_unreadable() -> None:
    sentence = "CPUs cannot leave a pool while the claims cannot be read: the state database is empty"
    assert refusal({}, FROM_NOHZ_FULL, with_nohz_full("2-3", None)) == sentence
    propose({}, FROM_NOHZ_FULL, with_nohz_full("1-7", None))


def test_source_is_not_judged_by_a_machine_that_cannot_be_read() -> None:
    propose({}, FROM_NOHZ_FULL, host_state(machine=None))


# --- hugepage records ---


@pytest.mark.parametrize(
    ("current", "proposed", "sentence"),
    [
        # 16 pages, of which ovs has 4 and dpdk 6: 6 may be reserved.
        (
            {},
            {"reserved-hugepages": "0:2048:7"},
            (
                "reserved-hugepages=0:2M:7 leaves 9 of 16 pages, but 10 are in use (6 by dpdk, 4 by ovs): release"
                " some first, or reserve fewer"
            ),
        ),
        (
            {"reserved-hugepages": "0:2048:6"},
            {"reserved-hugepages": "0:2048:8"},
            (
                "reserved-hugepages=0:2M:8 leaves 8 of 16 pages, but 10 are in use (6 by dpdk, 4 by ovs): release"
                " some first, or reserve fewer"
            ),
        ),
        (
            {},
            {"reserved-hugepages": "0:1048576:1,1:2048:1"},
            (
                "reserved-hugepages=1:2M:1 leaves 7 of 8 pages, but 8 are in use (8 by dpdk): release some first, or"
                " reserve fewer"
            ),
        ),
    ],
)
def test_pages_in_use_are_not_reserved(current: dict[str, Any], proposed: dict[str, Any], sentence: str) -> None:
    assert refusal(current, proposed) == sentence


def test_reserving_fewer_pages_is_always_accepted() -> None:
    propose({"reserved-hugepages": "0:2048:9"}, {"reserved-hugepages": "0:2048:8"})


def test_pages_reserved_earlier_do_not_prevent_others() -> None:
    propose({"reserved-hugepages": "1:2048:5"}, {"reserved-hugepages": "1:2048:5,0:2048:2"})


def test_unusable_reservation_does_not_count_as_one_of_all_pages() -> None:
    assert "10 are in use" in refusal({"reserved-hugepages": "x"}, {"reserved-hugepages": "0:2048:7"})
