# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Which CPUs of the host count as isolated, and what is wrong with that."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import daemon_health
from epa_orchestrator.allocation.settings import Settings, SettingsError, read_options
from epa_orchestrator.allocation.usable_settings import usable_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.elsewhere import find_elsewhere
from epa_orchestrator.hardware.discovery import MachineError, read_machine
from epa_orchestrator.hardware.isolated_cpus import how_to_isolate
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import Sysfs, SysfsError, SysfsTree
from epa_orchestrator.names import IsolatedCpusFrom
from epa_orchestrator.units import cpus_are

_DETECT_VIRT: Final = "/usr/bin/systemd-detect-virt"


@dataclass(frozen=True)
class Isolation:
    """The host's isolated CPUs; `machine` is None when sysfs cannot be read, and `unreadable` says why."""

    machine: Machine | None
    container: bool
    unreadable: str = ""
    #: The option isolated-cpus-from.
    source: IsolatedCpusFrom = "isolcpus"
    #: Where CPUs are isolated, or meant to be, while the source has none; "" if that is not the case.
    elsewhere: str = ""

    @property
    def isolated(self) -> CpuSet:
        """The CPUs that count as isolated."""
        return self.machine.isolated if self.machine else EMPTY

    @property
    def problem(self) -> str | None:
        """Why no CPU can be pinned on this host, and what to do; None when CPUs are isolated."""
        if self.machine is None:
            return f"the CPUs of this host cannot be read: {self.unreadable}"
        if self.machine.isolated:
            return None
        line = (
            "the host's kernel command line and reboot the host"
            if self.container
            else "the kernel command line and reboot"
        )
        remedy = self.elsewhere or how_to_isolate(self.source, line)
        return f"no isolated CPUs: pinning requests will be refused; {remedy}"

    @property
    def container_note(self) -> str:
        """What is different in a container; empty outside of one."""
        if not self.container:
            return ""
        return "this is a container: isolation belongs to the host, and an orchestrator there would grant the same CPUs"

    @property
    def notes(self) -> list[str]:
        """Flaws that an operator should know of although CPUs can be pinned."""
        if self.machine is None or not self.machine.isolated:
            return []
        notes: list[str] = []
        if offline := self.machine.isolated - self.machine.online:
            notes.append(f"{cpus_are(str(offline))} isolated but offline")
        split = [core.cpus for core in self.machine.cores if core.cpus & self.isolated and core.cpus - self.isolated]
        if split:
            notes.append(f"only some threads of these cores are isolated: {', '.join(map(str, split))}")
        if not self.machine.online - self.machine.isolated:
            notes.append("all CPUs are isolated: none is left for the kernel and for other processes")
        return notes


def read(sysfs: Sysfs | None = None) -> Isolation:
    """Read this host's isolation, or that of another sysfs tree, from where the daemon's settings say."""
    source, root = _source(), Path("/") if sysfs is None else None
    sysfs = sysfs or SysfsTree("/sys")
    try:
        machine = read_machine(sysfs, source)
        elsewhere = "" if machine.isolated else find_elsewhere(sysfs, root, source)
    except (MachineError, SysfsError, ValueError) as error:
        return Isolation(None, _in_container(), str(error), source)
    return Isolation(machine, _in_container(), "", source, elsewhere)


def _source() -> IsolatedCpusFrom:
    """The option isolated-cpus-from as the daemon has it: the default before there are settings that can be read."""
    try:
        return usable_settings(read_options(daemon_health.settings_file())).isolated_cpus_from
    except SettingsError:
        return Settings().isolated_cpus_from


def _in_container() -> bool:
    """Whether systemd-detect-virt(1) says that this is a container."""
    try:
        done = subprocess.run([_DETECT_VIRT, "--container", "--quiet"], check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
