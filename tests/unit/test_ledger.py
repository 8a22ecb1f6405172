"""Ledger: the ownership rules as tables, and random requests against a model that keeps them the slow way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.ledger import (
    Change,
    Claim,
    Grant,
    Ledger,
    Refused,
    allocate,
    allocate_in_node,
    allocate_percent,
    drop_pages,
    free_pages,
    release,
    release_in_node,
    set_pages,
)
from epa_orchestrator.machine import Hugepages
from epa_orchestrator.pools import Pools, build_pools
from epa_orchestrator.settings import Policy, parse_settings
from tests.machines import made_up
from tools.synthetic import Shape


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text)


# Two nodes of eight CPUs: 0-3,8-11 and 4-7,12-15, siblings 0 and 8 ... 7 and 15. CPUs 0 and 8 are the system's.
SHAPE = Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15")
NODE = {0: cpus("0-3,8-11"), 1: cpus("4-7,12-15")}


def pools(offline: str = "", isolated: str = SHAPE.isolated, **options: object) -> Pools:
    machine = made_up(Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated=isolated, offline=offline))
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return build_pools(machine, None, parse_settings({"cpu-pool": "1,9", **named}))


def claim(service: str, own: str, *, explicit: str = "", policy: Policy = "legacy") -> Claim:
    return Claim(service, "isolated", cpus(own), cpus(explicit), policy)


def holding(*claims: Claim) -> Ledger:
    return Ledger.of(claims, {})


def cores(
    ledger: Ledger, service: str, count: int, policy: Policy | None = None, at: Pools | None = None
) -> tuple[Ledger, str]:
    at = at or pools()
    grant = allocate(ledger, at, at.isolated, service, count, policy)
    return ledger.apply(grant.change), str(grant.cpus)


def node_cores(
    ledger: Ledger, service: str, node: int, count: int, policy: Policy | None = None, at: Pools | None = None
) -> tuple[Ledger, str]:
    at = at or pools()
    grant = allocate_in_node(ledger, at, at.isolated, service, node, NODE[node], count, policy)
    return ledger.apply(grant.change), str(grant.cpus)


@pytest.mark.parametrize(
    ("isolated", "count"),
    [
        ("0", 1),  # at least 1
        ("0-1", 1),  # floor(1.6)
        ("0-9", 8),
        ("0-99", 80),  # 100 is not large yet
        ("0-100", 85),  # large: all but 16
        ("0-127", 112),
    ],
)
def test_default_size(isolated: str, count: int) -> None:
    machine = made_up(Shape(cores_per_l3=128, isolated=isolated))
    at = build_pools(machine, None, parse_settings({}))
    ledger, granted = cores(Ledger(), "a", 0, at=at)
    assert len(cpus(granted)) == count
    assert cores(ledger, "a", 0, at=at) == (ledger, granted)


def test_default_size_counts_what_is_free_and_own() -> None:
    # 12 isolated CPUs, 2 held by another: floor(0.8 * 10) = 8.
    ledger, granted = cores(holding(claim("b", "2,10")), "a", 0)
    assert len(cpus(granted)) == 8
    assert cores(ledger, "a", 0)[1] == granted


@pytest.mark.parametrize(("percent", "count"), [(1, 1), (8, 1), (9, 2), (25, 3), (50, 6), (99, 12), (100, 12)])
def test_percent_of_the_eligible_cpus_rounds_up(percent: int, count: int) -> None:
    grant = allocate_percent(Ledger(), pools(), pools().isolated, "a", percent, None)
    assert len(grant.cpus) == count


def test_a_refusal_says_how_many_there_are() -> None:
    with pytest.raises(Refused, match=r"^Insufficient CPUs available\. Requested: 11, Available: 10$"):
        cores(holding(claim("b", "2,10")), "a", 11)


def test_another_size_of_the_same_claim_may_use_its_own() -> None:
    ledger = holding(claim("a", "2-7"), claim("b", "10-12"))
    assert cores(ledger, "a", 9)[1] == "2-7,13-15"


def test_replacing_makes_a_claim_inexplicit() -> None:
    ledger, granted = cores(holding(claim("a", "2,10", explicit="2,10")), "a", 2)
    assert granted == "2,10"
    assert ledger.claims["a"].explicit == EMPTY


def test_a_cpu_claimed_in_another_pool_is_not_free() -> None:
    other = Claim("b", "general", cpus("2-3"), EMPTY, "legacy")
    assert len(Ledger.of([other], {}).free(pools().isolated)) == 10


def test_a_service_lives_in_one_pool() -> None:
    at = pools()
    ledger = holding(claim("a", "2"))
    assert at.general is not None
    with pytest.raises(Refused, match="holds CPUs in pool isolated: release that allocation in its pool"):
        allocate(ledger, at, at.general, "a", 1, None)
    with pytest.raises(Refused, match="release that allocation in its pool"):
        release(ledger, "general", "a")


class TestNode:
    """allocate_numa_cores."""

    def test_replaces_in_the_node_and_adds_elsewhere(self) -> None:
        ledger, _ = node_cores(Ledger(), "a", 0, 2)
        ledger, granted = node_cores(ledger, "a", 1, 2)
        assert granted == "4,12"
        assert str(ledger.claims["a"].cpus) == "2,4,10,12"
        ledger, granted = node_cores(ledger, "a", 0, 1)
        assert granted == "2"
        assert str(ledger.claims["a"].cpus) == "2,4,12"
        assert str(ledger.claims["a"].explicit) == "2,4,12"

    def test_only_the_cpus_of_the_node_become_explicit(self) -> None:
        ledger, _ = node_cores(holding(claim("a", "2,4")), "a", 1, 1)
        assert str(ledger.claims["a"].explicit) == "4"

    def test_takes_free_ones_before_those_of_others(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,10")), "a", 0, 2)
        assert granted == "3,11"
        assert str(ledger.claims["b"].cpus) == "2,10"

    def test_takes_only_what_is_missing(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,4,10")), "a", 0, 3)
        # 3 and 11 are free; one of 2 and 10 is missing.
        assert granted == "2-3,11"
        assert str(ledger.claims["b"].cpus) == "4,10"

    def test_a_service_left_with_none_is_gone(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,10")), "a", 0, 4)
        assert granted == "2-3,10-11"
        assert set(ledger.claims) == {"a"}

    @pytest.mark.parametrize(
        "other",
        [
            claim("b", "2,10", explicit="2,10"),
            claim("b", "2,10", policy="non-preemptive"),
            Claim("b", "general", cpus("2,10"), EMPTY, "legacy"),
        ],
        ids=["explicit", "non-preemptive", "another pool"],
    )
    def test_never_takes_protected_ones(self, other: Claim) -> None:
        with pytest.raises(Refused, match=r"2 CPUs that can be given .* 3 were requested: CPUs 2,10 are held by other"):
            node_cores(holding(other), "a", 0, 3)

    def test_only_the_explicit_part_of_a_claim_is_protected(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,10,11", explicit="2")), "a", 0, 3)
        assert granted == "3,10-11"
        assert str(ledger.claims["b"].cpus) == "2"

    def test_a_non_preemptive_request_takes_from_nobody(self) -> None:
        with pytest.raises(Refused, match="CPUs 2,10 are held by other services"):
            node_cores(holding(claim("b", "2,10")), "a", 0, 3, "non-preemptive")

    def test_numa_reclaim_never(self) -> None:
        with pytest.raises(Refused, match="CPUs 2,10 are held by other services"):
            node_cores(holding(claim("b", "2,10")), "a", 0, 3, at=pools(numa_reclaim="never"))

    def test_numa_reclaim_always(self) -> None:
        ledger, granted = node_cores(holding(claim("b", "2,10")), "a", 0, 2, at=pools(numa_reclaim="always"))
        assert granted == "2,10"
        assert set(ledger.claims) == {"a"}

    def test_says_how_many_the_node_has(self) -> None:
        with pytest.raises(Refused, match=r"^NUMA node 0 only has 4 eligible CPUs, but 5 were requested$"):
            node_cores(Ledger(), "a", 0, 5)
        with pytest.raises(Refused, match=r"^No eligible CPUs available in NUMA node 1$"):
            node_cores(Ledger(), "a", 1, 1, at=pools(isolated="2-3"))

    def test_releasing_keeps_the_rest(self) -> None:
        ledger = holding(claim("a", "2,4", explicit="2,4"))
        grant = release_in_node(ledger, "isolated", "a", NODE[0], None)
        assert ledger.apply(grant.change).claims["a"] == claim("a", "4", explicit="4")
        assert release_in_node(ledger.apply(grant.change), "isolated", "a", NODE[1], None).claim is None


class TestPolicy:
    """Preemption policies."""

    def test_new_claims_take_the_default(self) -> None:
        assert cores(Ledger(), "a", 1)[0].claims["a"].policy == "legacy"
        at = pools(default_preemption_policy="non-preemptive")
        assert cores(Ledger(), "a", 1, at=at)[0].claims["a"].policy == "non-preemptive"

    def test_is_inherited(self) -> None:
        ledger, _ = cores(holding(claim("a", "2", policy="non-preemptive")), "a", 2)
        assert ledger.claims["a"].policy == "non-preemptive"

    def test_protects_the_whole_claim(self) -> None:
        ledger, _ = node_cores(holding(claim("a", "4")), "a", 0, 1, "non-preemptive")
        with pytest.raises(Refused, match="CPUs 4 are held"):
            node_cores(ledger, "b", 1, 8)

    def test_does_not_go_back_while_cpus_are_held(self) -> None:
        ledger = holding(claim("a", "2", policy="non-preemptive"))
        with pytest.raises(Refused, match="release its CPUs before it goes back to legacy"):
            cores(ledger, "a", 2, "legacy")
        released = ledger.apply(release(ledger, "isolated", "a").change)
        assert cores(released, "a", 2, "legacy")[0].claims["a"].policy == "legacy"


class TestUnavailable:
    """Claimed CPUs that went offline or left the pool."""

    LEDGER = holding(claim("a", "2-3,4"))

    @pytest.mark.parametrize("at", [pools(offline="3"), pools(isolated="2,4-7")], ids=["offline", "not isolated"])
    def test_are_not_replaced(self, at: Pools) -> None:
        with pytest.raises(Refused, match="holds CPUs 3, which are offline or no longer in pool isolated: release it"):
            cores(self.LEDGER, "a", 1, at=at)
        with pytest.raises(Refused, match="release it first"):
            node_cores(self.LEDGER, "a", 0, 1, at=at)
        assert node_cores(self.LEDGER, "a", 1, 1, at=at)[1] == "4"

    def test_can_be_released(self) -> None:
        assert release(self.LEDGER, "isolated", "a").claim is None
        grant = release_in_node(self.LEDGER, "isolated", "a", NODE[0], None)
        assert grant.claim == claim("a", "4")

    def test_are_not_taken_by_others(self) -> None:
        with pytest.raises(Refused, match="NUMA node 0 only has 3 eligible CPUs"):
            node_cores(self.LEDGER, "b", 0, 4, at=pools(offline="3"))


class TestPages:
    """Hugepages: free = free - max(recorded - (total - free), 0)."""

    @pytest.mark.parametrize(
        ("total", "free", "recorded", "reserved", "left"),
        [
            (8, 8, 0, 0, 8),
            (8, 8, 3, 0, 5),  # recorded, none in use yet
            (8, 5, 3, 0, 5),  # recorded and in use
            (8, 6, 3, 0, 5),  # two of the three in use
            (8, 2, 3, 0, 2),  # others use some as well
            (8, 1, 8, 0, 0),  # never below 0
            (8, 8, 3, 4, 1),  # and never the reserved ones
        ],
    )
    def test_free(self, total: int, free: int, recorded: int, reserved: int, left: int) -> None:
        ledger = Ledger.of([], {"a": {(0, 2048): recorded}} if recorded else {})
        options = parse_settings({"reserved-hugepages": f"0:2048:{reserved}"} if reserved else {})
        assert free_pages(ledger, Hugepages(2048, total, free), 0, options) == left

    def test_only_the_increase_must_fit(self) -> None:
        kernel, options = Hugepages(2048, 8, 8), parse_settings({})
        ledger = Ledger.of([], {"a": {(0, 2048): 6}, "b": {(0, 2048): 1}})
        ledger = ledger.apply(set_pages(ledger, kernel, options, "a", 0, 7))
        assert ledger.pages["a"] == {(0, 2048): 7}
        with pytest.raises(
            Refused, match=r"^NUMA node 0 size 2048 KB only has 0 free hugepages, requested additional 1$"
        ):
            set_pages(ledger, kernel, options, "b", 0, 2)
        assert set_pages(ledger, kernel, options, "a", 0, 7) == Change()
        assert ledger.apply(set_pages(ledger, kernel, options, "a", 0, 1)).recorded == {(0, 2048): 2}

    def test_dropping(self) -> None:
        ledger = Ledger.of([], {"a": {(0, 2048): 6, (1, 2048): 1}})
        ledger = ledger.apply(drop_pages(ledger, "a", (0, 2048)))
        assert ledger.pages == {"a": {(1, 2048): 1}}
        assert drop_pages(ledger, "a", (0, 2048)) == Change()
        ledger = ledger.apply(drop_pages(ledger, "a", (1, 2048)))
        assert (dict(ledger.pages), dict(ledger.recorded)) == ({}, {})


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ([claim("a", "2-3"), claim("b", "3-4")], "CPUs 3 of service 'b' are owned by another service as well"),
        ([claim("a", "")], "holds no CPUs"),
        ([claim("a", "2", explicit="3")], "explicit ones it does not own"),
        ([claim("a", "2"), claim("a", "3")], "two claims"),
    ],
)
def test_contradicting_claims_make_no_ledger(claims: list[Claim], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        holding(*claims)


SERVICES = st.sampled_from(["a", "b", "c", "d"])
POLICIES = st.sampled_from([None, "legacy", "non-preemptive"])


class Requests(RuleBasedStateMachine):
    """Random requests over a random machine keep the invariants."""

    @initialize(
        shape=st.sampled_from(
            [
                SHAPE,
                Shape(packages=1, nodes_per_package=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2),
                Shape(nodes_per_package=2, cores_per_l3=4, l3_scope="package", numbering="interleaved"),
                Shape(packages=3, cores_per_l3=2, threads_per_core=4, siblings="adjacent", l3_scope="none"),
            ]
        ),
        data=st.data(),
        reclaim=st.sampled_from(["if-needed", "always", "never"]),
    )
    def start(self, shape: Shape, data: st.DataObject, reclaim: str) -> None:
        everything = list(range(shape.cpus))
        isolated = CpuSet(data.draw(st.sets(st.sampled_from(everything), min_size=1)))
        general = CpuSet(data.draw(st.sets(st.sampled_from(everything)))) - isolated
        options = parse_settings({"cpu-pool": str(general), "numa-reclaim": reclaim})
        machine = made_up(replace(shape, isolated=str(isolated)))
        self.pools = build_pools(machine, None, options)
        self.nodes = {node.id: node.cpus for node in machine.nodes}
        self.ledger = Ledger()

    def decide(self, service: str, grant: Grant, kept: CpuSet) -> None:
        """Take a grant over; `kept` are the CPUs that the service must keep (a grown or repeated request)."""
        before = self.ledger
        self.ledger = before.apply(grant.change)
        after = self.ledger.claims.get(service)
        assert after == grant.claim
        assert grant.cpus <= (after.cpus if after else EMPTY)
        assert kept <= (after.cpus if after else EMPTY)
        for name, claim in before.claims.items():
            if name != service and self.ledger.claims.get(name) != claim:
                assert claim.policy == "legacy"
                left = self.ledger.claims[name].cpus if name in self.ledger.claims else EMPTY
                assert (claim.cpus - left) <= grant.cpus - claim.explicit

    def held(self, service: str) -> CpuSet:
        return self.ledger.claims[service].cpus if service in self.ledger.claims else EMPTY

    @rule(service=SERVICES, count=st.integers(0, 20), policy=POLICIES, general=st.booleans())
    def allocate(self, service: str, count: int, policy: Policy | None, general: bool) -> None:
        pool = self.pools.general if general else self.pools.isolated
        if pool is None:
            return
        own = self.held(service)
        try:
            grant = allocate(self.ledger, self.pools, pool, service, count, policy)
        except Refused:
            return
        assert count == 0 or len(grant.cpus) == count
        assert grant.cpus <= own or own <= grant.cpus
        self.decide(service, grant, own if len(grant.cpus) >= len(own) else EMPTY)
        again = allocate(self.ledger, self.pools, pool, service, count, policy)
        assert (again.change, again.cpus) == (Change(), grant.cpus)

    @rule(service=SERVICES, node=st.integers(0, 2), count=st.integers(1, 12), policy=POLICIES, general=st.booleans())
    def allocate_in_node(self, service: str, node: int, count: int, policy: Policy | None, general: bool) -> None:
        pool = self.pools.general if general else self.pools.isolated
        if pool is None or node not in self.nodes:
            return
        before, own = self.ledger, self.held(service)
        try:
            grant = allocate_in_node(self.ledger, self.pools, pool, service, node, self.nodes[node], count, policy)
        except Refused:
            return
        assert len(grant.cpus) == count
        assert grant.cpus <= self.nodes[node]
        in_node = own & self.nodes[node]
        self.decide(service, grant, own if count >= len(in_node) and not self.always() else own - in_node)
        enough = len(before.free(pool) & self.nodes[node]) + len(in_node) >= count
        if enough and not self.always():
            assert all(change.service == service for change in grant.change.claims)
        again = allocate_in_node(self.ledger, self.pools, pool, service, node, self.nodes[node], count, policy)
        assert (again.change, again.cpus) == (Change(), grant.cpus)

    def always(self) -> bool:
        return self.pools.settings.numa_reclaim == "always"

    @rule(service=SERVICES)
    def release(self, service: str) -> None:
        claim = self.ledger.claims.get(service)
        self.decide(service, release(self.ledger, claim.pool if claim else "isolated", service), EMPTY)
        assert service not in self.ledger.claims

    @rule(service=SERVICES, node=st.integers(0, 2))
    def release_in_node(self, service: str, node: int) -> None:
        claim = self.ledger.claims.get(service)
        cpus_of_node = self.nodes.get(node, EMPTY)
        grant = release_in_node(self.ledger, claim.pool if claim else "isolated", service, cpus_of_node, None)
        kept = self.held(service) - cpus_of_node
        self.decide(service, grant, kept)
        assert self.held(service) == kept

    @invariant()
    def owners_are_disjoint_and_inside_their_pool(self) -> None:
        if not hasattr(self, "ledger"):
            return
        seen = EMPTY
        for claim in self.ledger.claims.values():
            pool = self.pools.get(claim.pool)
            assert pool is not None
            assert claim.cpus
            assert not claim.cpus & seen
            assert claim.cpus <= pool.configured
            assert claim.explicit <= claim.cpus
            seen |= claim.cpus
        rebuilt = Ledger.of(self.ledger.claims.values(), {})
        assert self.ledger.claimed == rebuilt.claimed == seen
        assert self.ledger.owned == rebuilt.owned
        assert self.ledger.reclaimable == rebuilt.reclaimable


TestRequests = Requests.TestCase
TestRequests.settings = hypothesis_settings(max_examples=100, stateful_step_count=30, deadline=None)
