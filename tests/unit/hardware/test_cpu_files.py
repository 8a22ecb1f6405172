# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A list whose end is missing is an error in each file that holds one, and never a shorter list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.cpu_files import MachineError, numbers, read_cpus, read_decisive, read_topology
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import CUT, RecordedSysfs, Recorder, SysfsTree, dump_recording, load_recording
from tools.synthetic import Shape, build, build_hybrid, write_tree

CPU, NODE = "devices/system/cpu", "devices/system/node"
SIBLINGS, L3 = f"{CPU}/cpu0/topology/thread_siblings", f"{CPU}/cpu0/cache/index3/shared_cpu"

#: Two nodes of two cores with two threads: CPU n and n + 4 share a core, node 0 has 0-1 and 4-5.
FILES = build(Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="1-3,5-7"))
#: A kernel without ids of packages: they are the CPUs of `core_siblings`.
NO_PACKAGE_IDS = {path: text for path, text in FILES.items() if "physical_package_id" not in path}

#: By name: the files of the host, and the one that loses its end.
CUT_LISTS: dict[str, tuple[dict[str, str], str]] = {
    "online": (FILES, f"{CPU}/online"),
    "isolated": (FILES, f"{CPU}/isolated"),
    "present": (FILES, f"{CPU}/present"),
    "nodes": (FILES, f"{NODE}/online"),
    "CPUs of a node": (FILES, f"{NODE}/node1/cpulist"),
    "siblings": (FILES, f"{SIBLINGS}_list"),
    "siblings of an old kernel": (
        {path: text for path, text in FILES.items() if "thread_siblings_list" not in path},
        f"{CPU}/cpu0/topology/core_cpus_list",
    ),
    "L3": (FILES, f"{L3}_list"),
    "package": (NO_PACKAGE_IDS, f"{CPU}/cpu0/topology/core_siblings_list"),
    "performance cores": (build_hybrid(2, 2), "devices/cpu_core/cpus"),
    "efficiency cores": (build_hybrid(2, 2), "devices/cpu_atom/cpus"),
}


def tree(files: dict[str, str], root: Path, **raw: str) -> SysfsTree:
    """The files on disk, and in `raw` by path the ones that are written as they are."""
    write_tree(files, root)
    for path, content in raw.items():
        (root / path).write_text(content)
    return SysfsTree(root)


@pytest.mark.parametrize(("files", "path"), CUT_LISTS.values(), ids=CUT_LISTS.keys())
def test_list_without_its_end_is_an_error_that_names_the_file(files: dict[str, str], path: str, tmp_path: Path) -> None:
    sysfs = tree(files, tmp_path, **{path: files[path]})
    with pytest.raises(MachineError, match=f"^sysfs {path} is cut short after "):
        read_machine(sysfs)


@pytest.mark.parametrize(("files", "path"), CUT_LISTS.values(), ids=CUT_LISTS.keys())
def test_recording_of_a_cut_list_gives_the_same_error(files: dict[str, str], path: str, tmp_path: Path) -> None:
    recorder = Recorder(tree(files, tmp_path, **{path: files[path]}))
    with pytest.raises(MachineError) as at_first:
        read_machine(recorder)
    served = load_recording(dump_recording("n", "d", recorder.files, recorder.entries, recorder.hidden))
    with pytest.raises(MachineError) as later:
        read_machine(served)
    assert str(later.value) == str(at_first.value)


#: Lists of 4094 and of 4095 characters.
ALMOST_A_PAGE = ",".join(map(str, range(1000, 1000 + 2 * 819, 2)))
A_PAGE = "10001," + ALMOST_A_PAGE[5:]


@pytest.mark.parametrize("ending", ["", "\n"], ids=["without newline", "with newline"])
def test_list_that_fills_a_page_is_an_error(ending: str, tmp_path: Path) -> None:
    assert len(A_PAGE) == 4095
    sysfs = tree(FILES, tmp_path, **{f"{CPU}/isolated": A_PAGE + ending})
    with pytest.raises(MachineError, match="isolated is cut short"):
        read_decisive(sysfs, f"{CPU}/isolated")


def test_list_of_4094_characters_with_its_newline_is_whole(tmp_path: Path) -> None:
    sysfs = tree(FILES, tmp_path, **{f"{CPU}/isolated": ALMOST_A_PAGE + "\n"})
    assert read_decisive(sysfs, f"{CPU}/isolated") == CpuSet.parse(ALMOST_A_PAGE)


def test_list_of_several_pages_is_whole(tmp_path: Path) -> None:
    cpus = CpuSet(range(0, 8192, 2))
    sysfs = tree(FILES, tmp_path, **{f"{NODE}/node0/cpulist": f"{cpus}\n"})
    assert read_machine(sysfs).nodes[0].cpus == cpus


@pytest.mark.parametrize("text", ["foo", "3-1", "0\x00"])
@pytest.mark.parametrize("path", [f"{SIBLINGS}_list", f"{L3}_list", f"{NODE}/node0/cpulist"])
def test_list_that_holds_something_else_is_an_error(path: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=f"{path} is not a set of CPUs"):
        read_machine(tree(FILES, tmp_path, **{path: f"{text}\n"}))


@pytest.mark.parametrize("content", ["\n", "", "(null)\n", " (null)\n"])
def test_no_cpu_is_isolated(content: str, tmp_path: Path) -> None:
    sysfs = tree(FILES, tmp_path, **{f"{CPU}/isolated": content})
    assert not read_machine(sysfs).isolated


@pytest.mark.parametrize("content", ["\n", ""])
def test_node_without_cpus_is_no_cut_list(content: str, tmp_path: Path) -> None:
    files = build(Shape(cores_per_l3=2, memory_only_nodes=1))
    machine = read_machine(tree(files, tmp_path, **{f"{NODE}/node1/cpulist": content}))
    assert [str(node.cpus) for node in machine.nodes] == ["0-1", ""]


def siblings_of_cpu_0(machine: Machine) -> str:
    return str(machine.cores[0].cpus)


def l3_of_cpu_0(machine: Machine) -> str:
    return str(machine.l3_domains[0])


@pytest.mark.parametrize(
    ("list_path", "mask_path", "found"),
    [(f"{SIBLINGS}_list", SIBLINGS, siblings_of_cpu_0), (f"{L3}_list", f"{L3}_map", l3_of_cpu_0)],
    ids=["siblings", "L3"],
)
class TestMaskOfACutList:
    """A list of the topology has lost its end, and there is a mask of the same CPUs."""

    def test_stands_in_for_it(
        self, list_path: str, mask_path: str, found: Callable[[Machine], str], tmp_path: Path
    ) -> None:
        sysfs = tree(FILES | {mask_path: "33"}, tmp_path, **{list_path: "0-1,4"})
        assert found(read_machine(sysfs)) == "0-1,4-5"

    def test_is_cut_too(self, list_path: str, mask_path: str, found: Callable[[Machine], str], tmp_path: Path) -> None:
        sysfs = tree(FILES | {mask_path: "33"}, tmp_path, **{list_path: "0-1,4", mask_path: "33"})
        with pytest.raises(MachineError, match=f"{list_path} is cut short"):
            read_machine(sysfs)


def test_mask_does_not_stand_in_for_the_list_of_a_node(tmp_path: Path) -> None:
    sysfs = tree(FILES | {f"{NODE}/node0/cpumap": "33"}, tmp_path, **{f"{NODE}/node0/cpulist": "0-1,4"})
    with pytest.raises(MachineError, match="node0/cpulist is cut short"):
        read_machine(sysfs)


def test_cut_mask_is_an_error_where_there_is_no_list() -> None:
    with pytest.raises(MachineError, match="sysfs mask is cut short after 'ff'"):
        read_cpus(RecordedSysfs({"mask": f"ff{CUT}"}), "list", "mask")


def test_hidden_topology_is_an_error_and_a_missing_one_is_none() -> None:
    sysfs = RecordedSysfs({}, {"a": ["list"]})
    assert read_topology(sysfs, "b/list", "b/mask") is None
    with pytest.raises(MachineError, match=r"^sysfs a/list is there but cannot be read; in a snap, connect its plugs$"):
        read_topology(sysfs, "a/list", "a/mask")


def test_decisive_file_in_a_hidden_directory_is_an_error() -> None:
    with pytest.raises(MachineError, match="cpu/isolated is there but cannot be read"):
        read_decisive(RecordedSysfs({}, hidden=[f"{CPU}/isolated"]), f"{CPU}/isolated")


def test_numbers_are_those_of_the_prefix_in_order() -> None:
    names = ["node10", "node2", "node", "nodes3", "cpu1", "node2x", "node99999999"]
    assert numbers(names, "node") == [2, 10]
