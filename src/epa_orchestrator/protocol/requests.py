# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Requests: the models of the requests of protocol 1.0 that change something, and the union of all requests.

The models decode the numbers with a meaning of their own (-1, 0) as `is_release` and `count`. The fields' descriptions
are those of docs/reference/protocol.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import CpuThreadPolicy, NumaPolicy, UncoreCacheAlignment
from epa_orchestrator.protocol.fields import MOST, CommonFields, Count, CountButZero, Device, Id, ServiceName
from epa_orchestrator.protocol.quoting import quote
from epa_orchestrator.protocol.readings import Reading


class AllocationFields(CommonFields):
    """The fields that the allocating actions have in common; the last four are the request's own wishes."""

    service_name: ServiceName = Field(description="The service that owns the CPUs; printable characters only.")
    pool: PoolName = Field(default="isolated", description="The pool that the CPUs come from.")
    preemption_policy: PreemptionPolicy | None = Field(
        default=None,
        description="Whether requests for a NUMA node may take CPUs of this service, and its own such requests CPUs of"
        " others. `null` keeps the service's policy; a new service gets that of the option"
        " `default-preemption-policy`, which is `legacy` unless set.",
    )
    dry_run: bool = Field(default=False, description="Answer as if the request were served, and change nothing.")
    may_take: dict[str, str] | None = Field(
        default=None,
        description="The CPUs of other services that the request may take, as `taken` in the answer to a dry run. If it"
        " would take any others, it is refused: `{}` takes none. `null` takes what the rules allow.",
    )
    explain: bool = Field(
        default=False, description="Add `explanation` to the answer: why these CPUs, or which rule refuses."
    )
    make_room: bool = Field(
        default=False,
        description="With `dry_run`: if the request is refused, add `make_room` to the answer: the fewest claims whose"
        " moving would make room, and where they could go. The answer can take some seconds.",
    )
    numa_policy: NumaPolicy | None = Field(
        default=None, description="A wish in place of the option `numa-policy`; `null` leaves it to the operator."
    )
    cpu_thread_policy: CpuThreadPolicy | None = Field(
        default=None, description="A wish in place of the option `cpu-thread-policy`; `null` leaves it to the operator."
    )
    uncore_cache_alignment: UncoreCacheAlignment | None = Field(
        default=None,
        description="A wish in place of the option `uncore-cache-alignment`; `null` leaves it to the operator.",
    )
    near: Id | Device | None = Field(
        default=None,
        description="Prefer CPUs near this NUMA node, PCI address or network interface: printable ASCII without `/`."
        " Not with `allocate_numa_cores`.",
    )

    @field_validator("make_room", mode="after")
    @classmethod
    def _only_in_a_dry_run(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("dry_run"):
            raise ValueError("goes only with dry_run true, because nothing moves by itself")
        return value

    @field_validator("near", mode="wrap")
    @classmethod
    def _node_or_device(cls, value: object, validate_field: ValidatorFunctionWrapHandler) -> object:
        """Replace the errors of the three types by one sentence."""
        try:
            return validate_field(value)
        except ValidationError:
            raise ValueError(f"must be a NUMA node, a PCI address or a network interface, not {quote(value)}") from None


class AllocateCores(AllocationFields):
    """Give the service a number of CPUs in all."""

    action: Literal["allocate_cores"]
    num_of_cores: Count = Field(
        default=0, description="How many CPUs the service has afterwards. 0 is the default size, -1 releases all."
    )
    numa_node: None = Field(default=None, description="Accepted for older hypervisors, which send `null`.")

    @property
    def is_release(self) -> bool:
        """Whether the service gives back all CPUs that it holds in the pool."""
        return self.num_of_cores < 0

    @property
    def count(self) -> int | None:
        """How many CPUs the service has afterwards; None for the default size."""
        return self.num_of_cores or None


class AllocateCoresPercent(AllocationFields):
    """Give the service a percentage of the pool's CPUs in all."""

    action: Literal["allocate_cores_percent"]
    percent: Annotated[int, Field(ge=-1, le=100)] = Field(
        description="How many percent of the pool's eligible CPUs, rounded up. 0 and -1 release all."
    )

    @property
    def is_release(self) -> bool:
        """Whether the service gives back all CPUs that it holds in the pool."""
        return self.percent <= 0


class AllocateNumaCores(AllocationFields):
    """Give the service a number of CPUs in one NUMA node; what it holds in other nodes stays."""

    action: Literal["allocate_numa_cores"]
    numa_node: Id = Field(description="The NUMA node.")
    num_of_cores: CountButZero = Field(
        description="How many CPUs of the node the service has afterwards. -1 releases those of the node."
    )

    @property
    def is_release(self) -> bool:
        """Whether the service gives back the CPUs that it holds in the node."""
        return self.num_of_cores < 0

    @property
    def count(self) -> int:
        """How many CPUs of the node the service has afterwards."""
        return self.num_of_cores

    @field_validator("near", mode="after")
    @classmethod
    def _no_near(cls, value: object) -> object:
        if value is not None:
            raise ValueError("is not allowed for allocate_numa_cores: numa_node says where")
        return value


class AllocateHugepages(CommonFields):
    """Record how many hugepages of one size the service uses on one NUMA node."""

    action: Literal["allocate_hugepages"]
    service_name: ServiceName = Field(description="The service that uses the pages; printable characters only.")
    node_id: Id = Field(description="The NUMA node.")
    size_kb: Annotated[int, Field(ge=1, le=MOST)] = Field(description="The size of one page in KiB.")
    hugepages_requested: CountButZero = Field(
        description="How many pages the service has afterwards. -1 removes the record."
    )

    @property
    def is_release(self) -> bool:
        """Whether the record is removed."""
        return self.hugepages_requested < 0


Allocating = AllocateCores | AllocateCoresPercent | AllocateNumaCores
Mutation = Allocating | AllocateHugepages
Request = Reading | Mutation
