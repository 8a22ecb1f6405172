# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from pathlib import Path

import pytest

from epa_orchestrator.isolation.host_files import CopiedTree, HostRecorder, HostTree, RecordedHost, Unread

#: Another user than root, who may read no file that is not his or for all.
NOBODY = 65534


def test_a_tree_gives_the_whole_text_as_it_is(tmp_path: Path) -> None:
    text = "line\n" * 100_000
    (tmp_path / "interrupts").write_text(text)
    assert HostTree(tmp_path).read("interrupts") == text


def test_a_tree_reads_a_file_that_the_kernel_hands_out_in_parts() -> None:
    # seq_file ends each read at a line: one read gives the first part of kallsyms only.
    text = HostTree("/").read("proc/kallsyms")
    assert isinstance(text, str)
    assert len(text) > 1 << 20


def test_a_text_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    (tmp_path / "comm").write_bytes(b"a\xffb")
    assert HostTree(tmp_path).read("comm") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("path", ["missing", "missing/file", "directory", "fifo", "x" * 300])
def test_what_is_no_file_counts_as_missing(tmp_path: Path, path: str) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    assert HostTree(tmp_path).read(path) == Unread(path)


def test_a_process_that_ends_before_the_reading_counts_as_missing() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert HostTree("/").read(f"proc/{process.pid}/status") == Unread(f"proc/{process.pid}/status")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user who may not read a file")
def test_a_file_that_may_not_be_read_is_denied() -> None:
    with tempfile.TemporaryDirectory() as root:  # pytest's own directories are closed to other users
        Path(root).chmod(0o755)
        directory = Path(root) / "secret"
        directory.mkdir()
        (directory / "file").write_text("x")
        directory.chmod(0)
        os.seteuid(NOBODY)
        try:
            tree = HostTree(root)
            found = tree.read("secret/file"), tree.names("secret")
        finally:
            os.seteuid(0)
    assert found == (Unread("secret/file", "denied"), Unread("secret", "denied"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user who may not read a file")
def test_a_denied_file_and_those_of_other_numbers_are_left_alone_for_a_while() -> None:
    clock = [0.0]
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        for name in ("1", "2"):
            (Path(root) / name).mkdir()
            (Path(root) / name / "cgroup").write_text("0::/\n")
        (Path(root) / "1" / "cgroup").chmod(0)
        tree = HostTree(root, lambda: clock[0])
        os.seteuid(NOBODY)
        try:
            denied = [tree.read(f"{name}/cgroup") for name in ("1", "2")]
            clock[0] = 601.0
            later = tree.read("2/cgroup")
        finally:
            os.seteuid(0)
    assert denied == [Unread("1/cgroup", "denied"), Unread("2/cgroup", "denied")]
    assert later == "0::/\n"


def test_a_tree_lists_names_and_knows_which_directory_is_missing(tmp_path: Path) -> None:
    (tmp_path / "proc" / "1").mkdir(parents=True)
    tree = HostTree(tmp_path)
    assert (tree.names("proc"), tree.names("sys")) == (["1"], Unread("sys"))


def test_recorded_files_make_their_directories() -> None:
    host = RecordedHost({"proc/1/status": "s", "proc/2/stat": "t"}, denied={"boot/grub/grub.cfg", "sys/x"})
    assert host.read("proc/1/status") == "s"
    assert host.names("proc") == ["1", "2"]
    assert host.names("proc/2") == ["stat"]
    assert host.read("boot/grub/grub.cfg") == Unread("boot/grub/grub.cfg", "denied")
    assert host.names("sys/x") == Unread("sys/x", "denied")
    assert host.read("proc/3/stat") == Unread("proc/3/stat")


def test_a_recorder_remembers_what_it_read_and_what_it_may_not_read() -> None:
    source = RecordedHost({"proc/cmdline": "quiet\n", "proc/stat": "cpu\n"}, denied={"proc/interrupts"})
    recorder = HostRecorder(source)
    assert recorder.read("proc/cmdline") == "quiet\n"
    assert recorder.names("proc") == ["cmdline", "interrupts", "stat"]
    assert recorder.read("proc/interrupts") == Unread("proc/interrupts", "denied")
    assert recorder.read("proc/uptime") == Unread("proc/uptime")
    assert (recorder.files, recorder.denied) == ({"proc/cmdline": "quiet\n"}, {"proc/interrupts"})
    assert recorder.entries == {"proc": ["cmdline", "interrupts", "stat"]}


def test_the_reason_tells_a_missing_file_from_a_forbidden_one() -> None:
    assert Unread("proc/schedstat").needs == "/proc/schedstat, which is not there"
    assert Unread("proc/schedstat", "denied").needs == "/proc/schedstat, which this process may not read"


@pytest.mark.parametrize(
    ("remedy", "needs"),
    [
        ("", "/proc/x, which this process may not read"),
        ("which only root may read", "/proc/x, which only root may read"),
    ],
)
def test_denied_file_says_how_to_read_it(remedy: str, needs: str) -> None:
    assert Unread("proc/x", "denied", remedy).needs == needs


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


def test_without_a_free_file_descriptor_no_file_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cmdline").write_text("isolcpus=2")
    tree, limits = HostTree(tmp_path), resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            tree.read("proc/cmdline")
        with pytest.raises(OSError, match="Too many open files"):
            tree.names("proc")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert tree.read("proc/cmdline") == "isolcpus=2"


def test_a_copy_has_only_what_is_in_its_directory(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    (root / "sys" / "devices" / "eth0").mkdir(parents=True)
    (root / "sys" / "devices" / "eth0" / "rps_cpus").write_text("3")
    (tmp_path / "secret").write_text("isolcpus=2")
    (tmp_path / "copy2").mkdir()
    (root / "net").symlink_to("sys/devices")
    (root / "out").symlink_to("../secret")
    (root / "outside").symlink_to(tmp_path)
    (root / "sibling").symlink_to("../copy2")
    (root / "device").symlink_to("/dev/null")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    tree = CopiedTree(root)
    assert (tree.names("net"), tree.read("net/eth0/rps_cpus")) == (["eth0"], "3")
    for path in ("out", "outside/secret", "device", "loop", "fifo", "../secret", "net", "missing"):
        assert tree.read(path) == Unread(path)
    for path in ("outside", "sibling", "..", "loop", "missing", "net/eth0/rps_cpus"):
        assert tree.names(path) == Unread(path)


def test_a_copy_may_itself_be_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "copy" / "proc").mkdir(parents=True)
    (tmp_path / "copy" / "proc" / "cmdline").write_text("quiet")
    (tmp_path / "link").symlink_to("copy")
    assert CopiedTree(tmp_path / "link").read("proc/cmdline") == "quiet"
