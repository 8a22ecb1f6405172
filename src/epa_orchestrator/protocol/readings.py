# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Readings: the models of the requests that change nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from epa_orchestrator.names import PoolName
from epa_orchestrator.protocol.fields import CommonFields, Id, ServiceName


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


Reading = ListAllocations | GetMemoryInfo | GetMachine
