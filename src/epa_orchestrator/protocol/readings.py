# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Readings: the models of the requests that change nothing."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from epa_orchestrator.names import PoolName
from epa_orchestrator.protocol.fields import CommonFields, Id, ServiceName

#: The most events of one answer to get_history.
MAX_EVENTS: Final = 1000
#: Seconds since 1970 up to the year 9987, and numbers of events, which grow without an end: as far as JSON goes safely.
Time = Annotated[int, Field(ge=0, le=253_000_000_000)]
EventId = Annotated[int, Field(ge=0, le=2**53)]


class ListAllocations(CommonFields):
    """All claims of a pool."""

    action: Literal["list_allocations"]
    service_name: ServiceName | None = Field(default=None, description="Has no effect; older clients send it.")
    pool: PoolName = Field(default="isolated", description="The pool to list.")


class GetMemoryInfo(CommonFields):
    """The hugepages of every NUMA node."""

    action: Literal["get_memory_info"]
    service_name: ServiceName | None = Field(
        default=None, description="Comes back in the answer, and has no other effect."
    )
    node_id: Id | None = Field(default=None, description="The NUMA node to list; `null` lists all.")


class GetMachine(CommonFields):
    """The host as the daemon found it, and the state of each CPU."""

    action: Literal["get_machine"]
    service_name: ServiceName | None = Field(
        default=None, description="Has no effect; some clients send it with every action."
    )


class Watch(CommonFields):
    """The claims of both pools as they are, and each change of them from then on."""

    action: Literal["watch"]
    service_name: ServiceName | None = Field(default=None, description="Appears in the log, and has no other effect.")
    pool: PoolName = Field(
        default="isolated", description="The pool that the first line lists. The other lines are about both pools."
    )


class GetHistory(CommonFields):
    """The newest changes of claims and hugepage records, of all services or of some."""

    action: Literal["get_history"]
    service_name: ServiceName | None = Field(default=None, description="Only changes of this service.")
    cpu: Id | None = Field(default=None, description="Only changes by which a service got or lost this CPU.")
    since: Time | None = Field(default=None, description="Only changes from this time on, in seconds since 1970.")
    until: Time | None = Field(
        default=None, description="Only changes up to this time, in seconds since 1970; the whole second belongs to it."
    )
    after: EventId | None = Field(
        default=None, description="Only events after the one with this `id`, the oldest first."
    )
    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS)] = Field(default=50, description="The most events.")


class GetClaim(CommonFields):
    """What a service holds, or who has a CPU, and why: name exactly one of the two."""

    action: Literal["get_claim"]
    service_name: ServiceName | None = Field(default=None, description="The service.")
    cpu: Id | None = Field(default=None, description="The CPU, instead of a service.")


class GetIsolation(CommonFields):
    """What disturbs the owners of claims, and whether the host is isolated as it should be."""

    action: Literal["get_isolation"]
    service_name: ServiceName | None = Field(default=None, description="Only the claim of this service.")


#: Readings that the event loop answers, and those that a thread of their own answers (see daemon/archive.py).
PresentReading = ListAllocations | GetMemoryInfo | GetMachine | Watch
ArchiveReading = GetHistory | GetClaim | GetIsolation
Reading = PresentReading | ArchiveReading
