# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machines that ship are up to date, and have the devices that the documentation names."""

from __future__ import annotations

import pytest

from epa_orchestrator.hardware.devices import DeviceError, node_of_device
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs, load_recording
from tools.draw_placement import SHAPE
from tools.make_machines import MACHINES, SHIPPED
from tools.synthetic import build


def shipped(name: str) -> tuple[RecordedSysfs, Machine]:
    sysfs = load_recording((MACHINES / f"{name}.json").read_text(encoding="utf-8"))
    return sysfs, read_machine(sysfs)


def test_demo_48_is_the_machine_of_the_pictures() -> None:
    assert shipped("demo-48")[1] == read_machine(RecordedSysfs(build(SHAPE)))


@pytest.mark.parametrize(
    ("device", "node"),
    [
        ("eth0", 0),
        ("eth1", 1),
        ("eth2", 2),
        ("eth2v1", 2),
        ("0000:17:00.0", 0),
        ("0000:b1:02.1", 2),
        ("0000:31:00.0", 1),
        ("0000:ca:00.0", 3),
    ],
)
def test_node_of_a_device_of_demo_48(device: str, node: int) -> None:
    assert node_of_device(*shipped("demo-48"), device) == node


def test_bridge_of_demo_48_has_no_node() -> None:
    with pytest.raises(DeviceError, match="name the physical one below it"):
        node_of_device(*shipped("demo-48"), "br-ex")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_device_is_on_a_node_of_its_machine(name: str) -> None:
    sysfs, machine = shipped(name)
    for device in SHIPPED[name][1].devices:
        assert node_of_device(sysfs, machine, device.interface or device.address) == device.node


@pytest.mark.parametrize("size_kb", [2048, 1048576])
def test_every_node_of_demo_48_has_free_hugepages(size_kb: int) -> None:
    shape = SHIPPED["demo-48"][1]
    assert shape.hugepages is not None
    assert shape.hugepages[size_kb][1] > 0
