# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPU states: one word for each CPU, which every view of the host uses."""

from __future__ import annotations

from typing import Literal

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.names import PoolName

#: Why a service cannot use CPUs that it owns, or why the other threads of its cores are withheld for it no longer.
#:
#: - unknown: the machine cannot be read.
#: - missing: the host no longer has these CPUs.
#: - offline: the host has them, but they are offline.
#: - reserved: `reserved-cpus` names them now.
#: - not-isolated: they are not isolated any longer, as isolated-cpus-from says.
#: - not-in-cpu-pool: `cpu-pool` does not name them any longer.
#: - pool: their pool grants nothing now, such as while an option is unusable.
Absence = Literal["unknown", "missing", "offline", "reserved", "not-isolated", "not-in-cpu-pool", "pool"]

#: In the order in which views show them.
CpuState = Literal["claimed", "free", "withheld", "reserved", "unavailable", "offline", "not-isolated"]


def cpu_states(ledger: Ledger, pools: Pools) -> dict[CpuState, CpuSet]:
    """Each state with its CPUs: disjoint sets that cover all CPUs that the host has or that a claim names.

    - claimed: owned by a service, and usable.
    - free: in a pool, and neither owned nor withheld.
    - withheld: in a pool, and a sibling of a claim that has its core to itself.
    - reserved: online, and excluded from the pools by `reserved-cpus`, also when it is not known which ones that names.
    - unavailable: owned by a service, but offline or no longer in the pool of its claim.
    - offline: owned by nobody.
    - not-isolated: all others. They are online, and in no pool.
    """
    machine = pools.machine
    online = machine.online if machine is not None else EMPTY
    present = machine.present | online if machine is not None else EMPTY
    isolated = machine.isolated if machine is not None else EMPTY

    general = pools.general.eligible if pools.general is not None else EMPTY
    claimed = ledger.owned["isolated"] & pools.isolated.eligible | ledger.owned["general"] & general
    withheld = pools.eligible & ledger.withheld
    free = pools.eligible - ledger.claimed - withheld
    not_eligible = online - pools.eligible - ledger.claimed
    reserved = not_eligible & (pools.settings.reserved_cpus | isolated)
    return {
        "claimed": claimed,
        "free": free,
        "withheld": withheld,
        "reserved": reserved,
        "unavailable": ledger.claimed - claimed,
        "offline": present - online - ledger.claimed,
        "not-isolated": not_eligible - reserved,
    }


def unavailable(claim: Claim, pools: Pools) -> dict[Absence, CpuSet]:
    """The CPUs of a claim that its pool does not have now, by reason."""
    pool = pools.get(claim.pool) or pools.unconfigured
    return _absences(claim.cpus - pool.eligible, claim.pool, pools)


def no_longer_withheld(claim: Claim, pools: Pools) -> dict[Absence, CpuSet]:
    """Online CPUs on the cores that a claim was promised alone, which are in no pool now, so that others may run there.

    By reason why they are in none.
    """
    online = pools.machine.online if pools.machine is not None else EMPTY
    return _absences((claim.withheld - pools.configured) & online, claim.pool, pools)


def _absences(cpus: CpuSet, name: PoolName, pools: Pools) -> dict[Absence, CpuSet]:
    """Why these CPUs are not in a pool, each CPU with its first reason."""
    machine, settings = pools.machine, pools.settings
    reasons: dict[Absence, CpuSet] = {"unknown": cpus}
    if machine is not None:
        known_pool = name == "general" and "cpu-pool" not in settings.unusable
        reasons = {
            "missing": cpus - machine.present - machine.online,
            "offline": cpus - machine.online,
            "reserved": settings.reserved_cpus,
            "not-isolated": cpus - machine.isolated if name == "isolated" else EMPTY,
            "not-in-cpu-pool": cpus - settings.cpu_pool if known_pool else EMPTY,
            "pool": cpus,
        }
    found: dict[Absence, CpuSet] = {}
    for reason, members in reasons.items():
        if here := cpus & members:
            found[reason] = here
            cpus -= here
    return found
