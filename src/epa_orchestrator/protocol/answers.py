# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Answers: the models of the answers, and their bytes on the wire.

The daemon makes an answer from a model, and the client reads it with the same one. The fields' descriptions are those
of docs/reference/protocol.md.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.protocol.fields import VERSION
from epa_orchestrator.protocol.room import MakeRoom

FEATURES: Final = (
    "non-preemptive-allocations",
    "cpu-pools",
    "placement",
    "placement-hints",
    "dry-run",
    "explain",
    "may-take",
    "get-machine",
    "watch",
    "get-history",
    "get-claim",
    "make-room",
    "get-isolation",
)


class Answer(BaseModel):
    """The fields that all answers have in common."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    version: str = Field(default=VERSION, description="The version of the protocol, always `1.0`.")
    warnings: tuple[str, ...] = Field(
        default=(),
        exclude_if=operator.not_,
        description="Sentences for the client or the operator, about what was granted, and fields that the daemon does"
        " not know. A refusal has none.",
    )

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return add_warnings(self.model_dump_json(exclude={"warnings"}).encode(), self.warnings)


def add_warnings(answer: bytes, warnings: Sequence[str]) -> bytes:
    """An encoded answer without warnings, with these as its last field; so a refusal begins as clients expect it."""
    return b"".join((answer[:-1], b',"warnings":', to_json(warnings), b"}")) if warnings else answer


class Candidate(BaseModel):
    """A candidate: the best CPUs of some NUMA nodes, and what they cost."""

    numa_nodes: str = Field(description="The NUMA nodes of the CPUs, as a list of ids.")
    cpus: str = Field(description="The CPUs, a CPU list.")
    cost: dict[str, int] = Field(
        description="The cost levels in the order of comparison, the most important first: level and value."
    )


class Explanation(BaseModel):
    """Why a request gets its CPUs, or none."""

    policy: dict[str, str | bool | int] = Field(
        description="The placement policy: the options with the request's wishes in them, and `near` as a NUMA node."
    )
    room: dict[str, int] = Field(
        description="By NUMA node, how many CPUs the service could have: free ones, its own, and those it may take."
    )
    scopes: list[Candidate] = Field(description="At most five candidates, the best one first.")
    decided_by: str = Field(description="A sentence that says what decided.")
    rule: str | None = Field(
        default=None, description="The option whose rule refused the request; `null` when the request was granted."
    )


class Placement(BaseModel):
    """Where the CPUs of an answer are."""

    numa_nodes: str = Field(description="The NUMA nodes of the CPUs, as a list of ids.")
    packages: int = Field(description="How many packages they are in.")
    l3_domains: int = Field(description="How many L3 domains they are in.")
    whole_cores: int = Field(description="How many cores the service has with all threads.")
    shared_cores: int = Field(description="How many cores it shares with another owner or the operating system.")
    withheld_cpus: str | None = Field(
        default=None,
        description="The CPUs withheld from all services because of this claim, a CPU list; left out if longer than"
        " 1024 characters. The listing always has it.",
    )
    nodeless_cpus: int | None = Field(
        default=None,
        exclude_if=operator.not_,
        description="How many of the CPUs are in no NUMA node that the kernel shows; left out when all are in one.",
    )


class ErrorAnswer(Answer):
    """A refusal."""

    error: str = Field(description="What is wrong, in one sentence.")
    explanation: Explanation | None = Field(
        default=None, description="The refused placement, if the request asked with `explain` and a rule refused it."
    )
    make_room: MakeRoom | None = Field(
        default=None,
        description="Which claims would have to move, if a dry run asked with `make_room` and was refused CPUs.",
    )

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return add_warnings(self.model_dump_json(exclude={"warnings"}, exclude_none=True).encode(), self.warnings)


class Allocated(Answer):
    """The fields that the answers to the allocating actions have in common."""

    placement: Placement | None = Field(
        default=None, description="Where the granted CPUs are; left out when none were granted."
    )
    dry_run: bool | None = Field(default=None, description="`true` when nothing was changed because of `dry_run`.")
    taken: dict[str, str] = Field(
        default_factory=dict[str, str],
        exclude_if=operator.not_,
        description="The services that lose CPUs to this request, and which, a CPU list; left out when there are none.",
    )
    explanation: Explanation | None = Field(
        default=None, description="Why these CPUs, if the request asked with `explain` and got some."
    )

    def encode(self) -> bytes:
        """The bytes on the wire."""
        left_out: dict[str, Any] = {name: True for name in _LEFT_OUT if getattr(self, name) is None}
        if self.placement is not None and self.placement.withheld_cpus is None:
            left_out["placement"] = {"withheld_cpus"}
        left_out["warnings"] = True
        return add_warnings(self.model_dump_json(exclude=left_out).encode(), self.warnings)


#: The fields of an allocating answer that are left out instead of null.
_LEFT_OUT: Final = ("placement", "dry_run", "explanation")


class CoresAnswer(Allocated):
    """The answer to allocate_cores."""

    service_name: str = Field(description="The service.")
    num_of_cores: int = Field(description="As requested; 0 after a release.")
    cores_allocated: int = Field(description="How many CPUs the service has now.")
    allocated_cores: str = Field(description="The CPUs that the service has now, a CPU list; empty after a release.")
    shared_cpus: str = Field(description="The free CPUs of the pool after this request, a CPU list.")
    total_available_cpus: int = Field(description="How many CPUs of the pool are eligible.")
    remaining_available_cpus: int = Field(description="How many CPUs of the pool are free after this request.")
    pool: PoolName = Field(description="The pool.")
    preemption_policy: PreemptionPolicy | None = Field(description="The service's policy; `null` after a release.")


class PercentAnswer(Allocated):
    """The answer to allocate_cores_percent."""

    service_name: str = Field(description="The service.")
    cores_allocated_count: int = Field(description="How many CPUs the service has now.")
    allocated_cores: str = Field(description="The CPUs that the service has now, a CPU list; empty after a release.")
    total_available_cpus: int = Field(description="How many CPUs of the pool are eligible.")
    remaining_available_cpus: int = Field(description="How many CPUs of the pool are free after this request.")
    pool: PoolName = Field(description="The pool.")
    preemption_policy: PreemptionPolicy | None = Field(description="The service's policy; `null` after a release.")


class NumaCoresAnswer(Allocated):
    """The answer to allocate_numa_cores."""

    service_name: str = Field(description="The service.")
    numa_node: int = Field(description="The NUMA node.")
    num_of_cores: int = Field(description="As requested; -1 after a release.")
    cores_allocated: str = Field(
        description="The CPUs of this node that the service has now, a CPU list, not a number; empty after a release."
    )
    total_available_cpus: int = Field(description="How many CPUs of the pool are eligible.")
    remaining_available_cpus: int = Field(description="How many CPUs of the pool are free after this request.")
    pool: PoolName = Field(description="The pool.")
    preemption_policy: PreemptionPolicy | None = Field(
        description="The service's policy; `null` when it has no CPUs left in any node."
    )


class HugepagesAnswer(Answer):
    """The answer to allocate_hugepages."""

    service_name: str = Field(description="The service.")
    hugepages_requested: int = Field(description="As requested; -1 after a removal.")
    allocation_successful: bool = Field(description="Always `true`: a refusal is an error.")
    message: str = Field(description="What was done, in one sentence.")
    node_id: int = Field(description="The NUMA node.")
    size_kb: int = Field(description="The size of one page in KiB.")


class PageCapacity(BaseModel):
    """The hugepages of one size on one NUMA node."""

    total: int = Field(description="How many pages the kernel has.")
    free: int = Field(description="How many can still be recorded.")
    size: int = Field(description="The size of one page in KiB.")


class PageRecord(BaseModel):
    """A hugepage record."""

    node_id: int = Field(description="The NUMA node.")
    size_kb: int = Field(description="The size of one page in KiB.")
    hugepages: int = Field(description="How many pages.")


class NodeHugepages(BaseModel):
    """The hugepages of one NUMA node."""

    capacity: list[PageCapacity] = Field(
        description="One entry for each size, ascending; empty on a node without hugepages."
    )
    allocations: dict[str, dict[str, int]] = Field(
        description="The records: by service, and by size in KiB, the number of pages."
    )


class LeftOut(BaseModel):
    """What an answer leaves out because it would be too long: only what has no hugepages and no records."""

    sizes_kb: dict[str, str] = Field(
        description="By size in KiB, the nodes whose `capacity` lacks the size, a list of ids: they have no such pages."
    )
    nodes: str = Field(description="The nodes without any hugepages that are left out as a whole, a list of ids.")


class MemoryAnswer(Answer):
    """The answer to get_memory_info."""

    service_name: str = Field(description="As requested; empty if the request had none.")
    numa_hugepages: dict[str, NodeHugepages] = Field(description="By NUMA node, as `node0`, the hugepages.")
    left_out: LeftOut | None = Field(
        default=None, description="What would make the answer longer than 4,095 bytes, and is left out."
    )
    state_error: str | None = Field(default=None, description="Why the daemon serves only the reading actions.")

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return add_warnings(self.model_dump_json(exclude={"warnings"}, exclude_none=True).encode(), self.warnings)


class PoolSummary(BaseModel):
    """The CPUs of a pool, as CPU lists."""

    source: Literal["isolated", "configured"] = Field(
        description="`isolated`: the kernel names the CPUs. `configured`: the option `cpu-pool` does."
    )
    configured_cpus: str = Field(description="The CPUs of the pool, offline ones too.")
    eligible_cpus: str = Field(description="Those that are online.")
    unavailable_allocated_cpus: str = Field(description="Claimed CPUs that are offline or no longer in the pool.")


class Allocation(BaseModel):
    """One service's claim in a listing."""

    service_name: str = Field(description="The service.")
    pool: PoolName = Field(description="The pool.")
    allocated_cores: str = Field(description="Its CPUs, a CPU list.")
    cores_count: int = Field(description="How many they are.")
    is_explicit: bool = Field(description="Whether `allocate_numa_cores` granted some of them.")
    preemption_policy: PreemptionPolicy = Field(description="The service's policy.")
    withheld_cpus: str | None = Field(
        default=None, description="The CPUs withheld from all services because of this claim, a CPU list."
    )


class ListingHead(Answer):
    """A listing without its allocations, which are encoded one by one and kept."""

    supported_cpu_features: tuple[str, ...] = Field(
        default=FEATURES, description="The [features](#features) of this daemon."
    )
    pool: PoolName = Field(description="The pool.")
    total_allocations: int = Field(description="How many services hold CPUs in the pool.")
    total_allocated_cpus: int = Field(description="How many CPUs they hold, unavailable ones too.")
    total_available_cpus: int = Field(description="How many CPUs of the pool are eligible.")
    remaining_available_cpus: int = Field(description="How many CPUs of the pool are free.")
    cpu_pool: PoolSummary = Field(description="The CPUs of the pool.")
    outdated_placements: tuple[str, ...] = Field(
        default=(),
        description="The services that would now get other CPUs because the options have changed, and those with a core"
        " to itself, or CPUs by a rule of the options, where the machine cannot keep this promise as it is now.",
    )
    state_error: str | None = Field(default=None, description="Why the daemon serves only the reading actions.")

    def encode_with(self, allocations: list[bytes]) -> bytes:
        """The whole listing without warnings; `allocations` are encoded `Allocation`s in order."""
        head = self.model_dump_json(exclude={"warnings"}, exclude_none=True).encode()
        return b"".join((head[:-1], b',"allocations":[', b",".join(allocations), b"]}"))


class Listing(ListingHead):
    """The answer to list_allocations, as a client reads it."""

    allocations: list[Allocation] = Field(description="The claims, ordered by service name.")
