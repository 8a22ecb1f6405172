# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The isolated CPUs are those of the chosen file, whatever the others hold; a file that may hide some is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from epa_orchestrator.hardware.cpu_files import MachineError
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.isolated_cpus import ISOLATED_FILES, how_to_isolate, read_all_sources, read_isolated
from epa_orchestrator.hardware.recording import record_machine
from epa_orchestrator.hardware.sysfs import CUT, RecordedSysfs, SysfsTree
from epa_orchestrator.names import IsolatedCpusFrom
from tools.synthetic import Shape, build, write_tree

ISOLATED, NOHZ_FULL = "devices/system/cpu/isolated", "devices/system/cpu/nohz_full"
CPUSET = "fs/cgroup/cpuset.cpus.isolated"
FILES = {ISOLATED: "1", NOHZ_FULL: "2-3", CPUSET: "4,6"}
SOURCES: tuple[IsolatedCpusFrom, ...] = ("isolcpus", "nohz_full", "cpuset")


@pytest.mark.parametrize(
    ("source", "text", "cpus"),
    [
        ("isolcpus", "2-5", "2-5"),
        ("isolcpus", "", ""),
        ("isolcpus", "(null)", ""),
        ("nohz_full", "2-5,9", "2-5,9"),
        ("nohz_full", "(null)", ""),
        ("nohz_full", "", ""),
        ("cpuset", "3", "3"),
        ("cpuset", "", ""),
    ],
)
def test_isolated_cpus_are_the_list_in_the_file(source: IsolatedCpusFrom, text: str, cpus: str) -> None:
    assert str(read_isolated(RecordedSysfs({ISOLATED_FILES[source]: text}), source)) == cpus


@pytest.mark.parametrize(("source", "cpus"), [("isolcpus", "1"), ("nohz_full", "2-3"), ("cpuset", "4,6")])
def test_other_files_do_not_count(source: IsolatedCpusFrom, cpus: str) -> None:
    assert str(read_isolated(RecordedSysfs(FILES), source)) == cpus
    machine = read_machine(RecordedSysfs(build(Shape(cores_per_l3=8)) | FILES), source)
    assert str(machine.isolated) == cpus


@pytest.mark.parametrize("source", SOURCES)
def test_missing_file_has_no_cpus_whatever_the_others_hold(source: IsolatedCpusFrom) -> None:
    others = {path: text for path, text in FILES.items() if path != ISOLATED_FILES[source]}
    assert str(read_isolated(RecordedSysfs(others), source)) == ""


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("text", ["rubbish", "3-1", f"2-{CUT}", "9" * 5000, "0-65536"])
def test_file_that_is_no_whole_list_is_refused(source: IsolatedCpusFrom, text: str) -> None:
    with pytest.raises(MachineError, match=ISOLATED_FILES[source]):
        read_isolated(RecordedSysfs(FILES | {ISOLATED_FILES[source]: text}), source)


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("isolcpus", "in a snap, connect its plugs"),
        ("nohz_full", "in a snap, connect its plugs"),
        ("cpuset", "in a snap, run: sudo snap connect epa-orchestrator:topology"),
    ],
)
def test_file_that_may_not_be_read_is_refused_with_the_remedy(source: IsolatedCpusFrom, remedy: str) -> None:
    path = ISOLATED_FILES[source]
    others = {name: text for name, text in FILES.items() if name != path}
    with pytest.raises(MachineError) as caught:
        read_isolated(RecordedSysfs(others, hidden=[path]), source)
    assert str(caught.value) == f"sysfs {path} is there but cannot be read; {remedy}"


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("isolcpus", "set isolcpus= on its kernel command line"),
        ("nohz_full", "set nohz_full= on its kernel command line"),
        ("cpuset", "make an isolated cpuset partition"),
    ],
)
def test_every_source_has_a_remedy(source: IsolatedCpusFrom, remedy: str) -> None:
    assert how_to_isolate(source, "its kernel command line") == remedy


def test_recording_has_every_source(tmp_path: Path) -> None:
    write_tree(build(Shape(cores_per_l3=8)) | FILES, tmp_path / "sys")
    tree = SysfsTree(tmp_path / "sys")
    recorder, problems = record_machine(tree)
    assert problems == []
    copy = RecordedSysfs(recorder.files, recorder.entries, recorder.hidden)
    assert [read_machine(copy, source) for source in SOURCES] == [read_machine(tree, source) for source in SOURCES]
    assert [str(read_machine(copy, source).isolated) for source in SOURCES] == ["1", "2-3", "4,6"]


def test_source_that_may_not_be_read_is_refused_in_its_recording_too() -> None:
    source = RecordedSysfs(build(Shape(cores_per_l3=8, isolated="1")), hidden=[CPUSET])
    recorder, problems = record_machine(source)
    sentence = (
        f"sysfs {CPUSET} is there but cannot be read; in a snap, run: sudo snap connect epa-orchestrator:topology"
    )
    assert problems == [sentence]
    copy = RecordedSysfs(recorder.files, recorder.entries, recorder.hidden)
    assert str(read_machine(copy).isolated) == "1"
    with pytest.raises(MachineError, match=CPUSET):
        read_machine(copy, "cpuset")


def test_damaged_source_is_named_once_and_does_not_hide_the_others() -> None:
    files = build(Shape(cores_per_l3=8)) | FILES | {ISOLATED: "rubbish"}
    (problem,) = read_all_sources(RecordedSysfs(files))
    assert problem.startswith(f"sysfs {ISOLATED} is not a CPU list")
    recorder, problems = record_machine(RecordedSysfs(files))
    assert problems == [problem]
    assert {NOHZ_FULL, CPUSET} < recorder.files.keys()
