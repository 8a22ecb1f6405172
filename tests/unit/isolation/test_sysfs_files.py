# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Files below sys/ come from a sysfs tree or a recording of one, and all others from the host that it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from epa_orchestrator.hardware.sysfs import CUT, RecordedSysfs, Sysfs, SysfsTree
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.sysfs_files import SysfsFiles

ISOLATED, NOHZ_FULL = "devices/system/cpu/isolated", "devices/system/cpu/nohz_full"
OTHERS = RecordedHost({"proc/cmdline": "quiet\n", "sys/devices/system/cpu/isolated": "7"})


@pytest.fixture(params=["tree", "recording"])
def sysfs(request: pytest.FixtureRequest, tmp_path: Path) -> Sysfs:
    if request.param == "recording":
        return RecordedSysfs({ISOLATED: "2-3"})
    (tmp_path / ISOLATED).parent.mkdir(parents=True)
    (tmp_path / ISOLATED).write_text("2-3\n")
    return SysfsTree(tmp_path)


def test_files_below_sys_are_those_of_the_sysfs_tree(sysfs: Sysfs) -> None:
    files = SysfsFiles(sysfs, OTHERS)
    assert files.read(f"sys/{ISOLATED}") == "2-3"
    assert files.read(f"sys/{NOHZ_FULL}") == Unread(f"sys/{NOHZ_FULL}")
    assert files.names("sys/devices/system/cpu") == ["isolated"]
    assert files.names("sys/devices/system/node") == Unread("sys/devices/system/node")


def test_other_files_are_those_of_the_host(sysfs: Sysfs) -> None:
    files = SysfsFiles(sysfs, OTHERS)
    assert files.read("proc/cmdline") == "quiet\n"
    assert files.names("proc") == ["cmdline"]


def test_other_files_are_missing_where_the_host_is_not_known(sysfs: Sysfs) -> None:
    assert SysfsFiles(sysfs).read("proc/cmdline") == Unread("proc/cmdline")
    assert SysfsFiles(sysfs).names("proc") == Unread("proc")


def test_file_that_the_recording_process_could_not_see_is_denied() -> None:
    files = SysfsFiles(RecordedSysfs({}, hidden=[NOHZ_FULL, "devices/system/node"]))
    assert files.read(f"sys/{NOHZ_FULL}") == Unread(f"sys/{NOHZ_FULL}", "denied")
    assert files.names("sys/devices/system/node") == Unread("sys/devices/system/node", "denied")


def test_list_without_its_end_counts_as_missing() -> None:
    assert SysfsFiles(RecordedSysfs({ISOLATED: f"2-{CUT}"})).read(f"sys/{ISOLATED}") == Unread(f"sys/{ISOLATED}")
