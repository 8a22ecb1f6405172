# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Legacy state: reads the older daemon's state file, record by record, as long as this daemon has no database.

Records that the older daemon accepted and that own nothing are left out: without CPUs or pages, or under a name that no
request can have. Any other mistake could hide an owner, so it stops the reading. Other snaps can write the directory
of the file, so neither its size nor its content is trusted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from epa_orchestrator.allocation.claims import Claim, PageKind
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.documents import DuplicateKeyError, parse_document
from epa_orchestrator.errors import printable
from epa_orchestrator.files import UnsuitableFileError, read_regular_file
from epa_orchestrator.names import MAX_NAME_LENGTH, PoolName, PreemptionPolicy
from epa_orchestrator.state.errors import LegacyStateError

_MAX_BYTES: Final = 4 * 1024 * 1024

#: The most bytes that are read of a file only to name services of it.
_MAX_BYTES_FOR_NAMES: Final = 256 * 1024

#: How many characters of a text of the file a sentence shows.
_SHOWN: Final = 40

#: The most services that a warning names.
_MOST_NAMES: Final = 3

#: Receives, for each record that is left out, what it is and why.
LeftOut = Callable[[str], None]

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


class _File(_Model):
    version: int = 1
    allocations_db: _Sections = Field(default_factory=_Sections)
    hugepages_db: _Hugepages = Field(default_factory=_Hugepages)


def read_legacy_state(path: Path, left_out: LeftOut = lambda _: None) -> Ledger | None:
    """The older daemon's claims and hugepage records, None when it left no file.

    Raises LegacyStateError.
    """
    text = _read(path)
    if text is None:
        return None
    file = _parse(text)
    claims, pages = _claims(file.allocations_db, left_out), _pages(file.hugepages_db, left_out)
    try:
        return Ledger.of(claims, pages)
    except ValueError as error:
        raise LegacyStateError(str(error)) from None


def services_without(path: Path, claims: Mapping[str, Claim]) -> str:
    """A few services that the file gives CPUs and that have no claim, for a warning; "" when none can be read."""
    try:
        file = _parse(read_regular_file(path, _MAX_BYTES_FOR_NAMES, follow_link=False))
    except (OSError, UnsuitableFileError, LegacyStateError):
        return ""
    names = [name for name in file.allocations_db.allocations if name not in claims]
    shown = ", ".join(_shown(name) for name in names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown


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


def _claims(sections: _Sections, left_out: LeftOut) -> list[Claim]:
    by_name: dict[str, dict[str, Any]] = dict(sections)
    owners = {service for service, cpus in sections.allocations.items() if not _owns_nothing(service, cpus, left_out)}
    for name, section in by_name.items():
        for service, value in section.items():
            if service not in sections.allocations:
                _check_unowned(name, service, value, left_out)
    claims: list[Claim] = []
    claimed = EMPTY
    for service in sections.allocations:
        if service not in owners:
            continue
        claim = _claim(service, {name: section[service] for name, section in by_name.items() if service in section})
        if both := claim.cpus & claimed:
            # Checked here before thousands of such lists fill the memory; the ledger would find it later.
            raise LegacyStateError(f"CPUs {str(both)[:80]} of service '{service}' are owned by another service as well")
        claimed |= claim.cpus
        claims.append(claim)
    return claims


def _owns_nothing(service: str, cpus: object, left_out: LeftOut) -> bool:
    """Whether the entry of a service is left out: it has no CPUs, or a name that no request can have."""
    if (problem := _name_problem(service)) is not None:
        left_out(f"the claim of service {_shown(service)} on CPUs {_echo(cpus)}, because {problem}")
    elif isinstance(cpus, str) and not cpus.strip():
        left_out(f"the claim of service {_shown(service)}, because it has no CPUs")
    else:
        return False
    return True


def _check_unowned(section: str, service: str, value: object, left_out: LeftOut) -> None:
    """Leave out what a section says of a service without CPUs, unless it names CPUs."""
    names_cpus = section == "explicit_allocations" and not (isinstance(value, str) and not value.strip())
    if names_cpus and _name_problem(service) is None:
        raise LegacyStateError(f"{section} names CPUs of service '{service}', which holds none")
    left_out(f"{section} of service {_shown(service)}, because it holds no CPUs")


def _claim(service: str, values: dict[str, Any]) -> Claim:
    """The claim of a service that owns CPUs, from its values in the sections."""
    try:
        entry = _Service.model_validate(values)
    except ValidationError as error:
        raise LegacyStateError(_mistake(error, f" of service '{service}'")) from None
    cpus = _cpu_list("allocations", service, entry.allocations)
    all_explicit = entry.explicit_allocations == entry.allocations
    explicit = cpus if all_explicit else _cpu_list("explicit_allocations", service, entry.explicit_allocations)
    return Claim(service, entry.allocation_pools, cpus, explicit, entry.preemption_policies)


def _cpu_list(section: str, service: str, text: str) -> CpuSet:
    try:
        return CpuSet.parse(text)
    except ValueError as error:
        raise LegacyStateError(f"{section} of service '{service}' is not a CPU list: {error}") from None


def _pages(section: _Hugepages, left_out: LeftOut) -> dict[str, dict[PageKind, int]]:
    pages: dict[str, dict[PageKind, int]] = {}
    for service, records in section.allocations.items():
        if (problem := _name_problem(service)) is not None:
            left_out(f"the hugepage records of service {_shown(service)}, because {problem}")
        elif isinstance(records, list):
            pages[service] = _counts(service, cast("list[object]", records), left_out)
        else:
            raise LegacyStateError(f"hugepages of service '{service}' are {_echo(records)}, not a list")
    return pages


def _counts(service: str, records: list[object], left_out: LeftOut) -> dict[PageKind, int]:
    """The hugepages of one service, by node and size."""
    counts: dict[PageKind, int] = {}
    for entry in records:
        count = cast("dict[str, object]", entry).get("count") if isinstance(entry, dict) else None
        if type(count) is int and count < 1:
            left_out(f"a hugepage record of service {_shown(service)}, because its count is {_echo(count)}")
            continue
        try:
            record = _Record.model_validate(entry)
        except ValidationError as error:
            raise LegacyStateError(_mistake(error, f" of the hugepages of service '{service}'")) from None
        if (record.node_id, record.size_kb) in counts:
            raise LegacyStateError(f"hugepages of service '{service}' names a node and size twice")
        counts[record.node_id, record.size_kb] = record.count
    return counts


def _name_problem(service: str) -> str | None:
    """Why no request can have this name; None when it can."""
    if not service:
        return "its name is empty"
    if len(service) > MAX_NAME_LENGTH:
        return f"its name has more than {MAX_NAME_LENGTH} characters"
    return None if service.isprintable() else "its name has characters that cannot be printed"


def _shown(service: str) -> str:
    """A name for a warning: printable, and cut short."""
    return f"'{printable(service[:_SHOWN])}{'…' if len(service) > _SHOWN else ''}'"


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
            return repr(value[:_SHOWN])
        case _:
            return json.dumps(value)[:_SHOWN]
