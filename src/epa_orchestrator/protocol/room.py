# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room: the part of a refusal that says which claims could make room for the request, and where they could go."""

from __future__ import annotations

import operator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import CpuThreadPolicy, NumaPolicy, UncoreCacheAlignment


class RoomMove(BaseModel):
    """A claim that would move."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    service_name: str = Field(description="The service.")
    pool: PoolName = Field(description="The pool of the claim.")
    from_: str = Field(validation_alias="from", serialization_alias="from", description="Its CPUs now, a CPU list.")
    to: str = Field(description="Its CPUs then, a CPU list.")
    numa_nodes: str = Field(description="The NUMA nodes of these, as a list of ids.")
    preemption_policy: PreemptionPolicy = Field(description="The service's policy, which it keeps.")


class RoomRequest(BaseModel):
    """One of the requests that carry a plan out, with the fields that it sets."""

    action: Literal["allocate_cores", "allocate_cores_percent", "allocate_numa_cores"] = Field(
        description="The action."
    )
    service_name: str = Field(description="The service.")
    pool: PoolName = Field(description="The pool.")
    num_of_cores: int | None = Field(default=None, description="As in a request; -1 releases.")
    percent: int | None = Field(default=None, description="As in a request.")
    numa_node: int | None = Field(default=None, description="As in a request.")
    preemption_policy: PreemptionPolicy | None = Field(default=None, description="As in a request.")
    numa_policy: NumaPolicy | None = Field(default=None, description="As in a request.")
    cpu_thread_policy: CpuThreadPolicy | None = Field(default=None, description="As in a request.")
    uncore_cache_alignment: UncoreCacheAlignment | None = Field(default=None, description="As in a request.")
    near: int | str | None = Field(default=None, description="As in a request.")


class MakeRoom(BaseModel):
    """The fewest claims whose moving makes room for a refused request. Nothing moves by itself."""

    moves: list[RoomMove] = Field(description="The claims that would move; none if no such claims were found.")
    cpus: str = Field(description="The CPUs that the request would then get, a CPU list; empty without `moves`.")
    taken: dict[str, str] = Field(
        default_factory=dict[str, str],
        exclude_if=operator.not_,
        description="The services that would lose CPUs to the request, and which, a CPU list; left out when there are"
        " none.",
    )
    requests: list[RoomRequest] = Field(
        description="The requests that carry this out, in order: releases, then allocations, the refused request among"
        " them. Guests on the moved CPUs have to be stopped before, or pinned to their new CPUs."
    )
    exact: bool = Field(
        description="`true`: no fewer claims make room, and without `moves` none do. `false`: the search ended before"
        " all were tried."
    )
    tried: int = Field(description="How many sets of claims were tried.")
    sentence: str = Field(description="All this in a sentence; without `moves` it says why none make room.")
