# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The host that the audit judges, this one or a recorded one, with its options, and how to read what is denied."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from epa_orchestrator import paths
from epa_orchestrator.cli.claim_owners import Claims, ask_claims, recorded_claims
from epa_orchestrator.cli.output import Misuse
from epa_orchestrator.errors import EpaError, printable
from epa_orchestrator.isolation.case import Terms
from epa_orchestrator.isolation.host_files import MAY_NOT_READ, HostTree
from epa_orchestrator.isolation.recording import host_of

if TYPE_CHECKING:
    from epa_orchestrator.allocation.settings import Settings
    from epa_orchestrator.isolation.host_files import HostFiles

_SNAP: Final = "epa-orchestrator"
#: The plugs of the snap, each with the beginnings of the paths that it lets the snap read, and their exact depths.
_PLUGS: Final[Mapping[str, tuple[str, ...]]] = {
    "topology": ("sys/devices/",),
    "isolation": (
        *("proc/interrupts", "proc/irq", "proc/sys/kernel/", "sys/fs/cgroup", "sys/kernel/mm/", "sys/class/net"),
        *("etc/default/", "sys/kernel/irq", "sys/module/"),
    ),
    "system-observe": ("proc/schedstat", "proc/stat", "proc/"),
}
_AS_ROOT: Final = "run it as root"


@dataclass(frozen=True)
class AuditedHost:
    """A host to judge: its files, the clock of its readings, its claims, and what its operator wants.

    Only a live host can be read a second time.
    """

    files: HostFiles
    clock: Callable[[], float]
    claims: Claims
    terms: Terms
    is_live: bool = False


def this_host(socket: Path | None = None, *, needs_claims: bool = False) -> AuditedHost:
    """This host with its daemon's claims, and the options of the settings file as far as this user may read it."""
    root = paths.host_root(paths.sysfs_root())
    if root is None:
        raise Misuse(f"EPA_SYSFS={paths.sysfs_root()} is no directory sys of a host: use --root with a recorded host")
    claims = ask_claims(socket, needed=needs_claims)
    return AuditedHost(
        HostTree(root, how_to_read), time.time, claims, terms_of(options_of(paths.settings_file())), is_live=True
    )


def recorded_host(path: Path) -> AuditedHost:
    """The host that is recorded at a path: a directory with its files, or a recording or report."""
    if path.is_dir():
        return _copied_host(path)
    try:
        text = path.read_text(encoding="utf-8")
        recording, document = host_of(text), json.loads(text)
    except FileNotFoundError:
        raise Misuse(f"There is no directory or file {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Misuse(f"The recorded host {path} cannot be used: {reason}") from None
    claims, terms = recorded_claims(document), _recorded_terms(document)
    return AuditedHost(recording.files, lambda: recording.at or time.time(), claims, terms)


def _copied_host(root: Path) -> AuditedHost:
    if not any((root / name).is_dir() for name in ("proc", "sys")):
        raise Misuse(f"{root} holds neither proc nor sys: give the directory that they are in")
    return AuditedHost(HostTree(root), time.time, Claims(None, "they are not in this recording"), Terms())


def options_of(file: Path | None) -> Settings | None:
    """The options of a settings file; None if there is none, or none that this user may read."""
    if file is None or not os.access(file, os.R_OK):
        return None
    from epa_orchestrator.allocation.settings import read_options
    from epa_orchestrator.allocation.usable_settings import usable_settings

    try:
        return usable_settings(read_options(file))
    except (EpaError, OSError):
        return None


def terms_of(settings: Settings | None) -> Terms:
    """What the operator wants of the isolation; the defaults where the options are not known."""
    if settings is None:
        return Terms()
    return Terms(settings.isolated_cpus_from, settings.nohz_full)


def _recorded_terms(document: Any) -> Terms:
    """The options in a report; a recording of a machine has none."""
    from epa_orchestrator.allocation.usable_settings import usable_settings

    try:
        return terms_of(usable_settings(document["settings"]["options"]))
    except (EpaError, KeyError, TypeError):
        return Terms()


def how_to_read(path: str) -> str:
    """How "needs /PATH, …" goes on, for a file that this process may not read."""
    if not paths.in_snap():
        return f"{MAY_NOT_READ}: {_AS_ROOT}" if os.geteuid() else MAY_NOT_READ
    for plug, beginnings in _PLUGS.items():
        if path.startswith(beginnings):
            return f"which the snap may not read: sudo snap connect {_SNAP}:{plug}"
    return printable("which no plug of the snap covers: run the charm's action audit-isolation")
