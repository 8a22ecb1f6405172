# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolated CPUs: read from the one file that the operator has chosen for them, and from no other in its place.

A runtime cpuset partition changes its file at any time. Sources: Documentation/ABI/testing/sysfs-devices-system-cpu and
Documentation/admin-guide/cgroup-v2.rst of the Linux kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.cpu_files import CPU_DIR, MachineError, read_decisive
from epa_orchestrator.hardware.sysfs import CONNECT_TOPOLOGY_PLUG, Sysfs
from epa_orchestrator.names import IsolatedCpusFrom

#: The file of each source, below the sysfs root. The kernel may have none of them: then no CPU is isolated that way.
ISOLATED_FILES: Final[Mapping[IsolatedCpusFrom, str]] = {
    "isolcpus": f"{CPU_DIR}/isolated",
    "nohz_full": f"{CPU_DIR}/nohz_full",
    "cpuset": "fs/cgroup/cpuset.cpus.isolated",
}


def how_to_isolate(source: IsolatedCpusFrom, kernel_line: str) -> str:
    """What to do so that a source has CPUs; `kernel_line` says which kernel line, and what else a change needs."""
    return "make an isolated cpuset partition" if source == "cpuset" else f"set {source}= on {kernel_line}"


def read_isolated(sysfs: Sysfs, source: IsolatedCpusFrom) -> CpuSet:
    """The CPUs that count as isolated.

    Raises MachineError when the file of this source is there and cannot be read, is cut short, or holds no CPU list.
    """
    if source == "cpuset":
        return read_decisive(sysfs, ISOLATED_FILES[source], CONNECT_TOPOLOGY_PLUG) or EMPTY
    return read_decisive(sysfs, ISOLATED_FILES[source]) or EMPTY


def read_all_sources(sysfs: Sysfs) -> Iterator[str]:
    """Read every source, so that a recording has them all; a sentence for each that cannot be read."""
    for source in ISOLATED_FILES:
        try:
            read_isolated(sysfs, source)
        except MachineError as error:
            yield str(error)
