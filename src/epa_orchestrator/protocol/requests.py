# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Requests: the models of the requests of protocol 1.0, and how bytes become one of them.

A request is one JSON object. `parse` turns bytes into a model, reports that more bytes are needed, or raises
`ProtocolError` with the sentence for the client. The models decode the numbers with a meaning of their own (-1, 0) as
`is_release` and `count`. The fields' descriptions are those of docs/protocol.md.
"""

from __future__ import annotations

import codecs
import re
from functools import cache, cached_property
from typing import Annotated, Any, Final, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import from_json

from epa_orchestrator.errors import EpaError
from epa_orchestrator.names import MAX_NAME_LENGTH, PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import CpuThreadPolicy, NumaPolicy, UncoreCacheAlignment
from epa_orchestrator.protocol.quoting import about_unknown_fields, cut, quote

VERSION: Final = "1.0"

#: The largest request (bytes).
MAX_REQUEST_BYTES: Final = 65_536

#: Pydantic's types of errors about a value, and what the value must be.
_EXPECTED: Final = {
    "literal_error": "{expected}",
    "int_type": "a JSON integer",
    "int_from_float": "a JSON integer",
    "bool_type": "true or false",
    "string_type": "a string",
    "dict_type": "a JSON object",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}
_NOT_BLANK: Final = re.compile(rb"\S")
#: Numbers of CPUs, nodes and pages are far below; the bound keeps them inside what SQLite and clients can hold.
_MOST: Final = 2**31 - 1


class ProtocolError(EpaError):
    """A request that cannot be served as it is."""


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("must hold printable characters only")
    return name


def _not_zero(value: int, info: ValidationInfo) -> int:
    if value == 0:
        raise ProtocolError(f"{info.field_name}=0 is invalid for {info.data['action']}")
    return value


ServiceName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH), AfterValidator(_printable)]
Id = Annotated[int, Field(ge=0, le=_MOST)]
Count = Annotated[int, Field(ge=-1, le=_MOST)]
#: A count in a model whose first field is `action`.
CountButZero = Annotated[Count, AfterValidator(_not_zero), Field(json_schema_extra={"not": {"const": 0}})]
#: Printable ASCII without a slash, neither "." nor "..": the name is looked up in sysfs, so it must not be a path.
Device = Annotated[str, Field(max_length=64, pattern=r"^(\.{0,2}[!-\-0-~][!-.0-~]*|\.{3}[!-.0-~]*)$")]


class CommonFields(BaseModel):
    """The fields that all actions have in common."""

    # Models are built when first used, so that a daemon which starts answers its first listing soon.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, defer_build=True)

    version: Literal["1.0"] = Field(default=VERSION, description="The version of the protocol.")

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """The warnings about the request, for its answer: `validate` puts those about unknown fields here."""
        return ()


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


class AllocateHugepages(CommonFields):
    """Record how many hugepages of one size the service uses on one NUMA node."""

    action: Literal["allocate_hugepages"]
    service_name: ServiceName = Field(description="The service that uses the pages; printable characters only.")
    node_id: Id = Field(description="The NUMA node.")
    size_kb: Annotated[int, Field(ge=1, le=_MOST)] = Field(description="The size of one page in KiB.")
    hugepages_requested: CountButZero = Field(
        description="How many pages the service has afterwards. -1 removes the record."
    )

    @property
    def is_release(self) -> bool:
        """Whether the record is removed."""
        return self.hugepages_requested < 0


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
    """The request in `data`; None while more bytes can make it one.

    Raises ProtocolError as soon as none can.
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
    """Whether the bytes are UTF-8, except that their last character may be cut off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def validate(document: dict[str, Any]) -> Request:
    """The request in a JSON object.

    Raises ProtocolError.
    """
    action = document.get("action")
    model = _MODELS.get(action) if isinstance(action, str) else None
    if model is None:
        shown = cut(action) if isinstance(action, str) else quote(action)
        raise ProtocolError(f"Unknown action: {shown}" if "action" in document else "Field 'action' is missing")
    try:
        request = model.model_validate(document)
    except ValidationError as error:
        raise ProtocolError(_sentence(error)) from None
    if len(request.model_fields_set) < len(document):
        vars(request)["warnings"] = _warnings(model, document)
    return request


def _warnings(model: type[Request], document: dict[str, Any]) -> tuple[str, ...]:
    """The warnings about fields that have no effect, because the action does not have them.

    Without those that are null and that another action has: some clients send one form for all actions.
    """
    return about_unknown_fields(
        name
        for name, value in document.items()
        if name not in model.model_fields and (value is not None or name not in _all_fields())
    )


@cache
def _all_fields() -> frozenset[str]:
    """The fields of all actions."""
    return frozenset(name for model in _MODELS.values() for name in model.model_fields)


def _sentence(error: ValidationError) -> str:
    """The first mistake in one sentence."""
    first = error.errors(include_url=False)[0]
    kind, value, context = first["type"], first["input"], first.get("ctx", {})
    field = f"Field '{first['loc'][0]}'"
    match kind:
        case "missing":
            return f"{field} is missing"
        case "value_error":
            return f"{field} {context['error']}"
        case "none_required":
            return f"{field} is not allowed for allocate_cores: use allocate_numa_cores"
        case "string_too_short" | "string_too_long":
            return f"{field} must have 1 to {MAX_NAME_LENGTH} characters, not {len(value)}"
        case _:
            return f"{field} must be {_EXPECTED[kind].format(**context)}, not {quote(value)}"
