# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Refused requests and what makes room for them, for the tests of the modules that search for room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from epa_orchestrator.allocation.allocate import Grant, Terms, allocate, allocate_in_node
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.make_room import Room, Wanted, make_room
from epa_orchestrator.allocation.pools import NodeCpus, Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.names import PreemptionPolicy
from epa_orchestrator.placement.policy import NO_WISHES, Wishes
from tests.machines import made_up
from tools.synthetic import Shape


@dataclass
class Host:
    """A machine with its pools, and a ledger that requests change."""

    pools: Pools
    ledger: Ledger

    @classmethod
    def of(cls, shape: Shape, **options: object) -> Host:
        named = {name.replace("_", "-"): value for name, value in options.items()}
        pools = build_pools(made_up(shape), None, parse_settings(named))
        return cls(pools, Ledger().on(pools.cores))

    @property
    def nodes(self) -> dict[int, CpuSet]:
        machine = self.pools.machine
        assert machine is not None
        return {node.id: node.cpus for node in machine.nodes}

    def node(self, number: int) -> NodeCpus:
        return NodeCpus(number, self.nodes[number])

    def wanted(
        self,
        service: str,
        count: int | None,
        *,
        node: int | None = None,
        policy: PreemptionPolicy | None = None,
        wishes: Wishes = NO_WISHES,
    ) -> Wanted:
        pool, terms = self.pools.isolated, Terms(service, policy, wishes)
        where = None if node is None else self.node(node)

        def attempt(ledger: Ledger) -> Grant:
            if where is None:
                return allocate(ledger, pool, terms, count)
            assert count is not None
            return allocate_in_node(ledger, pool, terms, where, count)

        return Wanted(terms, pool, count, where, attempt)

    def hold(self, wanted: Wanted) -> str:
        """Grant a request; returns its CPUs."""
        grant = wanted.attempt(self.ledger)
        self.ledger = grant.ledger
        return str(grant.cpus)

    def room(self, wanted: Wanted, time_is_up: Callable[[], bool] = lambda: False) -> Room:
        """What makes room for a request, which has to be refused now."""
        try:
            wanted.attempt(self.ledger)
        except Refused:
            return make_room(self.ledger, self.pools, self.nodes, wanted, time_is_up)
        raise AssertionError("the request is granted")


def moves(room: Room) -> dict[str, tuple[str, str]]:
    """By service: its CPUs now and then."""
    return {each.claim.service: (str(each.claim.cpus), str(each.to)) for each in room.moves}
