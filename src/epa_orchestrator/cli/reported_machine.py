# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machine of a report: whether its recording is of the machine that the daemon serves, which may be a recorded one.

A confined daemon may see less of a host than a command outside the snap, so only what both see is compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from epa_orchestrator.cli.recordings import read_shipped, shipped_machines
from epa_orchestrator.errors import EpaError


def compare_machines(report: dict[str, Any], *, own_machine: bool) -> None:
    """See that the report has the daemon's machine.

    If the daemon serves another one than the recording's, which is this host's `own_machine` or the one that a person
    named: put one that ships into the report, or a note that the recording is of another machine.
    """
    daemons, recording = report.get("machine_of_the_daemon"), report.get("recording")
    if daemons is None or recording is None or _is_same(daemons["machine"], recording):
        return
    shipped = _shipped_like(daemons["machine"]) if own_machine else None
    if shipped is not None:
        report["recording"] = shipped
        report["notes"].append(
            f"The daemon serves the recorded machine {shipped['name']}: the recording is of it, not of this host"
        )
        return
    which = "this host" if own_machine else "the machine that --machine names"
    advice = "add --machine with the file that it serves" if own_machine else "give the one that it serves"
    present = daemons["machine"]["present"]
    report["notes"].append(
        f"The recording is of another machine than the daemon's: it is of {which}, and the daemon serves one with the"
        f" CPUs {present}. If that is a recorded machine, {advice}"
    )


def _shipped_like(machine: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recording of a machine that ships and is like this one."""
    recordings = (cast("dict[str, Any]", json.loads(read_shipped(name))) for name in shipped_machines())
    return next((recording for recording in recordings if _is_same(machine, recording)), None)


def _is_same(machine: Mapping[str, Any], recording: Mapping[str, Any]) -> bool:
    """Whether a recording is of a machine that is described like this; true if the recording cannot tell."""
    from epa_orchestrator.hardware.describe import describe
    from epa_orchestrator.hardware.discovery import read_machine
    from epa_orchestrator.hardware.isolated_cpus import ISOLATED_FILES, read_isolated
    from epa_orchestrator.hardware.sysfs import load_recording

    try:
        sysfs = load_recording(json.dumps(recording))
        found = read_machine(sysfs)
        # The daemon's settings say which one of the sources it reads.
        isolated = {str(read_isolated(sysfs, source)) for source in ISOLATED_FILES}
    except (EpaError, ValueError):
        return True  # the report names the reason
    described = describe(found, dict.fromkeys(found.node_ids, ()))
    return _shape(described) == _shape(machine) and machine["isolated"] in isolated


def _shape(machine: Mapping[str, Any]) -> tuple[object, ...]:
    """What all processes see of a host, without the isolated CPUs."""
    cores = [core["cpus"] for core in machine["cores"]]
    return machine["present"], machine["l3_domains"], cores
