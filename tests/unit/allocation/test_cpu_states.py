# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPU states: one word for each CPU of the host and of each claim."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.cpu_states import Absence, CpuState, cpu_states, no_longer_withheld, unavailable
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools, build_pools
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.allocation.usable_settings import usable_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet, union
from epa_orchestrator.names import PoolName
from tests.builders import SHAPE, claim, cpus, pools
from tests.machines import made_up

#: Siblings are 0 and 8 ... 7 and 15. CPUs 2-7 and 10-15 are isolated, 1 and 9 in the general pool, 0 and 8 in none.
AT = pools()


def shown(at: Pools, *claims: Claim) -> dict[CpuState, str]:
    """The states that have CPUs, as CPU lists."""
    states = cpu_states(Ledger.of(claims, {}, at.cores), at)
    return {state: str(found) for state, found in states.items() if found}


def test_unowned_cpus_of_both_pools_are_free() -> None:
    assert shown(AT) == {"free": "1-7,9-15", "not-isolated": "0,8"}


def test_owned_cpus_are_claimed_in_either_pool() -> None:
    general = Claim("b", "general", cpus("9"), EMPTY, "legacy")
    assert shown(AT, claim("a", "2-3"), general) == {
        "claimed": "2-3,9",
        "free": "1,4-7,10-15",
        "not-isolated": "0,8",
    }


def test_siblings_of_a_claim_alone_on_its_core_are_withheld() -> None:
    found = shown(AT, claim("a", "2-3", withheld="10-11"))
    assert (found["claimed"], found["withheld"], found["free"]) == ("2-3", "10-11", "1,4-7,9,12-15")


def test_a_withheld_sibling_outside_of_the_pools_is_not_isolated() -> None:
    found = shown(pools(isolated="2-7"), claim("a", "2-3", withheld="10-11"))
    assert found == {"claimed": "2-3", "free": "1,4-7,9", "not-isolated": "0,8,10-15"}


def test_reserved_cpus_are_reserved_in_and_outside_of_the_pools() -> None:
    found = shown(pools(reserved_cpus="0,2,10"))
    assert found == {"free": "1,3-7,9,11-15", "reserved": "0,2,10", "not-isolated": "8"}


def test_reserved_cpus_that_the_host_does_not_have_are_not_shown() -> None:
    assert shown(pools(reserved_cpus="0,99"))["reserved"] == "0"


def test_unowned_offline_cpus_are_offline_even_if_reserved_or_withheld() -> None:
    at = pools(offline="3,10", reserved_cpus="3")
    found = shown(at, Claim("a", "isolated", cpus("2"), EMPTY, "legacy", cpus("10"), alone=cpus("2")))
    assert found == {"claimed": "2", "free": "1,4-7,9,11-15", "offline": "3,10", "not-isolated": "0,8"}


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(pools(offline="2"), id="offline"),
        pytest.param(pools(isolated="3-7,10-15"), id="no longer isolated"),
        pytest.param(pools(reserved_cpus="2"), id="reserved since"),
        pytest.param(pools(isolated="3-7,10-15", cpu_pool="1-2,9"), id="in the other pool now"),
    ],
)
def test_an_owned_cpu_that_its_pool_cannot_grant_is_unavailable(at: Pools) -> None:
    found = shown(at, claim("a", "2-3"))
    assert (found["claimed"], found["unavailable"]) == ("3", "2")


def test_an_owned_cpu_that_the_host_no_longer_has_is_unavailable() -> None:
    assert shown(AT, claim("a", "2,99"))["unavailable"] == "99"


def test_a_claim_in_a_pool_that_is_not_configured_is_unavailable() -> None:
    general = Claim("b", "general", cpus("9"), EMPTY, "legacy")
    assert shown(pools(cpu_pool=""), general)["unavailable"] == "9"


def test_without_a_machine_every_claim_is_unavailable() -> None:
    nothing = build_pools(None, "unreadable", parse_settings({"cpu-pool": "1", "reserved-cpus": "0"}))
    assert shown(nothing, claim("a", "2-3")) == {"unavailable": "2-3"}


def test_isolated_cpus_are_reserved_while_the_reserved_ones_are_not_known() -> None:
    machine = made_up(SHAPE)
    at = build_pools(machine, None, usable_settings({"reserved-cpus": "first"}))
    assert shown(at) == {"reserved": SHAPE.isolated, "not-isolated": "0-1,8-9"}


ANY_CPUS = st.builds(CpuSet, st.sets(st.integers(0, 15)))


@st.composite
def hosts(draw: st.DrawFn) -> tuple[Pools, Ledger]:
    """A host with any isolated, offline, reserved and general CPUs, and with claims that may have left their pool."""
    offline = draw(ANY_CPUS) - cpus("0")
    isolated, general, reserved = draw(ANY_CPUS), draw(ANY_CPUS), draw(ANY_CPUS)
    at = pools(str(offline), str(isolated), cpu_pool=str(general - isolated), reserved_cpus=str(reserved))
    owners = draw(st.dictionaries(st.integers(0, 17), st.integers(0, 3)))
    claims: list[Claim] = []
    for number in set(owners.values()):
        own = CpuSet(cpu for cpu, owner in owners.items() if owner == number)
        pool: PoolName = draw(st.sampled_from(["isolated", "general"]))
        alone = own & draw(ANY_CPUS)
        claims.append(Claim(f"s{number}", pool, own, EMPTY, "legacy", alone=alone))
    return at, Ledger.of(claims, {}, at.cores)


@given(hosts())
def test_states_are_disjoint_and_cover_the_host_and_every_claim(host: tuple[Pools, Ledger]) -> None:
    at, ledger = host
    states = cpu_states(ledger, at)
    assert tuple(states) == get_args(CpuState)
    assert sum(map(len, states.values())) == union(found.mask for found in states.values()).bit_count()
    assert union(found.mask for found in states.values()) == (cpus("0-15") | ledger.claimed).mask


@given(hosts())
def test_free_and_owned_cpus_are_those_of_the_ledger(host: tuple[Pools, Ledger]) -> None:
    at, ledger = host
    states = cpu_states(ledger, at)
    general = ledger.free(at.general) if at.general else EMPTY
    assert states["free"] == ledger.free(at.isolated) | general
    assert states["claimed"] | states["unavailable"] == ledger.claimed
    assert states["withheld"] <= ledger.withheld


def reasons(found: dict[Absence, CpuSet]) -> dict[Absence, str]:
    return {reason: str(absent) for reason, absent in found.items()}


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        pytest.param(pools(), {}, id="usable"),
        pytest.param(pools(offline="2"), {"offline": "2"}, id="offline"),
        pytest.param(pools(reserved_cpus="2"), {"reserved": "2"}, id="reserved"),
        pytest.param(pools(isolated="3-7,10-15"), {"not-isolated": "2"}, id="not isolated"),
        pytest.param(pools(isolated="3-7,10-15", cpu_pool="1-2,9"), {"not-isolated": "2"}, id="in the other pool"),
        pytest.param(pools(offline="2", reserved_cpus="2-3"), {"offline": "2", "reserved": "3"}, id="two reasons"),
        pytest.param(build_pools(made_up(SHAPE), None, usable_settings({"reserved-cpus": "x"})), {"pool": "2-3"}),
        pytest.param(build_pools(None, "unreadable", parse_settings({})), {"unknown": "2-3"}, id="no machine"),
    ],
)
def test_a_cpu_of_the_isolated_pool_is_unavailable_for_its_first_reason(at: Pools, reason: dict[Absence, str]) -> None:
    assert reasons(unavailable(claim("a", "2-3"), at)) == reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"cpu-pool": "0-1"}, {}),
        ({"cpu-pool": "1"}, {"not-in-cpu-pool": "0"}),
        ({"cpu-pool": "isolated"}, {"not-in-cpu-pool": "0-1"}),
        ({"cpu-pool": "0-1", "reserved-cpus": "1"}, {"reserved": "1"}),
        ({"cpu-pool": "0-2"}, {"pool": "0-1"}),
        ({"cpu-pool": "x"}, {"pool": "0-1"}),
    ],
)
def test_a_cpu_of_the_general_pool_is_unavailable_for_its_first_reason(
    options: dict[str, str], reason: dict[Absence, str]
) -> None:
    at = build_pools(made_up(SHAPE), None, usable_settings(options))
    assert reasons(unavailable(Claim("b", "general", cpus("0-1"), EMPTY, "legacy"), at)) == reason


def test_a_cpu_that_the_host_no_longer_has_is_missing() -> None:
    assert reasons(unavailable(claim("a", "2,99"), AT)) == {"missing": "99"}


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        pytest.param(pools(), {}, id="withheld"),
        pytest.param(pools(offline="10"), {}, id="withheld and offline"),
        pytest.param(pools(isolated="2-7,11-15"), {"not-isolated": "10"}, id="not isolated"),
        pytest.param(pools(isolated="2-7,11-15", offline="10"), {}, id="nobody runs there"),
        pytest.param(pools(reserved_cpus="10"), {"reserved": "10"}, id="reserved"),
        pytest.param(pools(isolated="2-7,11-15", cpu_pool="1,9-10"), {}, id="withheld from the other pool"),
    ],
)
def test_a_sibling_is_no_longer_withheld_when_it_is_in_no_pool(at: Pools, reason: dict[Absence, str]) -> None:
    assert reasons(no_longer_withheld(claim("a", "2-3", withheld="10"), at)) == reason


@given(hosts())
def test_every_unavailable_cpu_has_one_reason(host: tuple[Pools, Ledger]) -> None:
    at, ledger = host
    absent = [cpus for each in ledger.claims.values() for cpus in unavailable(each, at).values()]
    assert sum(map(len, absent)) == len(cpu_states(ledger, at)["unavailable"])
    assert union(cpus.mask for cpus in absent) == cpu_states(ledger, at)["unavailable"].mask
