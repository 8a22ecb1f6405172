# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A report has the machine that the daemon serves, or says that its recording is of another one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from epa_orchestrator.cli.recordings import open_machine, read_shipped
from epa_orchestrator.cli.reported_machine import compare_machines
from epa_orchestrator.hardware.describe import describe
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.sysfs import Recorder, SysfsTree, dump_recording
from tests.unit.cli.builders import Command, Daemon
from tools.synthetic import Shape, build, write_tree


def described(name: str) -> dict[str, Any]:
    machine = read_machine(open_machine(name)[0])
    return {"machine": describe(machine, dict.fromkeys(machine.node_ids, ()))}


@pytest.fixture
def recording(offline: Command) -> dict[str, Any]:
    """The recording of a host that no recording that ships is like."""
    write_tree(build(Shape(packages=3, isolated="2-3")), offline.base / "sys")
    recorder = Recorder(SysfsTree(offline.base / "sys"))
    read_machine(recorder)
    return json.loads(dump_recording("host", "", recorder.files, recorder.entries))


def compared(daemons: dict[str, Any], recording: dict[str, Any], *, own_machine: bool = True) -> dict[str, Any]:
    report: dict[str, Any] = {"machine_of_the_daemon": daemons, "recording": recording, "notes": []}
    compare_machines(report, own_machine=own_machine)
    return report


def test_same_machine_needs_no_note() -> None:
    shipped = json.loads(read_shipped("vm-8"))
    report = compared(described("vm-8"), shipped)
    assert (report["notes"], report["recording"]) == ([], shipped)


def test_machine_that_ships_becomes_the_recording(recording: dict[str, Any]) -> None:
    report = compared(described("demo-48"), recording)
    assert report["recording"] == json.loads(read_shipped("demo-48"))
    assert report["notes"] == [
        "The daemon serves the recorded machine demo-48: the recording is of it, not of this host"
    ]


def test_unknown_machine_is_named_in_a_note(recording: dict[str, Any]) -> None:
    daemons = described("vm-8")
    daemons["machine"]["isolated"] = "5-7"
    report = compared(daemons, recording)
    assert report["recording"] == recording
    (note,) = report["notes"]
    assert note == (
        "The recording is of another machine than the daemon's: it is of this host, and the daemon serves one with the"
        " CPUs 0-7. If that is a recorded machine, add --machine with the file that it serves"
    )


def test_machine_that_a_person_named_is_kept(recording: dict[str, Any]) -> None:
    report = compared(described("vm-8"), recording, own_machine=False)
    assert report["recording"] == recording
    assert "it is of the machine that --machine names" in report["notes"][0]


def test_host_that_shows_less_to_the_daemon_is_the_same() -> None:
    daemons = described("vm-8")
    daemons["machine"]["nodes"] = []
    assert compared(daemons, json.loads(read_shipped("vm-8")))["notes"] == []


def test_unreadable_recording_needs_no_note() -> None:
    assert compared(described("vm-8"), {"format": "none"})["notes"] == []


@pytest.mark.parametrize("missing", ["machine_of_the_daemon", "recording"])
def test_missing_part_needs_no_note(missing: str) -> None:
    report: dict[str, Any] = {"machine_of_the_daemon": described("vm-8"), "recording": {}, "notes": []}
    del report[missing]
    compare_machines(report, own_machine=True)
    assert report["notes"] == []


def test_report_of_a_daemon_on_a_recorded_machine_serves_that_machine(daemon: Daemon) -> None:
    file = daemon.base / "report.json"
    result = daemon.run("report", str(file))
    assert "The daemon serves the recorded machine vm-8: the recording is of it" in result.stderr
    report = json.loads(file.read_text())
    assert any("recorded machine vm-8" in line for line in report["summary"])
    assert daemon.text("machine", "--machine", str(file)) == daemon.text("machine", "--machine", "vm-8")
