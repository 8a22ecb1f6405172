# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Fields: the types of the fields of requests, and the fields that all requests have in common.

The fields' descriptions are those of docs/reference/protocol.md.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from epa_orchestrator.errors import EpaError
from epa_orchestrator.names import MAX_NAME_LENGTH

VERSION: Final = "1.0"

#: Numbers of CPUs, nodes and pages are far below; the bound keeps them inside what SQLite and clients can hold.
MOST: Final = 2**31 - 1


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
Id = Annotated[int, Field(ge=0, le=MOST)]
Count = Annotated[int, Field(ge=-1, le=MOST)]
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
