# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Random requests against a model that keeps the ownership rules the slow way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from epa_orchestrator.allocation.allocate import (
    Grant,
    Terms,
    allocate,
    allocate_in_node,
    release,
    release_in_node,
)
from epa_orchestrator.allocation.claims import Change
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import SettingsError, parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.names import PreemptionPolicy
from epa_orchestrator.placement.policy import (
    CpuDistribution,
    CpuThreadPolicy,
    NumaAllocationStrategy,
    NumaPolicy,
    UncoreCacheAlignment,
    Wishes,
    with_wishes,
)
from epa_orchestrator.placement.rules import broken_rule
from tests.builders import SHAPE
from tests.machines import made_up
from tools.synthetic import Shape

SERVICES = st.sampled_from(["a", "b", "c", "d"])
POLICIES = st.sampled_from([None, "legacy", "non-preemptive"])
WISHES = st.one_of(
    st.just(Wishes()),
    st.builds(
        Wishes,
        numa_policy=st.sampled_from([None, *get_args(NumaPolicy)]),
        cpu_thread_policy=st.sampled_from([None, *get_args(CpuThreadPolicy)]),
        uncore_cache_alignment=st.sampled_from([None, *get_args(UncoreCacheAlignment)]),
        near=st.sampled_from([None, 0, 1]),
    ),
)
OPTIONS = st.fixed_dictionaries(
    {
        "numa-reclaim": st.sampled_from(["if-needed", "always", "never"]),
        "prefer-closest-numa-nodes": st.booleans(),
        **{
            option: st.sampled_from(get_args(values))
            for option, values in (
                ("numa-policy", NumaPolicy),
                ("numa-allocation-strategy", NumaAllocationStrategy),
                ("uncore-cache-alignment", UncoreCacheAlignment),
                ("cpu-thread-policy", CpuThreadPolicy),
                ("cpu-distribution", CpuDistribution),
            )
        },
    }
)


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
        options=OPTIONS,
    )
    def start(self, shape: Shape, data: st.DataObject, options: dict[str, Any]) -> None:
        everything = list(range(shape.cpus))
        isolated = CpuSet(data.draw(st.sets(st.sampled_from(everything), min_size=1)))
        self.general = CpuSet(data.draw(st.sets(st.sampled_from(everything)))) - isolated
        self.shape = replace(shape, isolated=str(isolated))
        self.machine = made_up(self.shape)
        self.set(options)
        self.nodes = {node.id: node.cpus for node in self.machine.nodes}
        self.ledger = Ledger()

    @rule(options=OPTIONS)
    def set(self, options: dict[str, Any]) -> None:
        """The operator changes the settings, as far as they do not contradict each other."""
        try:
            settings = parse_settings({"cpu-pool": str(self.general), **options})
        except SettingsError:
            settings = parse_settings({"cpu-pool": str(self.general), "numa-reclaim": options["numa-reclaim"]})
        self.pools = build_pools(self.machine, None, settings)

    def decide(self, service: str, grant: Grant, kept: CpuSet) -> None:
        """Take a grant over; `kept` are the CPUs that the service must keep (a grown or repeated request)."""
        before = self.ledger
        self.ledger = grant.ledger
        after = self.ledger.claims.get(service)
        assert after == grant.claim
        assert grant.cpus <= (after.cpus if after else EMPTY)
        assert kept <= (after.cpus if after else EMPTY)
        for name, claim in before.claims.items():
            if name != service and self.ledger.claims.get(name) != claim:
                assert claim.preemption_policy == "legacy"
                left = self.ledger.claims[name].cpus if name in self.ledger.claims else EMPTY
                assert (claim.cpus - left) <= grant.cpus - claim.explicit
        self.names_every_loss(before, grant)

    def names_every_loss(self, before: Ledger, grant: Grant) -> None:
        """The change has each service whose CPUs changed, with what it had and what it has left."""
        after = grant.ledger
        had = {name: claim.cpus for name, claim in before.claims.items()}
        has = {name: claim.cpus for name, claim in after.claims.items()}
        changed = {name for name in had.keys() | has.keys() if had.get(name) != has.get(name)}
        changes = {change.service: change for change in grant.change.claims}
        assert changed <= changes.keys()
        for name, change in changes.items():
            assert (change.before, change.after) == (before.claims.get(name), after.claims.get(name))

    def held(self, service: str) -> CpuSet:
        return self.ledger.claims[service].cpus if service in self.ledger.claims else EMPTY

    def respects(self, grant: Grant, own: CpuSet, wishes: Wishes) -> None:
        """The CPUs respect the rules of the policy, unless they are what the service held and asked nothing of."""
        assert grant.task is not None
        assert grant.claim is not None
        if grant.cpus != own or wishes != Wishes():
            assert broken_rule(grant.task, grant.cpus) is None
            if len(grant.claim.cpus) == len(grant.cpus) and not own:
                assert grant.claim.placed_by == with_wishes(self.pools.settings.placement, wishes)

    @rule(service=SERVICES, count=st.integers(0, 20), policy=POLICIES, wishes=WISHES, general=st.booleans())
    def allocate(
        self, service: str, count: int, policy: PreemptionPolicy | None, wishes: Wishes, general: bool
    ) -> None:
        pool = self.pools.general if general else self.pools.isolated
        if pool is None:
            return
        own = self.held(service)
        terms = Terms(service, policy, wishes)
        try:
            grant = allocate(self.ledger, pool, terms, count or None)
        except Refused:
            return
        self.respects(grant, own, wishes)
        assert count == 0 or len(grant.cpus) == count
        assert grant.cpus <= own or own <= grant.cpus
        self.decide(service, grant, own if len(grant.cpus) >= len(own) else EMPTY)
        assert count or own <= grant.cpus, "the default size takes nothing away"
        again = allocate(self.ledger, pool, terms, count or None)
        assert (again.change, again.cpus) == (Change(), grant.cpus)

    @rule(
        service=SERVICES,
        node=st.integers(0, 2),
        count=st.integers(1, 12),
        policy=POLICIES,
        wishes=WISHES,
        general=st.booleans(),
    )
    def allocate_in_node(
        self, service: str, node: int, count: int, policy: PreemptionPolicy | None, wishes: Wishes, general: bool
    ) -> None:
        pool = self.pools.general if general else self.pools.isolated
        if pool is None or node not in self.nodes:
            return
        before, own = self.ledger, self.held(service)
        terms = Terms(service, policy, wishes._replace(near=None))
        try:
            grant = allocate_in_node(self.ledger, pool, terms, NodeCpus(node, self.nodes[node]), count)
        except Refused:
            return
        self.respects(grant, own & self.nodes[node], terms.wishes)
        assert len(grant.cpus) == count
        assert grant.cpus <= self.nodes[node]
        in_node = own & self.nodes[node]
        self.decide(service, grant, own if count >= len(in_node) else own - in_node)
        threads = grant.task.policy.cpu_thread_policy if grant.task else None
        enough = len(before.free(pool) & self.nodes[node]) + len(in_node) >= count
        if enough and self.pools.settings.numa_reclaim != "always" and threads not in ("require", "isolate"):
            assert all(change.service == service for change in grant.change.claims)
        again = allocate_in_node(self.ledger, pool, terms, NodeCpus(node, self.nodes[node]), count)
        assert (again.change, again.cpus) == (Change(), grant.cpus)

    @rule(data=st.data())
    def ask_again_on_a_host_that_has_lost_cpus(self, data: st.DataObject) -> None:
        """Any CPUs are offline or isolated no longer, or nothing can be read: what is held is granted again."""
        pools = build_pools(
            self.lossy_machine(data), "unreadable", self.pools.settings, LastSeen().known_cores(self.machine)
        )
        for service, claim in self.ledger.claims.items():
            pool = pools.get(claim.pool) or pools.unconfigured
            terms = Terms(service, wishes=data.draw(st.sampled_from([Wishes(), claim.wishes])))
            assert allocate(self.ledger, pool, terms, len(claim.cpus)).cpus == claim.cpus
            default = allocate(self.ledger, pool, terms, None).cpus
            assert claim.cpus <= default
            assert default == claim.cpus or default <= pool.eligible, "no growth next to CPUs that are offline"
            for node, cpus in self.nodes.items():
                if here := claim.cpus & cpus:
                    grant = allocate_in_node(self.ledger, pool, terms, NodeCpus(node, cpus), len(here))
                    assert grant.claim is not None
                    assert (grant.cpus, grant.claim.cpus) == (here, claim.cpus)

    def lossy_machine(self, data: st.DataObject) -> Machine | None:
        online = st.sets(st.sampled_from(list(self.machine.online)))
        lost, isolated = CpuSet(data.draw(online)), CpuSet(data.draw(online)) - self.general
        machines = [replace(self.machine, isolated=isolated), None]
        if lost != self.machine.online:
            machines.append(made_up(replace(self.shape, offline=str(lost))))
        return data.draw(st.sampled_from(machines))

    @rule(service=SERVICES)
    def release(self, service: str) -> None:
        claim = self.ledger.claims.get(service)
        self.decide(service, release(self.ledger, claim.pool if claim else "isolated", service), EMPTY)
        assert service not in self.ledger.claims

    @rule(service=SERVICES, node=st.integers(0, 2))
    def release_in_node(self, service: str, node: int) -> None:
        claim = self.ledger.claims.get(service)
        cpus_of_node = self.nodes.get(node, EMPTY)
        pool = claim.pool if claim else "isolated"
        grant = release_in_node(self.ledger, pool, Terms(service), NodeCpus(node, cpus_of_node))
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
        rebuilt = Ledger.of(self.ledger.claims.values(), {}, self.ledger.cores)
        assert self.ledger.claimed == rebuilt.claimed == seen
        assert self.ledger.withheld == rebuilt.withheld
        assert self.ledger.owned == rebuilt.owned
        assert self.ledger.reclaimable == rebuilt.reclaimable

    @invariant()
    def what_is_withheld_is_siblings_and_withheld_once(self) -> None:
        if not hasattr(self, "ledger"):
            return
        seen = EMPTY
        for claim in self.ledger.claims.values():
            assert not claim.withheld & (seen | self.ledger.claimed)
            seen |= claim.withheld
            cores_of_claim = [core.cpus for core in self.machine.cores if core.cpus & claim.cpus]
            assert all(any(cpu in core for core in cores_of_claim) for cpu in claim.withheld)
        assert self.ledger.withheld == seen
        for pool in (self.pools.isolated, self.pools.general):
            assert pool is None or self.ledger.free(pool) == pool.eligible - self.ledger.claimed - seen


TestRequests = Requests.TestCase
TestRequests.settings = hypothesis_settings(max_examples=100, stateful_step_count=30, deadline=None)
