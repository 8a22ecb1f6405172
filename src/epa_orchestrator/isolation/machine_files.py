# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Machine files: gives the room `hardware` the files below `sys/` of a host, so that it finds cores and NUMA nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from epa_orchestrator.cpuset import lowest
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.cpu_files import CPU_DIR
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.isolation.host_files import HostFiles, Unread

_SYS: Final = "sys/"
_SIBLINGS: Final = ("thread_siblings_list", "core_cpus_list", "thread_siblings", "core_cpus")


def read_host_machine(files: HostFiles) -> Machine | Unread:
    """The host's CPUs, cores and NUMA nodes; Unread where they are not all known."""
    try:
        machine = read_machine(_MachineFiles(files))
    except EpaError:
        return Unread(f"{_SYS}{CPU_DIR}")
    # Each kernel with several CPUs has these directories; a copy of a host's files may lack them.
    topology = f"{_SYS}{CPU_DIR}/cpu{lowest(machine.online.mask)}/topology"
    siblings = [files.read(f"{topology}/{name}") for name in _SIBLINGS] if len(machine.online) > 1 else []
    if siblings and all(isinstance(text, Unread) for text in siblings):
        return Unread(topology)
    return machine


class _MachineFiles:
    """The files below `sys/` of a host, as `hardware.sysfs.Sysfs` offers them."""

    def __init__(self, files: HostFiles) -> None:
        self._files = files

    def read(self, path: str) -> str | None:
        """The file's text."""
        text = self._files.read(_SYS + path)
        return None if isinstance(text, Unread) else text.strip()

    def read_list(self, path: str) -> str | None:
        """The file's text, which a host's files give as a whole."""
        return self.read(path)

    def contents(self, paths: Iterable[str]) -> tuple[object, ...]:
        """The texts of the files."""
        return tuple(map(self.read, paths))

    def names(self, directory: str) -> list[str] | None:
        """The names in the directory."""
        names = self._files.names(_SYS + directory)
        if isinstance(names, Unread):
            return None if names.reason == "denied" else []
        return names

    def exists(self, path: str) -> bool | None:
        """Whether the path leads to a file or directory."""
        found = self._files.read(_SYS + path)
        if isinstance(found, Unread) and found.reason == "missing":
            found = self._files.names(_SYS + path)
        if isinstance(found, Unread):
            return None if found.reason == "denied" else False
        return True
