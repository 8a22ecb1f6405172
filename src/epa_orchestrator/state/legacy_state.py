# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Legacy state: reads the older daemon's state file, whole or not at all, as long as this daemon has no database.

Other snaps can write the directory that it lies in, so its size and content are not trusted, and reading stops at the
first mistake.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from epa_orchestrator.allocation.claims import Claim, PageKind
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.documents import DuplicateKeyError, parse_document
from epa_orchestrator.files import UnsuitableFileError, read_regular_file
from epa_orchestrator.names import MAX_NAME_LENGTH, PoolName, PreemptionPolicy
from epa_orchestrator.state.errors import LegacyStateError

_MAX_BYTES: Final = 4 * 1024 * 1024

#: The most characters of a CPU list, in the kernel's notation: every other id up to the highest takes 191,000.
_MAX_LIST: Final = 200_000

_CpuList = Annotated[str, Field(max_length=_MAX_LIST)]
_Number = Annotated[int, Field(ge=0, lt=2**31)]


class _Model(BaseModel):
    """A part of the file. Unknown members are ignored; the validators are built when there is a file to read."""

    model_config = ConfigDict(strict=True, defer_build=True)


class _Sections(_Model):
    """The claims: a dictionary by service for each of the fields of `_Service`."""

    allocations: dict[str, Any] = {}
    explicit_allocations: dict[str, Any] = {}
    preemption_policies: dict[str, Any] = {}
    allocation_pools: dict[str, Any] = {}


class _Service(_Model):
    """The values of one service in the sections."""

    allocations: _CpuList
    explicit_allocations: _CpuList = ""
    preemption_policies: PreemptionPolicy = "legacy"
    allocation_pools: PoolName = "isolated"


class _Hugepages(_Model):
    """The hugepage records: `_Records` by service."""

    allocations: dict[str, Any] = {}


class _Record(_Model):
    node_id: _Number
    size_kb: Annotated[_Number, Field(gt=0)]
    count: _Number


class _Records(_Model):
    """The hugepage records of one service."""

    hugepages: Annotated[list[_Record], FailFast()]


class _File(_Model):
    version: int = 1
    allocations_db: _Sections = Field(default_factory=_Sections)
    hugepages_db: _Hugepages = Field(default_factory=_Hugepages)


def read_legacy_state(path: Path) -> Ledger | None:
    """The older daemon's claims and hugepage records, None when it left no file.

    Raises LegacyStateError.
    """
    text = _read(path)
    if text is None:
        return None
    file = _parse(text)
    claims, pages = _claims(file.allocations_db), _pages(file.hugepages_db)
    try:
        return Ledger.of(claims, pages)
    except ValueError as error:
        raise LegacyStateError(str(error)) from None


def _read(path: Path) -> bytes | None:
    """The file's bytes; only a regular file, as others may have put a link or a FIFO in its place."""
    try:
        return read_regular_file(path, _MAX_BYTES, follow_link=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LegacyStateError(f"it cannot be opened: {error.strerror}") from None
    except UnsuitableFileError as error:
        raise LegacyStateError(str(error)) from None


def _parse(text: bytes) -> _File:
    try:
        file = _File.model_validate(parse_document(text))
    except DuplicateKeyError as error:
        raise LegacyStateError(str(error)) from None
    except ValidationError as error:
        raise LegacyStateError(_mistake(error)) from None
    except ValueError as error:
        raise LegacyStateError(f"it is not JSON: {error}") from None
    if file.version != 1:
        raise LegacyStateError(f"version is {_echo(file.version)}, only 1 is known")
    return file


def _claims(sections: _Sections) -> list[Claim]:
    by_name: dict[str, dict[str, Any]] = dict(sections)
    for name, section in by_name.items():
        for service in section:
            _check_name(service, name)
            if service not in sections.allocations:
                raise LegacyStateError(f"{name} names service '{service}', which holds no CPUs")
    claims: list[Claim] = []
    claimed = EMPTY
    for service in sections.allocations:
        values = {name: section[service] for name, section in by_name.items() if service in section}
        try:
            entry = _Service.model_validate(values)
        except ValidationError as error:
            raise LegacyStateError(_mistake(error, f" of service '{service}'")) from None
        cpus = _cpu_list("allocations", service, entry.allocations)
        if both := cpus & claimed:
            # Checked here before thousands of such lists fill the memory; the ledger would find it later.
            raise LegacyStateError(f"CPUs {str(both)[:80]} of service '{service}' are owned by another service as well")
        claimed |= cpus
        all_explicit = entry.explicit_allocations == entry.allocations
        explicit = cpus if all_explicit else _cpu_list("explicit_allocations", service, entry.explicit_allocations)
        claims.append(Claim(service, entry.allocation_pools, cpus, explicit, entry.preemption_policies))
    return claims


def _cpu_list(section: str, service: str, text: str) -> CpuSet:
    try:
        return CpuSet.parse(text)
    except ValueError as error:
        raise LegacyStateError(f"{section} of service '{service}' is not a CPU list: {error}") from None


def _pages(section: _Hugepages) -> dict[str, dict[PageKind, int]]:
    pages: dict[str, dict[PageKind, int]] = {}
    for service, records in section.allocations.items():
        _check_name(service, "hugepages_db.allocations")
        try:
            entry = _Records(hugepages=records)
        except ValidationError as error:
            raise LegacyStateError(_mistake(error, f" of service '{service}'")) from None
        counts: dict[PageKind, int] = {}
        for record in entry.hugepages:
            if (record.node_id, record.size_kb) in counts:
                raise LegacyStateError(f"hugepages of service '{service}' names a node and size twice")
            counts[record.node_id, record.size_kb] = record.count
        pages[service] = {kind: count for kind, count in counts.items() if count}
    return pages


def _check_name(service: str, section: str) -> None:
    if not 1 <= len(service) <= MAX_NAME_LENGTH or not service.isprintable():
        raise LegacyStateError(
            f"{section} holds a service name that is not 1 to {MAX_NAME_LENGTH} printable characters"
        )


def _mistake(error: ValidationError, of_service: str = "") -> str:
    """The first mistake in one sentence."""
    first = error.errors(include_url=False)[0]
    where = (".".join(map(str, first["loc"])) or "the file") + of_service
    match first["type"]:
        case "missing":
            return f"{where} is missing"
        case "string_too_long":
            return f"{where} has more than {_MAX_LIST} characters"
        case "string_unicode":
            return f"{where} is not valid Unicode"
        case "model_type" | "dict_type":
            return f"{where} is not a JSON object"
        case _:
            expected = first["msg"].removeprefix("Input should be ")
            return f"{where} is {_echo(first['input'])}, not {expected}"


def _echo(value: object) -> str:
    """A value of the file, cut short. Lists and objects are only named: they may be nested very deeply."""
    match value:
        case list():
            return "a list"
        case dict():
            return "an object"
        case str():
            return repr(value[:40])
        case _:
            return json.dumps(value)[:40]
