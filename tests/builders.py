# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Builders: pools, claims and ledgers on one small machine, for the tests of the rooms that decide."""

from __future__ import annotations

from epa_orchestrator.allocation.allocate import (
    Grant,
    Terms,
    allocate,
    allocate_in_node,
)
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pools, build_pools
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.names import PreemptionPolicy
from epa_orchestrator.placement.policy import (
    Wishes,
)
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


def claim(
    service: str, own: str, *, explicit: str = "", policy: PreemptionPolicy = "legacy", withheld: str = ""
) -> Claim:
    return Claim(service, "isolated", cpus(own), cpus(explicit), policy, cpus(withheld))


def holding(*claims: Claim) -> Ledger:
    return Ledger.of(claims, {}, pools().cores)


def cores(
    ledger: Ledger, service: str, count: int, policy: PreemptionPolicy | None = None, at: Pools | None = None
) -> tuple[Ledger, str]:
    """A count of 0 means the default size."""
    at = at or pools()
    grant = allocate(ledger, at.isolated, Terms(service, policy), count or None)
    return grant.ledger, str(grant.cpus)


def node_cores(
    ledger: Ledger, service: str, node: int, count: int, policy: PreemptionPolicy | None = None, at: Pools | None = None
) -> tuple[Ledger, str]:
    at = at or pools()
    grant = allocate_in_node(ledger, at.isolated, Terms(service, policy), NodeCpus(node, NODE[node]), count)
    return grant.ledger, str(grant.cpus)


def wish(service: str, count: int, wishes: Wishes, ledger: Ledger | None = None, at: Pools | None = None) -> Grant:
    """What a request with wishes is granted."""
    at = at or pools()
    return allocate(ledger or Ledger(), at.isolated, Terms(service, wishes=wishes), count)


def owned_and_withheld(ledger: Ledger) -> dict[str, tuple[str, str]]:
    return {service: (str(claim.cpus), str(claim.withheld)) for service, claim in ledger.claims.items()}
