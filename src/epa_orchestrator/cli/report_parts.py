# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Report parts: collects what a bug report needs into one JSON object, and names what is missing in it.

It holds no host name, no environment, no addresses or serial numbers of devices, and of the kernel's command line only
the parameters in `KERNEL_PARAMETERS`. Its size is bounded.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from epa_orchestrator import __version__
from epa_orchestrator.cli.report_isolation import ReportedIsolation, isolation_of
from epa_orchestrator.cli.reported_machine import compare_machines
from epa_orchestrator.errors import EpaError, printable
from epa_orchestrator.hardware.sysfs import REPORT_FORMAT, Sysfs
from epa_orchestrator.isolation.recordable import known_parameters
from epa_orchestrator.isolation.recording import MEMBER
from epa_orchestrator.protocol.fields import VERSION
from epa_orchestrator.units import utc

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.isolation.host_files import HostFiles

#: The most bytes of one part as JSON; a larger one is left out. A listing of 2,000 services has 2 MB.
_MOST_BYTES: Final = 8 * 1024 * 1024
#: The history has its newest events within these limits.
_MOST_HISTORY_BYTES: Final = 1024 * 1024
_MOST_EVENTS: Final = 200

_DEPENDENCIES: Final = ("pydantic", "typer", "rich", "prometheus-client")


@dataclass(frozen=True)
class Sources:
    """Where a report comes from.

    Without a `revision` the snap is not installed, or cannot be seen. Without a `database` only the daemon tells the
    history. `sysfs` is this host's `own_machine`, or the one that a person named; `host` are all files of it, and the
    time of the reading in seconds since 1970.
    """

    client: Client
    sysfs: Sysfs
    settings_file: Path | None
    database: Path | None
    snap_revision: str | None = None
    own_machine: bool = True
    host: tuple[HostFiles, float] | None = None


def build_report(sources: Sources) -> dict[str, Any]:
    """The report. A part that cannot be collected is in `missing`, with the reason."""
    report: dict[str, Any] = {"format": REPORT_FORMAT, "summary": [], "notes": [], "missing": {}}
    missing: dict[str, str] = report["missing"]
    isolation = _isolation(sources)
    parts: dict[str, Callable[[], object]] = {
        "created": lambda: utc(time.time()),
        "versions": lambda: _versions(sources.snap_revision),
        "kernel_parameters": _kernel_parameters,
        "settings": lambda: _settings(sources.settings_file),
        "pools": lambda: _pools(sources.client),
        "hugepages": lambda: sources.client.memory_info().model_dump(mode="json", exclude_none=True)["numa_hugepages"],
        "machine_of_the_daemon": lambda: sources.client.machine().model_dump(mode="json", exclude_none=True),
        "history": lambda: _history(sources),
        "isolation": lambda: isolation_of(isolation),
        "recording": lambda: _recording(sources.sysfs, missing, isolation),
    }
    for name, collect in parts.items():
        _add(report, name, collect)
    compare_machines(report, own_machine=sources.own_machine)
    report["summary"] = _summary(report)
    return report


def _add(report: dict[str, Any], name: str, collect: Callable[[], object]) -> None:
    try:
        part = collect()
        size = len(json.dumps(part))
    except EpaError as error:
        report["missing"][name] = str(error)
    except Exception as error:  # noqa: BLE001  # a report about a bug must not fail because of that bug
        report["missing"][name] = printable(f"{type(error).__name__}: {error}")
    else:
        if size > _MOST_BYTES:
            report["missing"][name] = f"it has {size} bytes, more than {_MOST_BYTES}"
        else:
            report[name] = part


def _summary(report: dict[str, Any]) -> list[str]:
    """What a reader wants to know first, in sentences."""
    versions: dict[str, str] = report.get("versions", {})
    lines = [", ".join(f"{name} {text}" for name, text in versions.items())]
    for pool, listing in report.get("pools", {}).items():
        lines.append(
            f"Pool {pool}: {listing['remaining_available_cpus']} of {listing['total_available_cpus']} CPUs free,"
            f" services: {listing['total_allocations']}"
        )
    listings = report.get("pools", {}).values()
    lines += dict.fromkeys(warning for listing in listings for warning in listing.get("warnings", ()))
    lines += dict.fromkeys(f"READ-ONLY: {problem}" for each in listings if (problem := each.get("state_error")))
    return lines + report["notes"] + missing_parts(report)


def missing_parts(report: dict[str, Any]) -> list[str]:
    """One sentence for each reason why something is missing."""
    names: dict[str, list[str]] = {}
    for name, reason in report["missing"].items():
        names.setdefault(reason, []).append(name)
    return [f"missing: {', '.join(each)}: {reason}" for reason, each in names.items()]


def _versions(snap_revision: str | None) -> dict[str, str]:
    found = {"epa-orchestrator": __version__}
    if snap_revision:
        found["snap revision"] = snap_revision
    found |= {"Linux": platform.release(), "machine": platform.machine(), "Python": platform.python_version()}
    found["SQLite"] = sqlite3.sqlite_version
    for name in _DEPENDENCIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _kernel_parameters() -> list[str]:
    """The parameters on the kernel's command line that are in `KERNEL_PARAMETERS`, in their order."""
    return known_parameters(Path("/proc/cmdline").read_text(encoding="utf-8", errors="replace"))


def _settings(file: Path | None) -> dict[str, object]:
    """The options of the settings file, and why some are unusable."""
    from epa_orchestrator.allocation.settings import read_options
    from epa_orchestrator.daemon.settings_file import read_settings

    if file is None:
        return {"options": {}, "unusable": {}}
    if not os.access(file, os.R_OK):
        raise EpaError(f"The settings file {file} does not exist, or this user may not read it")
    return {"options": read_options(file), "unusable": dict(read_settings(file).unusable)}


def _pools(client: Client) -> dict[str, object]:
    return {each.pool: each.model_dump(mode="json", exclude_none=True) for each in client.listings()}


def _history(sources: Sources) -> list[Any]:
    """The newest events that fit, oldest first: the daemon's, or those in the database if this user may read it."""
    try:
        events = _asked_history(sources.client)
    except EpaError:
        if sources.database is None:
            raise
        events = _stored_history(sources.database)
    while len(json.dumps(events)) > _MOST_HISTORY_BYTES:
        events = events[len(events) // 2 + 1 :]
    return events


def _asked_history(client: Client) -> list[Any]:
    """The daemon's answer as it is.

    Raises EpaError if none answers, or one that does not know the action.
    """
    answer = client.ask({"version": VERSION, "action": "get_history", "limit": _MOST_EVENTS})
    events = answer.get("events")
    if not isinstance(events, list):
        raise EpaError(f"The daemon does not tell it: {answer.get('error')}")
    return cast("list[Any]", events)


def _stored_history(database: Path) -> list[Any]:
    from epa_orchestrator.state.reading import read_events

    return [event.document() for event in read_events(database, _MOST_EVENTS)]


def _isolation(sources: Sources) -> ReportedIsolation | None:
    return sources.host and ReportedIsolation(*sources.host, sources.client, sources.settings_file)


def _recording(sysfs: Sysfs, missing: dict[str, str], isolation: ReportedIsolation | None) -> dict[str, Any]:
    """The recording of the machine, with the facts of its isolation. What cannot be read of it is missing, too."""
    from epa_orchestrator.hardware.recording import record_machine
    from epa_orchestrator.hardware.sysfs import dump_recording

    recorder, problems = record_machine(sysfs)
    if problems:
        missing["parts of the machine"] = "; ".join(problems)
    description = f"Recorded by epa-orchestrator {__version__} for a report."
    text = dump_recording("reported-machine", description, recorder.files, recorder.entries, recorder.hidden)
    recording = cast("dict[str, Any]", json.loads(text))
    _add_facts(recording, missing, isolation)
    return recording


def _add_facts(recording: dict[str, Any], missing: dict[str, str], isolation: ReportedIsolation | None) -> None:
    """Add the facts of the isolation; without them the recording is still one of the machine."""
    if isolation is None:
        return
    try:
        recording[MEMBER] = isolation.facts
    except Exception as error:  # noqa: BLE001  # as in _add
        missing["facts of the isolation"] = printable(f"{type(error).__name__}: {error}")
