# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Writes the parts of the protocol's documents that come from the models: `python tools/write_protocol.py [--check]`.

In docs/reference, protocol.schema.json is the JSON Schema of all requests and answers, and each table of protocol.md
below a comment `<!-- fields: MODEL -->` is written here.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final, get_args

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from pydantic import BaseModel  # noqa: E402  (importable only now, when run as a script)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema  # noqa: E402

from epa_orchestrator.protocol.answers import (  # noqa: E402
    Allocated,
    Answer,
    CoresAnswer,
    ErrorAnswer,
    HugepagesAnswer,
    Listing,
    MemoryAnswer,
    NumaCoresAnswer,
    PercentAnswer,
)
from epa_orchestrator.protocol.fields import CommonFields  # noqa: E402
from epa_orchestrator.protocol.history import ClaimAnswer, HistoryAnswer  # noqa: E402
from epa_orchestrator.protocol.isolation import IsolationAnswer  # noqa: E402
from epa_orchestrator.protocol.machine import MachineAnswer  # noqa: E402
from epa_orchestrator.protocol.requests import AllocationFields, Request  # noqa: E402
from epa_orchestrator.protocol.watching import ClaimEvent, HugepagesEvent, MachineEvent, StateEvent  # noqa: E402
from tools.generated import write_or_check  # noqa: E402

Schema = dict[str, Any]

DOCUMENT: Final = ROOT / "docs" / "reference" / "protocol.md"
SCHEMA: Final = ROOT / "docs" / "reference" / "protocol.schema.json"

#: The headings of models that are described as the answer of an action.
_ELSEWHERE: Final = {"Listing": "list_allocations"}

REQUESTS: Final[tuple[type[BaseModel], ...]] = get_args(Request)
ANSWERS: Final = (
    CoresAnswer,
    PercentAnswer,
    NumaCoresAnswer,
    Listing,
    MemoryAnswer,
    HugepagesAnswer,
    MachineAnswer,
    HistoryAnswer,
    ClaimAnswer,
    IsolationAnswer,
    ErrorAnswer,
    StateEvent,
    ClaimEvent,
    MachineEvent,
    HugepagesEvent,
)
#: The models whose fields have a table of their own, so that the tables of the others leave them out.
SHARED: Final[tuple[type[BaseModel], ...]] = (CommonFields, AllocationFields, Answer, Allocated, Listing)

#: Fields of answers with the default null that are sent all the same.
_SENT_AS_NULL: Final = {"rule"}
#: Fields of answers that are left out when they are empty.
_LEFT_OUT_WHEN_EMPTY: Final = {
    *("warnings", "taken", "taken_from", "taken_from_others", "taken_by", "damaged"),
    *("core_neighbours", "unavailable", "no_longer_withheld", "more_threads"),
}

_TABLE: Final = re.compile(r"(<!-- fields: (\w+) -->\n)\n*(?:\|.*\n)*\n*")


class _WithoutFieldTitles(GenerateJsonSchema):
    """Titles would only repeat the names of the fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def build_schema() -> Schema:
    """The JSON Schema of the protocol; every model is a definition in it."""
    requests, answers = _definitions(REQUESTS), _definitions(ANSWERS)
    unions = {
        "Request": {"anyOf": [_reference(model) for model in REQUESTS]},
        "Answer": {"anyOf": [_reference(model) for model in ANSWERS]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The EPA socket protocol, version 1.0",
        "description": "Written by tools/write_protocol.py. Validate with #/$defs/Request, or with a single model.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in unions],
        "$defs": unions | requests | {name: _as_sent(answer) for name, answer in answers.items()},
    }


def _definitions(models: tuple[type[BaseModel], ...]) -> dict[str, Schema]:
    inputs: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in models]
    _, schema = models_json_schema(inputs, ref_template="#/$defs/{model}", schema_generator=_WithoutFieldTitles)
    return schema["$defs"]


def _reference(model: type[BaseModel]) -> Schema:
    return {"$ref": f"#/$defs/{model.__name__}"}


def _as_sent(answer: Schema) -> Schema:
    """The model of an answer as the daemon sends it: a field whose default is null is left out rather than null."""
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for name, field in answer["properties"].items():
        if name in _LEFT_OUT_WHEN_EMPTY:
            properties[name] = {key: value for key, value in field.items() if key != "default"}
        elif "default" not in field or field["default"] is not None or name in _SENT_AS_NULL:
            required.append(name)
            properties[name] = {key: value for key, value in field.items() if key != "default"}
        else:
            values = [each for each in field["anyOf"] if each != {"type": "null"}]
            kind = values[0] if len(values) == 1 else {"anyOf": values}
            properties[name] = kind | {"description": field["description"]}
    return answer | {"properties": properties, "required": required}


def tables() -> dict[str, str]:
    """The table of each model's fields, without `action` and the fields that have a table of their own."""
    requests = _definitions((*REQUESTS, CommonFields, AllocationFields))
    answers = {name: _as_sent(answer) for name, answer in _definitions((*ANSWERS, Answer, Allocated)).items()}
    shared = _inherited_fields()
    found: dict[str, str] = {}
    for name, definition in (requests | answers).items():
        column, presence = ("default", _default) if name in requests else ("sent", _sent)
        rows = [("field", "type", column, "meaning"), ("---",) * 4]
        for field, schema in definition["properties"].items():
            if field != "action" and field not in shared.get(name, ()):
                rows.append((f"`{field}`", _type(schema), presence(field, definition), schema["description"]))
        found[name] = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return found


def _inherited_fields() -> dict[str, set[str]]:
    """By the name of a model, the fields that it has from the shared ones."""
    return {
        model.__name__: {
            field for base in SHARED if base is not model and issubclass(model, base) for field in base.model_fields
        }
        for model in (*REQUESTS, *ANSWERS, *SHARED)
    }


def _default(name: str, definition: Schema) -> str:
    if name in definition.get("required", ()):
        return "required"
    return f"`{json.dumps(definition['properties'][name]['default'])}`"


def _sent(name: str, definition: Schema) -> str:
    return "always" if name in definition["required"] else "if it applies"


def _type(field: Schema) -> str:
    """A field's type and range in words."""
    match field:
        case {"anyOf": types}:
            return " or ".join(map(_type, types))
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return f"[{name}](#{_ELSEWHERE.get(name, name.lower())})"
        case {"const": value}:
            return f"`{json.dumps(value)}`"
        case {"enum": values}:
            return ", ".join(f"`{json.dumps(value)}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_plural(items)}"
        case {"type": "object", "additionalProperties": values}:
            return f"object of {_plural(values)}"
        case {"type": "integer", "minimum": least, "maximum": most}:
            return f"integer from {least} to {most}" + (" except 0" if "not" in field else "")
        case {"type": "string", "minLength": least, "maxLength": most}:
            return f"string of {least} to {most} characters"
        case {"type": "string", "maxLength": most}:
            return f"string of at most {most} characters"
        case _:
            return str(field["type"])


def _plural(field: Schema) -> str:
    name = _type(field)
    return f"{name}s" if name.isalpha() else name


def fill_in(document: str) -> str:
    """The document with the tables of all models that it names."""
    found = tables()
    return _TABLE.sub(lambda match: f"{match[1]}\n{found[match[2]]}\n", document)


def main() -> int:
    """Write both files, or with --check compare them; the exit code is 1 if one is out of date."""
    schema = json.dumps(build_schema(), indent=1) + "\n"
    document = fill_in(DOCUMENT.read_text(encoding="utf-8"))
    return write_or_check("write_protocol.py", __doc__, {SCHEMA: schema, DOCUMENT: document})


if __name__ == "__main__":
    sys.exit(main())
