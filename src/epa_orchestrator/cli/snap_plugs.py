# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Snap plugs: which of the snap's plugs lets it read a file of the host, for the audit in confinement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from epa_orchestrator.isolation.host_files import HostFiles, Unread

#: The files and directories that the plugs of the interface system-files show, as in snap/snapcraft.yaml.
SYSTEM_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "topology": (
        *("sys/bus/pci/devices", "sys/devices", "sys/fs/cgroup/cpuset.cpus.isolated", "sys/kernel/mm/hugepages"),
    ),
    "isolation": (
        *("etc/default/irqbalance", "etc/sysconfig/irqbalance", "proc/interrupts", "proc/irq", "proc/schedstat"),
        *("proc/stat", "proc/sys/kernel/nmi_watchdog", "proc/sys/kernel/numa_balancing"),
        *("proc/sys/kernel/soft_watchdog", "proc/sys/kernel/watchdog", "proc/sys/kernel/watchdog_cpumask"),
        *("sys/class/net", "sys/fs/cgroup", "sys/kernel/irq", "sys/kernel/mm/ksm"),
        *("sys/kernel/mm/transparent_hugepage",),
    ),
}
#: The files of processes and threads, which the interface system-observe shows.
_OF_PROCESSES: Final = re.compile(r"proc/[0-9]+(?:/.*)?")
#: A snap has this directory of its base, and not the host's.
_NOT_THE_HOSTS: Final = "boot/"


def plug_for(path: str) -> str | None:
    """The plug that shows a file; None where no plug does."""
    for plug, shown in SYSTEM_FILES.items():
        if any(path == each or path.startswith(f"{each}/") for each in shown):
            return plug
    return "system-observe" if _OF_PROCESSES.fullmatch(path) else None


def how_to_read(path: str) -> str:
    """How "needs /PATH, …" goes on for a file that the snap may not read."""
    plug = plug_for(path)
    if plug is None:
        return "which the snap may not read: run the charm's action audit-isolation"
    return f"which the snap may not read: run: sudo snap connect epa-orchestrator:{plug}"


class SnapView:
    """The host's files as a snap sees them: what its base has instead of the host counts as denied."""

    def __init__(self, host: HostFiles) -> None:
        self._host = host

    def read(self, path: str) -> str | Unread:
        """The file's text."""
        return self._denied(path) or self._host.read(path)

    def names(self, directory: str) -> list[str] | Unread:
        """The names in the directory."""
        return self._denied(directory) or self._host.names(directory)

    def _denied(self, path: str) -> Unread | None:
        return Unread(path, "denied", how_to_read(path)) if path.startswith(_NOT_THE_HOSTS) else None
