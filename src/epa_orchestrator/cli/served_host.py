# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The host whose isolation a daemon audits: the one that it serves, as far as there are files of it."""

from __future__ import annotations

from pathlib import Path

from epa_orchestrator import paths
from epa_orchestrator.cli.recordings import read_shipped, shipped_machines
from epa_orchestrator.isolation.host_files import HostFiles, HostTree, Unread
from epa_orchestrator.isolation.recording import host_of


def served_host(machine: str | None) -> HostFiles:
    """The files of this host, or of the recorded machine that `serve --machine` names.

    Raises OSError and ValueError for a recording that cannot be used.
    """
    if machine is None:
        sysfs = paths.sysfs_root()
        root = paths.host_root(sysfs)
        return HostTree(root) if root is not None else _SysfsOnly(sysfs)
    path = Path(machine)
    is_shipped = not path.exists() and machine in shipped_machines()
    return host_of(read_shipped(machine) if is_shipped else path.read_text(encoding="utf-8")).files


class _SysfsOnly:
    """A sysfs tree of which nobody knows the host, so that only the files below `sys` exist."""

    def __init__(self, sysfs: Path) -> None:
        self._tree = HostTree(sysfs)

    def read(self, path: str) -> str | Unread:
        """The text of a file below `sys`."""
        text = self._tree.read(path.removeprefix("sys/")) if path.startswith("sys/") else Unread(path)
        return Unread(path, text.reason) if isinstance(text, Unread) else text

    def names(self, directory: str) -> list[str] | Unread:
        """The names in a directory below `sys`."""
        is_sysfs = directory.startswith("sys/")
        names = self._tree.names(directory.removeprefix("sys/")) if is_sysfs else Unread(directory)
        return Unread(directory, names.reason) if isinstance(names, Unread) else names
