"""Requests: the models of what clients send, version 1.0, and how bytes become one of them.

A request is one JSON object. `parse` turns bytes into a model, or says that more bytes are needed, or raises
`ProtocolError` with the one sentence that goes back to the client. The numbers that stand for something else on the
wire (-1, 0) are decoded here: `is_release`, `count`.
"""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, Final, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import from_json

from epa_orchestrator.errors import EpaError
from epa_orchestrator.names import MAX_NAME_LENGTH, PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import CpuThreadPolicy, NumaPolicy, UncoreCacheAlignment

VERSION: Final = "1.0"

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

    @property
    def is_release(self) -> bool:
        """Whether the service gives back all that it holds in the pool."""
        return self.num_of_cores < 0

    @property
    def count(self) -> int | None:
        """How many CPUs the service wants in all; None for the default size."""
        return self.num_of_cores or None

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

    @property
    def is_release(self) -> bool:
        """Whether the service gives back all that it holds in the pool."""
        return self.percent <= 0


class AllocateNumaCores(_Allocation):
    """Replace what the service holds in a NUMA node by `num_of_cores` CPUs of it: -1 none."""

    action: Literal["allocate_numa_cores"]
    numa_node: Id
    num_of_cores: Count

    @property
    def is_release(self) -> bool:
        """Whether the service gives back what it holds in the node."""
        return self.num_of_cores < 0

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

    @property
    def is_release(self) -> bool:
        """Whether the record is removed."""
        return self.hugepages_requested < 0

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
