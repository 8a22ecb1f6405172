# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The operator of an empty pool reads where the host isolates CPUs instead, as far as the host's files are known."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.daemon.elsewhere import find_elsewhere
from epa_orchestrator.hardware.sysfs import RecordedSysfs, Sysfs, SysfsTree
from tools.synthetic import Shape, build, write_tree

CPU = "devices/system/cpu"
CPUSET = "fs/cgroup/cpuset.cpus.isolated"
FILES = build(Shape(cores_per_l3=16)) | {f"{CPU}/nohz_full": "2-15", f"{CPU}/possible": "0-15"}
#: The host of the tests' title: isolcpus= has only managed_irq, so that the kernel's list of isolated CPUs is empty.
MANAGED = "quiet isolcpus=managed_irq,2-15 nohz_full=2-15"
SENTENCE = "nohz_full has 2-15, isolcpus= has only managed_irq: set isolated-cpus-from=nohz_full or add domain"


def host_in(directory: Path, files: dict[str, str], cmdline: str) -> tuple[Sysfs, Path]:
    write_tree(files, directory / "sys")
    (directory / "proc").mkdir()
    (directory / "proc" / "cmdline").write_text(cmdline + "\n")
    return SysfsTree(directory / "sys"), directory


def test_other_lists_and_the_kernel_line_are_named(tmp_path: Path) -> None:
    assert find_elsewhere(*host_in(tmp_path, FILES, MANAGED), "isolcpus") == SENTENCE


def test_line_of_this_host_is_never_read_for_another_one(tmp_path: Path) -> None:
    sysfs, _ = host_in(tmp_path, FILES, MANAGED)
    for each in (sysfs, RecordedSysfs(FILES)):
        sentence = find_elsewhere(each, None, "isolcpus")
        assert sentence.startswith("nohz_full has 2-15: set isolated-cpus-from=nohz_full")
        assert "managed_irq: " not in sentence


@pytest.mark.parametrize(
    ("files", "source"),
    [
        (FILES | {f"{CPU}/nohz_full": "(null)"}, "isolcpus"),
        (FILES | {f"{CPU}/isolated": "2-3"}, "isolcpus"),
        (FILES, "nohz_full"),
        (FILES | {CPUSET: "4"}, "cpuset"),
    ],
)
def test_nothing_is_said_where_nothing_is_elsewhere(files: dict[str, str], source: str, tmp_path: Path) -> None:
    chosen = parse_settings({"isolated-cpus-from": source}).isolated_cpus_from
    assert find_elsewhere(*host_in(tmp_path, files, "quiet"), chosen) == ""


def host_with(sysfs: Sysfs, root: Path | None, settings: Settings) -> Host:
    return Host(sysfs, settings, None, lambda source: find_elsewhere(sysfs, root, source))


def test_warning_is_logged_once_and_goes_with_its_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    host = host_with(*host_in(tmp_path, FILES, MANAGED), Settings())
    host.pools()
    host.read_again()
    warning = f"Pool isolated has no CPUs, so requests for pinning are refused: {SENTENCE}"
    assert host.warnings() == (warning,)
    assert caplog.messages == [warning]
    host.use(parse_settings({"isolated-cpus-from": "nohz_full"}))
    assert str(host.pools().isolated.eligible) == "2-15"
    assert host.warnings() == ()


def test_no_request_reads_the_other_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_with(*host_in(tmp_path, FILES, MANAGED), Settings())
    pools = host.pools()

    def refuse(*_: object) -> None:
        raise AssertionError("only a reading of the host looks elsewhere")

    monkeypatch.setattr("epa_orchestrator.daemon.elsewhere.find_elsewhere", refuse)
    monkeypatch.setattr("epa_orchestrator.isolation.host_files.HostTree.read", refuse)
    assert host.known_pools() is pools
    assert len(host.warnings()) == 1
