# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Recording: reads all that the daemon may ever read of a host, so that the host can be served elsewhere."""

from __future__ import annotations

from epa_orchestrator.hardware.blind_spots import find_blind_spots
from epa_orchestrator.hardware.devices import read_devices
from epa_orchestrator.hardware.discovery import MachineError, read_machine
from epa_orchestrator.hardware.hugepages import read_hugepages, read_promised
from epa_orchestrator.hardware.isolated_cpus import read_all_sources
from epa_orchestrator.hardware.sysfs import Recorder, Sysfs, SysfsError


def record_machine(sysfs: Sysfs) -> tuple[Recorder, list[str]]:
    """A recorder of the machine with its devices and hugepages, and sentences about what cannot be read.

    A machine that the daemon cannot use is recorded as far as it was read.
    """
    recorder = Recorder(sysfs)
    problems: list[str] = []
    try:
        problems += read_all_sources(recorder)
        machine = read_machine(recorder)
        counts = [each for node_id in machine.node_ids for each in read_hugepages(recorder, node_id)]
        for size_kb in sorted({each.size_kb for each in counts}):
            read_promised(recorder, size_kb)
        problems += find_blind_spots(sysfs, machine)
        problems += read_devices(recorder)
    except (MachineError, SysfsError) as error:
        if str(error) not in problems:
            problems.append(str(error))
    return recorder, problems
