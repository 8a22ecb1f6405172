# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The host that the audit judges, this one or a recorded one, with its options, and how to read what is denied."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from epa_orchestrator import paths
from epa_orchestrator.cli.claim_owners import Claims, ask_claims, recorded_claims
from epa_orchestrator.cli.output import Misuse
from epa_orchestrator.cli.snap_plugs import SnapView, how_to_read
from epa_orchestrator.errors import EpaError
from epa_orchestrator.isolation.case import Terms
from epa_orchestrator.isolation.host_files import MAY_NOT_READ, CopiedTree, HostTree
from epa_orchestrator.isolation.recording import host_of

if TYPE_CHECKING:
    from epa_orchestrator.allocation.settings import Settings
    from epa_orchestrator.isolation.host_files import HostFiles

#: Eight times what a recording of the largest host has, in a report with everything else.
_MOST_CHARACTERS: Final = 100_000_000


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
    return AuditedHost(live_files(root), time.time, claims, _own_terms(), is_live=True)


def recorded_host(path: Path) -> AuditedHost:
    """The host that is recorded at a path: a directory with its files, or a recording or report."""
    if path.is_dir():
        return _copied_host(path)
    try:
        text = _text_of(path)
        recording, document = host_of(text), json.loads(text)
    except FileNotFoundError:
        raise Misuse(f"There is no directory or file {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Misuse(f"The recorded host {path} cannot be used: {reason}") from None
    claims, terms = recorded_claims(document), _recorded_terms(document)
    return AuditedHost(recording.files, lambda: recording.at or time.time(), claims, terms)


def _text_of(path: Path) -> str:
    """The text of a recording. Raises OSError, and ValueError for a file that is no recording by its size."""
    with path.open(encoding="utf-8") as file:
        text = file.read(_MOST_CHARACTERS + 1)
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters")
    return text


def _copied_host(root: Path) -> AuditedHost:
    if not any((root / name).is_dir() for name in ("proc", "sys")):
        raise Misuse(f"{root} holds neither proc nor sys: give the directory that they are in")
    reason = "they are not in this recording, and a report has them"
    return AuditedHost(CopiedTree(root), time.time, Claims(None, reason), _own_terms())


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


def _own_terms() -> Terms:
    """The options of the settings file here. They also judge a host whose own options are not recorded."""
    return terms_of(options_of(paths.settings_file()))


def _recorded_terms(document: Any) -> Terms:
    """The options in a report. A recording of a machine has none."""
    from epa_orchestrator.allocation.usable_settings import usable_settings

    if "settings" not in document:
        return _own_terms()
    try:
        return terms_of(usable_settings(document["settings"]["options"]))
    except (EpaError, KeyError, TypeError):
        return Terms()


def live_files(root: Path) -> HostFiles:
    """The files of the host below a root, as this process sees them."""
    if paths.in_snap():
        return SnapView(HostTree(root, remedy=how_to_read))
    return HostTree(root, remedy=None if os.geteuid() == 0 else lambda _: f"{MAY_NOT_READ}: run it as root")
