# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Elsewhere: tells the operator of an empty pool where the host isolates CPUs instead, or means to."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from epa_orchestrator.hardware.sysfs import Sysfs
from epa_orchestrator.names import IsolatedCpusFrom

_LINE: Final = "proc/cmdline"


def find_elsewhere(sysfs: Sysfs, host_root: Path | None, source: IsolatedCpusFrom) -> str:
    """What was found and what to do; "" if the source has CPUs, or nothing else was found.

    The kernel line is read below `host_root`; without one, only what `sysfs` has counts.

    Raises SysfsError.
    """
    # A host whose pool has CPUs starts without these modules.
    from epa_orchestrator.isolation.elsewhere import found_elsewhere
    from epa_orchestrator.isolation.host_files import HostTree, RecordedHost, Unread
    from epa_orchestrator.isolation.line_facts import read_line_facts
    from epa_orchestrator.isolation.sysfs_files import SysfsFiles

    text = Unread(_LINE) if host_root is None else HostTree(host_root).read(_LINE)
    # Nothing else of the host: each file that a snap may not read would be a line in the kernel's log.
    line = RecordedHost({} if isinstance(text, Unread) else {_LINE: text})
    return found_elsewhere(read_line_facts(SysfsFiles(sysfs, line)), source)
