# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A recording answers everything about a machine that the machine itself answers."""

from __future__ import annotations

from epa_orchestrator.hardware.devices import DeviceError, node_of_device
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.hugepages import read_hugepages, read_promised
from epa_orchestrator.hardware.recording import record_machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs, Sysfs
from tools.make_machines import SHIPPED
from tools.synthetic import build

DEVICES = ("eth0", "eth2v1", "br-ex", "eth9", "0000:ca:00.0", "0000:ca:00.1")


def recorded(source: Sysfs) -> RecordedSysfs:
    recorder, problems = record_machine(source)
    assert problems == []
    return RecordedSysfs(recorder.files, recorder.entries, recorder.hidden)


def near(sysfs: Sysfs, device: str) -> int | str:
    try:
        return node_of_device(sysfs, read_machine(sysfs), device)
    except DeviceError as error:
        return str(error)


def test_recording_answers_as_its_machine() -> None:
    source = RecordedSysfs(build(SHIPPED["demo-48"][1]))
    copy = recorded(source)
    assert read_machine(copy) == read_machine(source)
    assert [read_hugepages(copy, node) for node in range(4)] == [read_hugepages(source, node) for node in range(4)]
    assert read_promised(copy, 2048) == 0
    assert [near(copy, device) for device in DEVICES] == [near(source, device) for device in DEVICES]


def test_devices_that_cannot_be_listed_are_named() -> None:
    source = RecordedSysfs(build(SHIPPED["vm-8"][1]), hidden=["bus/pci/devices", "class/net"])
    _, problems = record_machine(source)
    assert problems == [
        "The PCI devices of this host cannot be listed, so the recording has none",
        "The network interfaces of this host cannot be listed, so the recording has none",
    ]


def test_unusable_machine_is_recorded_as_far_as_it_was_read() -> None:
    recorder, problems = record_machine(RecordedSysfs({"devices/system/cpu/present": "x"}))
    assert len(problems) == 1
    assert recorder.files == {"devices/system/cpu/present": "x"}
