# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Parsing: from the bytes of a request to its model.

A request is one JSON object. `parse` turns bytes into a model, reports that more bytes are needed, or raises
`ProtocolError` with the sentence for the client.
"""

from __future__ import annotations

import codecs
import re
from functools import cache
from typing import Any, Final, cast

from pydantic import ValidationError
from pydantic_core import from_json

from epa_orchestrator.names import MAX_NAME_LENGTH
from epa_orchestrator.protocol.fields import ProtocolError
from epa_orchestrator.protocol.quoting import about_unknown_fields, cut, quote
from epa_orchestrator.protocol.readings import (
    GetClaim,
    GetHistory,
    GetIsolation,
    GetMachine,
    GetMemoryInfo,
    ListAllocations,
    Watch,
)
from epa_orchestrator.protocol.requests import (
    AllocateCores,
    AllocateCoresPercent,
    AllocateHugepages,
    AllocateNumaCores,
    Request,
)

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

_MODELS: Final[dict[str, type[Request]]] = {
    "allocate_cores": AllocateCores,
    "allocate_cores_percent": AllocateCoresPercent,
    "allocate_numa_cores": AllocateNumaCores,
    "list_allocations": ListAllocations,
    "get_memory_info": GetMemoryInfo,
    "allocate_hugepages": AllocateHugepages,
    "get_machine": GetMachine,
    "watch": Watch,
    "get_history": GetHistory,
    "get_claim": GetClaim,
    "get_isolation": GetIsolation,
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
