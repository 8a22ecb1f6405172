# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Files of a host are read from a directory or a recording, and one that cannot be read says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epa_orchestrator.isolation.host_files import HostRecorder, HostTree, RecordedHost, Unread


@pytest.fixture
def tree(tmp_path: Path) -> HostTree:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cmdline").write_text("quiet\n")
    return HostTree(tmp_path)


def test_text_is_read_as_it_is(tree: HostTree) -> None:
    assert tree.read("proc/cmdline") == "quiet\n"
    assert tree.names("proc") == ["cmdline"]


def test_missing_file_and_directory_say_so(tree: HostTree) -> None:
    assert tree.read("proc/x") == tree.names("proc/x") == Unread("proc/x")
    assert Unread("proc/x").needs == "/proc/x, which is not there"


def test_fifo_and_directory_are_no_files(tree: HostTree, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "proc" / "pipe")
    assert tree.read("proc/pipe") == Unread("proc/pipe")
    assert tree.read("proc") == Unread("proc")


@pytest.mark.parametrize(
    ("remedy", "needs"),
    [
        ("", "/proc/x, which this process may not read"),
        ("which only root may read", "/proc/x, which only root may read"),
    ],
)
def test_denied_file_says_how_to_read_it(remedy: str, needs: str) -> None:
    assert Unread("proc/x", "denied", remedy).needs == needs


def test_tree_asks_for_the_remedy_of_a_denied_file(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # root may read everything but what the kernel itself refuses
        pytest.skip("root may read every file")
    (tmp_path / "secret").touch(0)
    assert HostTree(tmp_path, lambda path: f"as root: {path}").read("secret") == Unread(
        "secret", "denied", "as root: secret"
    )


def test_recorded_host_has_its_files_and_names() -> None:
    host = RecordedHost({"proc/cmdline": "quiet", "proc/1/stat": "1"}, ["proc/irq/4/x"], {"sys/class/net": []})
    assert host.read("proc/cmdline") == "quiet"
    assert host.names("proc") == ["1", "cmdline", "irq"]
    assert host.names("sys/class/net") == []
    assert host.read("proc/uptime") == Unread("proc/uptime")
    assert host.read("proc/irq/4/x") == Unread("proc/irq/4/x", "denied", "which was not recorded")


def test_recording_of_a_machine_alone_can_tell_of_no_other_file() -> None:
    host = RecordedHost({"sys/a": "1"}, complete=False)
    assert host.read("sys/a") == "1"
    assert host.read("proc/uptime") == Unread("proc/uptime", "denied", "which was not recorded")
    assert host.names("proc") == Unread("proc", "denied", "which was not recorded")


def test_recorder_remembers_what_it_reads_and_may_not_read() -> None:
    recorder = HostRecorder(RecordedHost({"a/b": "1"}, ["a/c"]))
    assert recorder.read("a/b") == "1"
    assert isinstance(recorder.read("a/c"), Unread)
    assert isinstance(recorder.read("a/d"), Unread)
    assert recorder.names("a") == ["b", "c"]
    assert (recorder.files, recorder.denied, recorder.entries) == ({"a/b": "1"}, {"a/c"}, {"a": ["b", "c"]})
