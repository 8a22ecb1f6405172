# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A file that the snap may not read names the plug that shows it, as snapcraft.yaml has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from epa_orchestrator.cli.snap_plugs import SYSTEM_FILES, SnapView, how_to_read, plug_for
from epa_orchestrator.isolation.host_files import RecordedHost, Unread

SNAPCRAFT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "snap" / "snapcraft.yaml").read_text("utf-8"))


@pytest.mark.parametrize("plug", SYSTEM_FILES)
def test_plugs_show_what_snapcraft_says(plug: str) -> None:
    assert SNAPCRAFT["plugs"][plug]["read"] == [f"/{path}" for path in SYSTEM_FILES[plug]]


@pytest.mark.parametrize(
    ("path", "plug"),
    [
        ("proc/interrupts", "isolation"),
        ("proc/irq/24/smp_affinity_list", "isolation"),
        ("sys/devices/virtual/workqueue/cpumask", "topology"),
        ("sys/fs/cgroup/cpuset.cpus.isolated", "topology"),
        ("sys/fs/cgroup/machine.slice/cpuset.cpus.partition", "isolation"),
        ("proc/7/cgroup", "system-observe"),
        ("proc/7/task/8/schedstat", "system-observe"),
        ("proc/irqs", None),
        ("etc/default/grub", None),
        ("sys/kernel/debug/irq/irqs/1", None),
    ],
)
def test_each_path_has_its_plug(path: str, plug: str | None) -> None:
    assert plug_for(path) == plug


def test_remedy_is_the_command_or_the_action() -> None:
    assert how_to_read("proc/irq/4/x").endswith(": run: sudo snap connect epa-orchestrator:isolation")
    assert how_to_read("etc/default/grub").endswith(": run the charm's action audit-isolation")


def test_snap_has_the_boot_files_of_its_base_and_not_the_hosts() -> None:
    view = SnapView(RecordedHost({"boot/grub/grub.cfg": "x", "proc/cmdline": "y"}))
    assert view.read("proc/cmdline") == "y"
    for unread in (view.read("boot/grub/grub.cfg"), view.names("boot/grub")):
        assert isinstance(unread, Unread)
        assert unread.reason == "denied"
