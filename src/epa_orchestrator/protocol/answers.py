"""Answers: what goes back to a client, and its bytes on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.protocol.requests import VERSION

FEATURES: Final = (
    "non-preemptive-allocations",
    "cpu-pools",
    "placement",
    "placement-hints",
    "dry-run",
    "explain",
)


class Answer(BaseModel):
    """What goes back to the client."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    version: str = VERSION

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return self.model_dump_json().encode()


class Scope(BaseModel):
    """The best choice from some NUMA nodes: node ids and CPUs as lists, and the compared components of its cost."""

    numa_nodes: str
    cpus: str
    cost: dict[str, int]


class Explanation(BaseModel):
    """Why a request gets its CPUs, or none.

    `policy` is what it was placed by, `room` how many free CPUs and CPUs of its own each NUMA node had for it. `scopes`
    are the best few choices, best first, the components of their costs in the order in which they were compared.
    `decided_by` is a sentence; `rule` the option that refused.
    """

    policy: dict[str, str | bool | int]
    room: dict[str, int]
    scopes: list[Scope]
    decided_by: str
    rule: str | None = None


class Placement(BaseModel):
    """Where the CPUs of an answer are.

    `numa_nodes` is a list of node ids and `withheld_cpus` one of CPUs that the claim keeps from others, left out when
    it is long: a listing has it. The others are numbers: of packages, of L3 domains, of cores that are the service's
    own with all threads, and of cores that it shares with another owner.
    """

    numa_nodes: str
    packages: int
    l3_domains: int
    whole_cores: int
    shared_cores: int
    withheld_cpus: str | None = None


class ErrorAnswer(Answer):
    """A refusal, in one sentence, with the reasons if the request asked for them."""

    error: str
    explanation: Explanation | None = None

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return self.model_dump_json(exclude_none=True).encode()


class Allocated(Answer):
    """What the answers to the allocating actions have in common; None where it does not apply, and then not sent."""

    placement: Placement | None = None
    dry_run: bool | None = None
    explanation: Explanation | None = None

    def encode(self) -> bytes:
        """The bytes on the wire."""
        left_out: dict[str, Any] = {name: True for name in Allocated.model_fields if getattr(self, name) is None}
        if self.placement is not None and self.placement.withheld_cpus is None:
            left_out["placement"] = {"withheld_cpus"}
        return self.model_dump_json(exclude=left_out).encode()


class CoresAnswer(Allocated):
    """The answer to allocate_cores."""

    service_name: str
    num_of_cores: int
    cores_allocated: int
    allocated_cores: str
    shared_cpus: str
    total_available_cpus: int
    remaining_available_cpus: int
    pool: PoolName
    preemption_policy: PreemptionPolicy | None


class PercentAnswer(Allocated):
    """The answer to allocate_cores_percent."""

    service_name: str
    cores_allocated_count: int
    allocated_cores: str
    total_available_cpus: int
    remaining_available_cpus: int
    pool: PoolName
    preemption_policy: PreemptionPolicy | None


class NumaCoresAnswer(Allocated):
    """The answer to allocate_numa_cores; `cores_allocated` is a CPU list here."""

    service_name: str
    numa_node: int
    num_of_cores: int
    cores_allocated: str
    total_available_cpus: int
    remaining_available_cpus: int
    pool: PoolName
    preemption_policy: PreemptionPolicy | None


class HugepagesAnswer(Answer):
    """The answer to allocate_hugepages."""

    service_name: str
    hugepages_requested: int
    allocation_successful: bool
    message: str
    node_id: int
    size_kb: int


class PageCapacity(BaseModel):
    """Hugepages of one size (KiB) on one node."""

    total: int
    free: int
    size: int


class NodeHugepages(BaseModel):
    """One node's hugepages, and the records of each service by size."""

    capacity: list[PageCapacity]
    allocations: dict[str, dict[str, int]]


class MemoryAnswer(Answer):
    """The answer to get_memory_info."""

    service_name: str
    numa_hugepages: dict[str, NodeHugepages]
    state_error: str | None = None

    def encode(self) -> bytes:
        """The bytes on the wire, `state_error` only when there is one."""
        return self.model_dump_json(exclude_none=True).encode()


def encode_memory(
    service_name: str, nodes: Iterable[tuple[int, list[PageCapacity], bytes]], state_error: str | None
) -> bytes:
    """The bytes of a `MemoryAnswer`; `nodes` are node ids, each with its capacity and its encoded allocations."""
    members = [
        b'"node%d":{"capacity":%b,"allocations":%b}' % (node_id, to_json(capacity), allocations)
        for node_id, capacity, allocations in nodes
    ]
    end = b"" if state_error is None else b',"state_error":' + to_json(state_error)
    head = b'{"version":%b,"service_name":%b,"numa_hugepages":{' % (to_json(VERSION), to_json(service_name))
    return b"".join((head, b",".join(members), b"}", end, b"}"))


class PoolSummary(BaseModel):
    """Which CPUs a pool is made of, as CPU lists."""

    source: Literal["isolated", "configured"]
    configured_cpus: str
    eligible_cpus: str
    unavailable_allocated_cpus: str


class Allocation(BaseModel):
    """One service's claim in a listing."""

    service_name: str
    pool: PoolName
    allocated_cores: str
    cores_count: int
    is_explicit: bool
    preemption_policy: PreemptionPolicy
    withheld_cpus: str | None = None


class ListingHead(Answer):
    """A listing without its allocations, which are encoded one by one and kept.

    `outdated_placements` are the services whose CPUs the settings in use would choose otherwise.
    """

    supported_cpu_features: tuple[str, ...] = FEATURES
    pool: PoolName
    total_allocations: int
    total_allocated_cpus: int
    total_available_cpus: int
    remaining_available_cpus: int
    cpu_pool: PoolSummary
    outdated_placements: tuple[str, ...] = ()
    state_error: str | None = None

    def encode_with(self, allocations: list[bytes]) -> bytes:
        """The whole listing; `allocations` are encoded `Allocation`s in order."""
        head = self.model_dump_json(exclude_none=True).encode()
        return b"".join((head[:-1], b',"allocations":[', b",".join(allocations), b"]}"))


class Listing(ListingHead):
    """The answer to list_allocations, as a client reads it."""

    allocations: list[Allocation]
