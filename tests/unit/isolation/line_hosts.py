# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hosts with 4 CPUs that differ in their kernel line, and the findings about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from epa_orchestrator.isolation.case import Case, Terms
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.line_checks import line_checks

CPU = "sys/devices/system/cpu"
BY_DEFAULT = Terms()
CPUSET = "sys/fs/cgroup/cpuset.cpus.isolated"


def host_files(cmdline: str, isolated: str = "", nohz_full: str = "(null)", partition: str = "") -> dict[str, str]:
    """The files of a host with CPUs 0-3."""
    return {
        "proc/cmdline": f"BOOT_IMAGE=/boot/vmlinuz root=/dev/sda ro {cmdline}\n",
        f"{CPU}/present": "0-3\n",
        f"{CPU}/possible": "0-3\n",
        f"{CPU}/online": "0-3\n",
        f"{CPU}/isolated": f"{isolated}\n",
        f"{CPU}/nohz_full": f"{nohz_full}\n",
        CPUSET: f"{partition}\n",
        "proc/sys/kernel/osrelease": "6.12.0\n",
    }


def find(check: str, files: Mapping[str, str], terms: Terms = BY_DEFAULT, denied: Iterable[str] = ()) -> Finding:
    """The finding of one check about a host with these files."""
    (finding,) = (
        finding
        for finding in line_checks(Case(read_facts(RecordedHost(files, denied), 0.0), terms=terms))
        if finding.id == check
    )
    return finding
