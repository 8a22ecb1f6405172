# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Terms: for whom and with which wishes a request is decided, and the NUMA node of a device that it wants to be near.

Only a refusal says which devices there are: a repeated request keeps its CPUs, and must not wait for that.
"""

from __future__ import annotations

from epa_orchestrator.allocation.allocate import Terms
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.hardware.devices import DeviceError
from epa_orchestrator.placement.policy import Wishes
from epa_orchestrator.placement.search import EXPLAINED_CANDIDATES
from epa_orchestrator.protocol.requests import Allocating


def terms_of(ledger: Ledger, host: Host, pools: Pools, request: Allocating) -> Terms:
    """The terms of a request; a release has no wishes."""
    if request.is_release:
        return Terms(request.service_name, request.preemption_policy)
    near, unknown = _near(ledger, host, pools, request)
    wishes = Wishes(request.numa_policy, request.cpu_thread_policy, request.uncore_cache_alignment, near)
    choices = EXPLAINED_CANDIDATES if request.explain else 1
    return Terms(request.service_name, request.preemption_policy, wishes, choices, unknown)


def _near(ledger: Ledger, host: Host, pools: Pools, request: Allocating) -> tuple[int | None, str | None]:
    """The NUMA node that the request wants its CPUs near to, and why it is not known.

    Then it is the node of the claim: the request may be a repeated one, and a network interface disappears when a
    service takes it over from the kernel.
    """
    if not isinstance(request.near, str):
        return request.near, None
    unknown = None
    try:
        if pools.machine is not None:
            return host.node_of_device(pools.machine, request.near), None
    except DeviceError as error:
        unknown = str(error)
    claim = ledger.claims.get(request.service_name)
    return claim.wishes.near if claim else None, unknown


def with_remedy(refused: Refused, terms: Terms, host: Host, request: Allocating) -> Refused:
    """The refusal; one because of an unknown device also names those that the host has."""
    if terms.unknown is None or str(refused) != terms.unknown:
        return refused
    return Refused(f"{refused}{host.devices_like(str(request.near))}", rule=refused.rule)
