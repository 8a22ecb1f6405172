# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The report of a host in trouble that docs/how-to/find-lost-packets.md looks into.

`python -m tests.noisy_host` writes it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from epa_orchestrator.hardware.recording import record_machine
from epa_orchestrator.hardware.sysfs import REPORT_FORMAT, RecordedSysfs, dump_recording
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.recording import MEMBER, record_host
from epa_orchestrator.protocol.isolation import ClaimIsolation, ClaimOwner

from .isolated_hosts import HostTask, IsolatedHost

FILE: Final = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "noisy-host.json"
#: The control group of the service's processes, for the option owner-cgroups.
_CGROUP: Final = "/system.slice/ovs-vswitchd.service"
_CPUS: Final = "2-3,6-7"
_AT: Final = 1_795_815_937.0


def noisy_host() -> IsolatedHost:
    """A host on which 'ovs-dpdk' holds the CPUs 2-3,6-7, and has three troubles.

    Both of its polling threads run on CPU 2, a backup runs on CPU 3, and an interrupt of eth0 goes to CPU 7.
    """
    host = IsolatedHost()
    host.tasks.remove(host.task(710))
    for tid in (701, 702):
        polling = host.task(tid)
        polling.allowed, polling.cpu, polling.share, polling.waited_ns = _CPUS, 2, 0.5, 40_000_000_000
    host.task(700).allowed = _CPUS
    host.tasks.append(HostTask(900, "backup", "3", "R", "/system.slice/backup.service", ticks=6000))
    interrupt = host.interrupt(32)
    interrupt.affinity = interrupt.effective = "7"
    interrupt.counts = {7: 84_000}
    return host


def report() -> str:
    """The report of that host: what `epa-orchestrator report` writes, as far as the page needs it."""
    files = noisy_host().files()
    sysfs = {path.removeprefix("sys/"): text for path, text in files.items() if path.startswith("sys/")}
    recorder, _ = record_machine(RecordedSysfs(sysfs))
    name, description = "noisy-host", "A host in trouble, made by the epa-orchestrator project; not captured."
    recording = json.loads(dump_recording(name, description, recorder.files, recorder.entries, recorder.hidden))
    recording[MEMBER] = record_host(RecordedHost(files), _AT)[1]
    claim = ClaimIsolation(
        service_name="ovs-dpdk",
        pool="isolated",
        allocated_cores=_CPUS,
        owner=ClaimOwner(snap=None, unit=None, comm=None, pid=None, asked_at=None, cgroups=[_CGROUP]),
        **dict.fromkeys(("since", "noise", "now", "culprit", "remedy", "problem")),
        strangers=[],
        outside=[],
        stacked=[],
    )
    document = {
        "format": REPORT_FORMAT,
        "settings": {"options": {"owner-cgroups": f"ovs-dpdk={_CGROUP.removeprefix('/')}"}, "unusable": {}},
        "isolation": {"claims": [claim.model_dump(mode="json")]},
        "recording": recording,
    }
    return json.dumps(document, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(report(), encoding="utf-8")
