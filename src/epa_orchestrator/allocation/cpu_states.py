# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPU states: one word for each CPU, which every view of the host uses."""

from __future__ import annotations

from typing import Literal

from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.cpuset import EMPTY, CpuSet

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
