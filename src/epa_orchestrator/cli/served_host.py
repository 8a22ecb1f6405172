# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The host whose isolation a daemon audits: the one that it serves, as far as there are files of it."""

from __future__ import annotations

from pathlib import Path

from epa_orchestrator import paths
from epa_orchestrator.cli.audited_host import live_files
from epa_orchestrator.cli.recordings import read_shipped, shipped_machines
from epa_orchestrator.isolation.host_files import HostFiles
from epa_orchestrator.isolation.recording import host_of


def served_host(machine: str | None) -> HostFiles | None:
    """The files of this host, or of the recorded machine that `serve --machine` names.

    None for a sysfs tree or a recording that has a machine only, because nothing else is known of its host. Raises
    OSError and ValueError for a recording that cannot be used.
    """
    if machine is None:
        root = paths.host_root(paths.sysfs_root())
        return live_files(root) if root is not None and (root / "proc").is_dir() else None
    path = Path(machine)
    is_shipped = not path.exists() and machine in shipped_machines()
    recording = host_of(read_shipped(machine) if is_shipped else path.read_text(encoding="utf-8"))
    return recording.files if recording.at else None
