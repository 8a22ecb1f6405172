"""Protocol: the requests and answers on the wire, version 1.0, and nothing else.

A request is one JSON object; `parse` turns bytes into one of the request models, or says that more bytes are needed, or
raises `ProtocolError` with the one sentence that goes back to the client. Answers are models whose `encode` is the one
write that leaves.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import from_json, to_json

from epa_orchestrator.errors import EpaError
from epa_orchestrator.names import MAX_NAME_LENGTH, PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import CpuThreadPolicy, NumaPolicy, UncoreCacheAlignment

VERSION: Final = "1.0"
FEATURES: Final = (
    "non-preemptive-allocations",
    "cpu-pools",
    "placement",
    "placement-hints",
    "dry-run",
    "explain",
)

#: A request may not be larger (bytes), and must have arrived whole within this time (seconds).
MAX_REQUEST_BYTES: Final = 65_536

_NOT_BLANK: Final = re.compile(rb"\S")
#: How much of a client's own text an error repeats.
_ECHO: Final = 80


class ProtocolError(EpaError):
    """A request that cannot be served as it is."""


def _service_name(name: str) -> str:
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise ValueError(f"must have 1 to {MAX_NAME_LENGTH} characters, not {len(name)}")
    if not name.isprintable():
        raise ValueError("must hold printable characters only")
    return name


ServiceName = Annotated[str, AfterValidator(_service_name)]

#: What can be a PCI address or the name of a network interface, and no path.
_DEVICE: Final = re.compile(r"(?!\.\.?$)[!-.0-~]{1,64}")

#: Numbers of CPUs, nodes and pages are far below; a bound keeps them inside what SQLite and clients can hold.
Count = Annotated[int, Field(ge=-1, le=2**31 - 1)]
Id = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Request(BaseModel):
    # Models are built when first used: a daemon that starts shall answer its first listing soon.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, defer_build=True)

    version: Literal["1.0"] = VERSION


class _Allocation(_Request):
    """What the allocating actions have in common.

    With `dry_run` nothing is changed; with `explain` the answer says why. The fields after these are the request's own
    wishes, null for the operator's; `near` is a NUMA node, a PCI address or a network interface.
    """

    service_name: ServiceName
    pool: PoolName = "isolated"
    preemption_policy: PreemptionPolicy | None = None
    dry_run: bool = False
    explain: bool = False
    numa_policy: NumaPolicy | None = None
    cpu_thread_policy: CpuThreadPolicy | None = None
    uncore_cache_alignment: UncoreCacheAlignment | None = None
    near: int | str | None = None

    @field_validator("near", mode="before")
    @classmethod
    def _node_or_device(cls, value: object) -> object:
        is_node = type(value) is int and 0 <= value < 2**31
        is_device = isinstance(value, str) and _DEVICE.fullmatch(value) is not None
        if value is not None and not is_node and not is_device:
            raise ValueError(f"must be a NUMA node, a PCI address or a network interface, not {_echo(value)}")
        return value


class AllocateCores(_Allocation):
    """Replace all that the service holds by `num_of_cores` CPUs: 0 the default size, -1 none."""

    action: Literal["allocate_cores"]
    num_of_cores: Count = 0
    numa_node: None = None

    @field_validator("numa_node", mode="before")
    @classmethod
    def _no_node(cls, value: object) -> object:
        if value is not None:
            raise ValueError("is not allowed for allocate_cores: use allocate_numa_cores")
        return value


class AllocateCoresPercent(_Allocation):
    """Replace all that the service holds by a percentage of the pool, rounded up: 0 or -1 none."""

    action: Literal["allocate_cores_percent"]
    percent: Annotated[int, Field(ge=-1, le=100)]


class AllocateNumaCores(_Allocation):
    """Replace what the service holds in a NUMA node by `num_of_cores` CPUs of it: -1 none."""

    action: Literal["allocate_numa_cores"]
    numa_node: Id
    num_of_cores: Count

    @field_validator("near", mode="after")
    @classmethod
    def _in_the_node(cls, value: object) -> object:
        if value is not None:
            raise ValueError("is not allowed for allocate_numa_cores: numa_node says where")
        return value

    @field_validator("num_of_cores")
    @classmethod
    def _not_zero(cls, value: int) -> int:
        if value == 0:
            raise ProtocolError("num_of_cores=0 is invalid for allocate_numa_cores")
        return value


class ListAllocations(_Request):
    """All claims of a pool."""

    action: Literal["list_allocations"]
    service_name: ServiceName | None = None
    pool: PoolName = "isolated"


class GetMemoryInfo(_Request):
    """The hugepages of every node."""

    action: Literal["get_memory_info"]
    service_name: ServiceName | None = None


class AllocateHugepages(_Request):
    """Record that the service has `hugepages_requested` pages of a size on a node: -1 removes the record."""

    action: Literal["allocate_hugepages"]
    service_name: ServiceName
    node_id: Id
    size_kb: Annotated[int, Field(gt=0, le=2**31 - 1)]
    hugepages_requested: Count

    @field_validator("hugepages_requested")
    @classmethod
    def _not_zero(cls, value: int) -> int:
        if value == 0:
            raise ProtocolError("hugepages_requested=0 is invalid for allocate_hugepages")
        return value


Reading = ListAllocations | GetMemoryInfo
Allocating = AllocateCores | AllocateCoresPercent | AllocateNumaCores
Mutation = Allocating | AllocateHugepages
Request = Reading | Mutation

_MODELS: Final[dict[str, type[Request]]] = {
    "allocate_cores": AllocateCores,
    "allocate_cores_percent": AllocateCoresPercent,
    "allocate_numa_cores": AllocateNumaCores,
    "list_allocations": ListAllocations,
    "get_memory_info": GetMemoryInfo,
    "allocate_hugepages": AllocateHugepages,
}


def parse(data: bytes | bytearray) -> Request | None:
    """The request in `data`, None while it may still become one as more bytes arrive.

    Raises ProtocolError as soon as it cannot.
    """
    first = _NOT_BLANK.search(data)
    if first and first[0] != b"{":
        raise ProtocolError("The request is not a JSON object")
    try:
        document: object = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        reason = str(error)
        if reason.startswith("EOF while parsing") and _may_become_utf8(data):
            return None
        raise ProtocolError(f"The request is not one valid JSON object: {reason}") from None
    return validate(cast("dict[str, Any]", document))


def _may_become_utf8(data: bytes | bytearray) -> bool:
    """Whether the bytes are UTF-8 but for a character that is still cut off at their end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def validate(document: dict[str, Any]) -> Request:
    """The request that a JSON object stands for.

    Raises ProtocolError.
    """
    action = document.get("action")
    model = _MODELS.get(action) if isinstance(action, str) else None
    if model is None:
        raise ProtocolError(f"Unknown action: {_echo(action)}" if "action" in document else "Field 'action' is missing")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ProtocolError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    """The first mistake in one sentence."""
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0])
    context = first.get("ctx", {})
    match first["type"]:
        case "missing":
            return f"Field '{field}' is missing"
        case "value_error":
            return f"Field '{field}' {context['error']}"
        case "literal_error":
            expected = f"must be {context['expected']}"
        case "int_type" | "int_from_float":
            expected = "must be a JSON integer"
        case "bool_type":
            expected = "must be true or false"
        case "string_type":
            expected = "must be a string"
        case _:
            expected = f"is not valid ({first['msg'][0].lower()}{first['msg'][1:]})"
    return f"Field '{field}' {expected}, not {_echo(first['input'])}"


def _echo(value: object) -> str:
    """A client's own value inside a sentence, cut short."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _ECHO else text[:_ECHO] + "…"


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
