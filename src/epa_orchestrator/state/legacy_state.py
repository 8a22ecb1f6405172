"""The state file of the older daemon, read once, whole or not at all, when ours first starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast, get_args

from epa_orchestrator.allocation.claims import Claim, PageKind
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.documents import DuplicateKeyError, parse_document
from epa_orchestrator.errors import EpaError
from epa_orchestrator.files import UnsuitableFileError, read_regular_file
from epa_orchestrator.names import PoolName, PreemptionPolicy

#: Other snaps can write the directory that the file lies in, so its size is not trusted.
_MAX_BYTES: Final = 4 * 1024 * 1024

#: The most characters of a CPU list, in the kernel's notation: every other id up to the highest takes 191,000.
_MAX_LIST: Final = 200_000


class LegacyStateError(EpaError):
    """The file cannot be imported; the message says what in it is wrong."""


def read_legacy_state(path: Path) -> Ledger | None:
    """The older daemon's claims and hugepage records, None when it left no file.

    Raises LegacyStateError.
    """
    text = _read(path)
    if text is None:
        return None
    try:
        document = parse_document(text)
    except DuplicateKeyError as error:
        raise LegacyStateError(str(error)) from None
    except ValueError as error:
        raise LegacyStateError(f"it is not JSON: {error}") from None
    members = _object(document, "the file")
    version = members.get("version", 1)
    if type(version) is not int or version != 1:
        raise LegacyStateError(f"its version is {str(version)[:40]!r}, only 1 is known")
    cores = _object(members.get("allocations_db", {}), "allocations_db")
    pages = _object(members.get("hugepages_db", {}), "hugepages_db")
    try:
        return Ledger.of(_claims(cores), _pages(_object(pages.get("allocations", {}), "hugepages_db.allocations")))
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


def _claims(sections: dict[str, Any]) -> list[Claim]:
    cpus = _by_service(sections, "allocations")
    explicit = _by_service(sections, "explicit_allocations")
    policies = _by_service(sections, "preemption_policies")
    pools = _by_service(sections, "allocation_pools")
    for name, section in (
        ("explicit_allocations", explicit),
        ("preemption_policies", policies),
        ("allocation_pools", pools),
    ):
        for service in section:
            if service not in cpus:
                raise LegacyStateError(f"{name} names service '{service}', which holds no CPUs")
    claims: list[Claim] = []
    claimed = EMPTY
    for service, text in cpus.items():
        pool, policy = pools.get(service, "isolated"), policies.get(service, "legacy")
        if pool not in get_args(PoolName):
            raise LegacyStateError(f"allocation_pools gives service '{service}' the unknown pool '{pool[:40]}'")
        if policy not in get_args(PreemptionPolicy):
            raise LegacyStateError(f"preemption_policies gives service '{service}' the unknown policy '{policy[:40]}'")
        own = _cpu_list("allocations", service, text)
        if both := own & claimed:
            # Checked here before thousands of such lists fill the memory; the ledger would find it later.
            raise LegacyStateError(f"CPUs {str(both)[:80]} of service '{service}' are owned by another service as well")
        claimed |= own
        by_node = explicit.get(service, "")
        taken = own if by_node == text else _cpu_list("explicit_allocations", service, by_node)
        claims.append(Claim(service, cast("PoolName", pool), own, taken, cast("PreemptionPolicy", policy)))
    return claims


def _by_service(sections: dict[str, Any], name: str) -> dict[str, str]:
    """A section that maps services to text."""
    section = _object(sections.get(name, {}), name)
    for service, value in section.items():
        if not isinstance(value, str):
            raise LegacyStateError(f"{name} gives service '{service[:255]}' something else than text")
        _check_name(service, name)
    return cast("dict[str, str]", section)


def _cpu_list(section: str, service: str, text: str) -> CpuSet:
    if len(text) > _MAX_LIST:
        raise LegacyStateError(f"{section} gives service '{service}' a CPU list of more than {_MAX_LIST} characters")
    try:
        return CpuSet.parse(text)
    except ValueError as error:
        raise LegacyStateError(f"{section} gives service '{service}' a bad CPU list: {error}") from None


def _pages(section: dict[str, Any]) -> dict[str, dict[PageKind, int]]:
    pages: dict[str, dict[PageKind, int]] = {}
    for service, entries in section.items():
        _check_name(service, "hugepages_db.allocations")
        if not isinstance(entries, list):
            raise LegacyStateError(f"hugepages_db.allocations gives service '{service}' something else than a list")
        counts: dict[PageKind, int] = {}
        for entry in cast("list[object]", entries):
            members = _object(entry, f"the hugepages of service '{service}'")
            numbers = [members.get(key) for key in ("node_id", "size_kb", "count")]
            if not all(type(number) is int and 0 <= number < 2**31 for number in numbers) or numbers[1] == 0:
                raise LegacyStateError(f"the hugepages of service '{service}' hold a bad node_id, size_kb or count")
            node_id, size_kb, count = cast("list[int]", numbers)
            if (node_id, size_kb) in counts:
                raise LegacyStateError(f"the hugepages of service '{service}' name a node and size twice")
            counts[node_id, size_kb] = count
        pages[service] = {kind: count for kind, count in counts.items() if count}
    return pages


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise LegacyStateError(f"{name} is not a JSON object")
    return cast("dict[str, Any]", value)


def _check_name(service: str, section: str) -> None:
    if not 1 <= len(service) <= 255 or not service.isprintable():
        raise LegacyStateError(f"{section} holds a service name that is not 1 to 255 printable characters")
