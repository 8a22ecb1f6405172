"""Discovery: every real machine gives the facts recorded for it, and damaged or old sysfs trees are coped with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.discovery import MachineError, read_machine
from epa_orchestrator.hardware.hugepages import Hugepages, read_hugepages
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs, Recorder, SysfsTree, dump_recording, load_recording
from tests.machines import made_up, real_machine, real_machine_files, real_sysfs, write_real_machine
from tools.synthetic import Shape, build

REAL = real_machine_files()

#: Where the unmodified dump contradicts the facts, which describe the tree as a current kernel would show it: its node
#: lists hold offline CPUs, or its nodes have neither list nor mask but links.
VERBATIM_NODES_DIFFER = {"haswell-2s-24c-offline-cpu0-node0", "power8-8247-22l-deconf-80p"}


def found(machine: Machine) -> dict[str, object]:
    """What discovery found, in the terms of the recorded facts."""
    return {
        "cpus_present": str(machine.present),
        "cpus_online": str(machine.online),
        "isolated": str(machine.isolated),
        "n_cores": len(machine.cores),
        "smt_widths": sorted({len(core.cpus) for core in machine.cores}),
        "n_sockets": len(machine.packages),
        "n_l3": len(machine.l3_domains),
        "node_ids": str(CpuSet(machine.node_ids)),
        "node_cpus": {str(node.id): str(node.cpus) for node in machine.nodes},
        "node_memtotal_kb": {str(node.id): node.memory_kb for node in machine.nodes},
        "cpuless_nodes": str(CpuSet(node.id for node in machine.nodes if not node.cpus)),
        "distances": [list(node.distances) for node in machine.nodes],
    }


def expected(facts: dict[str, Any], machine: Machine) -> dict[str, object]:
    """The recorded facts that a reader can find: some dumps lack files, some facts are summaries."""
    facts = dict(facts)
    facts["isolated"] = facts["isolated"] or ""
    facts["n_l3"] = facts["n_l3"] or 0
    if facts["n_nodes"] == 0:  # no node directory: everything is node 0
        facts |= {"node_ids": "0", "node_cpus": {"0": facts["cpus_present"]}, "node_memtotal_kb": {"0": None}}
        facts |= {"distances": [[]], "cpuless_nodes": ""}
    if facts["distances"] == []:
        facts["distances"] = [[] for _ in machine.nodes]
    keys = [key for key in found(machine) if not (key == "distances" and isinstance(facts[key], str))]
    return {key: facts[key] for key in keys}


@pytest.mark.skipif(not REAL, reason="the recorded real machines are not beside this checkout")
@pytest.mark.parametrize("verbatim", [False, True], ids=["current", "verbatim"])
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_machine_gives_its_facts(path: Path, verbatim: bool) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    sysfs = real_sysfs(document, verbatim=verbatim)
    machine = read_machine(sysfs)
    facts = expected(document["facts"], machine)
    actual = {key: value for key, value in found(machine).items() if key in facts}
    if verbatim and path.stem in VERBATIM_NODES_DIFFER:
        del facts["node_cpus"], actual["node_cpus"]
    assert actual == facts
    pages = {
        f"node{node_id}/{size.size_kb}kB": size.total
        for node_id in machine.node_ids
        for size in read_hugepages(sysfs, node_id)
        if size.total
    }
    assert pages == document["facts"]["hugepages_allocated"]


@pytest.mark.skipif(not REAL, reason="the recorded real machines are not beside this checkout")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_recording_of_a_real_machine_is_the_same_machine(path: Path) -> None:
    recorder = Recorder(real_sysfs(json.loads(path.read_text(encoding="utf-8"))))
    machine = read_machine(recorder)
    pages = [read_hugepages(recorder, node_id) for node_id in machine.node_ids]
    replayed = load_recording(dump_recording("x", "y", recorder.files, recorder.entries))
    assert read_machine(replayed) == machine
    assert [read_hugepages(replayed, node_id) for node_id in machine.node_ids] == pages


@pytest.mark.skipif(not REAL, reason="the recorded real machines are not beside this checkout")
@pytest.mark.parametrize("name", ["power8-8247-22l-deconf-80p", "tulsa-4s-16t-offlines", "xeon4108-2s-32t-hugepages"])
def test_tree_on_disk_is_the_same_machine(name: str, tmp_path: Path) -> None:
    path = next(path for path in REAL if path.stem == name)
    tree = write_real_machine(json.loads(path.read_text(encoding="utf-8")), tmp_path)
    machine = read_machine(tree)
    assert machine == real_machine(name)
    assert read_hugepages(tree, 0) == read_hugepages(real_sysfs(json.loads(path.read_text(encoding="utf-8"))), 0)


@pytest.mark.parametrize(
    ("name", "performance", "efficiency"),
    [
        ("raptorlake-i7-1370p-20t", "0-11", "12-19"),
        # Cortex-X3 and A715/A710 have capacities 1024 and 855, the A510s 280.
        ("armphone-a510-a710-a715-x3-8c", "3-7", "0-2"),
        ("skylake-x-1s-20t", "", ""),  # favoured cores are no type of their own
        ("kunpeng920-2s4n-128c", "", ""),  # one capacity
    ],
)
def test_core_types(name: str, performance: str, efficiency: str) -> None:
    machine = real_machine(name)
    by_type = {
        kind: str(CpuSet(cpu for core in machine.cores if core.type == kind for cpu in core.cpus))
        for kind in ("performance", "efficiency")
    }
    assert by_type == {"performance": performance, "efficiency": efficiency}


def test_intel_pmus_name_the_core_types() -> None:
    files = build(Shape(cores_per_l3=4)) | {"devices/cpu_core/cpus": "0-1", "devices/cpu_atom/cpus": "2-3"}
    machine = read_machine(RecordedSysfs(files))
    assert [core.type for core in machine.cores] == ["performance", "performance", "efficiency", "efficiency"]


def test_machine_with_everything_to_find() -> None:
    shape = Shape(packages=2, nodes_per_package=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2, isolated="2-5")
    machine = made_up(shape)
    # 2 x 2 x 2 x 2 = 16 cores; x86 numbers the second threads 16 to 31, in the order of the first ones.
    assert [str(package.cpus) for package in machine.packages] == ["0-7,16-23", "8-15,24-31"]
    assert [str(node.cpus) for node in machine.nodes] == ["0-3,16-19", "4-7,20-23", "8-11,24-27", "12-15,28-31"]
    assert sorted(str(domain) for domain in machine.l3_domains)[:2] == ["0-1,16-17", "10-11,26-27"]
    assert len(machine.l3_domains) == 8
    assert str(machine.cores[0].cpus) == "0,16"
    assert str(machine.isolated) == "2-5"


def test_sub_numa_clustering_puts_nodes_below_one_l3() -> None:
    machine = made_up(Shape(nodes_per_package=2, cores_per_l3=2, l3_scope="package"))
    assert [str(node.cpus) for node in machine.nodes] == ["0-1", "2-3"]
    assert [str(domain) for domain in machine.l3_domains] == ["0-3"]


def test_memory_only_nodes_have_no_cpus() -> None:
    machine = made_up(Shape(cores_per_l3=2, memory_only_nodes=2))
    assert [(node.id, str(node.cpus)) for node in machine.nodes] == [(0, "0-1"), (1, ""), (2, "")]


def test_offline_sibling_is_in_no_core() -> None:
    machine = made_up(Shape(cores_per_l3=2, threads_per_core=2, offline="3"))
    assert [str(core.cpus) for core in machine.cores] == ["0,2", "1"]
    assert str(machine.present - machine.online) == "3"


def test_an_offline_cpu_stays_in_the_core_that_it_was_seen_in() -> None:
    before = made_up(Shape(cores_per_l3=2, threads_per_core=2)).known_cores()
    after = made_up(Shape(cores_per_l3=2, threads_per_core=2, offline="3")).known_cores(before)
    assert after == before == {0: 0b0101, 2: 0b0101, 1: 0b1010, 3: 0b1010}


def test_a_core_whose_threads_are_in_several_cores_now_is_forgotten() -> None:
    """Another machine, on which CPUs 1 and 2 are offline; each CPU is in one core, in whatever order one looks."""
    before = made_up(Shape(cores_per_l3=2, threads_per_core=4, siblings="adjacent")).known_cores()
    after = made_up(Shape(cores_per_l3=4, threads_per_core=2, offline="1,2")).known_cores(before)
    assert {cpu: str(CpuSet.from_mask(threads)) for cpu, threads in after.items()} == {
        0: "0,4",
        4: "0,4",
        3: "3,7",
        7: "3,7",
    }


def test_machine_of_4096_cpus() -> None:
    machine = made_up(Shape(packages=4, nodes_per_package=4, l3_per_node=8, cores_per_l3=16, threads_per_core=2))
    assert (len(machine.online), len(machine.cores), len(machine.l3_domains)) == (4096, 2048, 128)


def without(files: dict[str, str], *parts: str) -> dict[str, str]:
    return {path: text for path, text in files.items() if not any(part in path for part in parts)}


def test_masks_stand_in_for_lists() -> None:
    shape = Shape(packages=2, cores_per_l3=20, threads_per_core=2, isolated="1-3")
    files = build(shape)
    masked: dict[str, str] = {}
    twins = {"thread_siblings_list": "thread_siblings", "shared_cpu_list": "shared_cpu_map", "cpulist": "cpumap"}
    for path, text in files.items():
        directory, _, name = path.rpartition("/")
        if name in twins:
            mask = f"{CpuSet.parse(text).mask:020x}"
            masked[f"{directory}/{twins[name]}"] = f"{mask[:4]},{mask[4:12]},{mask[12:]}"
        elif name != "core_cpus_list":
            masked[path] = text
    assert read_machine(RecordedSysfs(masked)) == made_up(shape)


def test_without_node_directory_all_is_node_0() -> None:
    machine = read_machine(RecordedSysfs(without(build(Shape(packages=2, cores_per_l3=2)), "system/node")))
    assert [(node.id, str(node.cpus)) for node in machine.nodes] == [(0, "0-3")]


def test_without_cache_files_there_is_no_l3() -> None:
    assert read_machine(RecordedSysfs(without(build(Shape()), "/cache/"))).l3_domains == ()


def test_without_isolated_file_none_is_isolated() -> None:
    files = without(build(Shape(isolated="1-2")), "cpu/isolated")
    assert not read_machine(RecordedSysfs(files)).isolated


def test_without_online_file_each_cpu_says_so() -> None:
    files = without(build(Shape(offline="2")), "system/cpu/online")
    assert str(read_machine(RecordedSysfs(files)).online) == "0-1,3"


def test_without_sibling_files_each_cpu_is_a_core() -> None:
    files = without(build(Shape(threads_per_core=2, cores_per_l3=2)), "siblings_list", "core_cpus_list")
    assert [str(core.cpus) for core in read_machine(RecordedSysfs(files)).cores] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "sysfs shows no CPUs"),
        ({"devices/system/cpu/present": "0-3", "devices/system/cpu/online": ""}, "sysfs shows no online CPUs"),
        ({"devices/system/cpu/present": "0-3", "devices/system/cpu/online": "3-0"}, "online is not a CPU list"),
        (
            {
                "devices/system/cpu/present": "0-1",
                "devices/system/cpu/online": "0-1",
                "devices/system/cpu/isolated": "x",
            },
            "isolated is not a CPU list",
        ),
    ],
)
def test_no_machine_is_made_up_from_a_damaged_tree(files: dict[str, str], sentence: str) -> None:
    with pytest.raises(MachineError, match=sentence):
        read_machine(RecordedSysfs(files))


@pytest.mark.parametrize("name", ["present", "online", "isolated"])
def test_no_machine_is_made_up_from_a_decisive_file_that_is_listed_but_cannot_be_read(name: str) -> None:
    """So it is in a snap whose plug is not connected: taken for an absent one it would say that none is isolated."""
    path = f"devices/system/cpu/{name}"
    files = build(Shape(isolated="1-2"))
    del files[path]
    sysfs = RecordedSysfs(files, {"devices/system/cpu": [name]})
    with pytest.raises(MachineError, match=f"^sysfs {path} is there but cannot be read; in a snap, connect its plugs$"):
        read_machine(sysfs)


def test_distance_of_a_row_that_is_not_understood_is_the_kernels_default() -> None:
    machine = real_machine("haswell-2s-24c-offline-cpu0-node0")
    assert machine.node_ids == (1,)
    assert len(machine.nodes[0].distances) == 2
    assert (machine.distance(1, 1), machine.distance(1, 0)) == (10, 20)


def test_distance_with_gaps_in_the_node_ids() -> None:
    machine = real_machine("opteron-magnycours-48c-sparse")
    assert machine.node_ids == (0, 1, 2, 33, 34, 45, 72, 73)
    for index, node in enumerate(machine.nodes):
        assert machine.distance(node.id, node.id) == 10 == node.distances[index]
        assert machine.distance(node.id, 73) == node.distances[7]


def test_hugepages_are_read_anew(tmp_path: Path) -> None:
    directory = tmp_path / "devices/system/node/node0/hugepages/hugepages-2048kB"
    directory.mkdir(parents=True)
    (directory / "nr_hugepages").write_text("8\n")
    (directory / "free_hugepages").write_text("8\n")
    assert read_hugepages(SysfsTree(tmp_path), 0) == (Hugepages(2048, 8, 8),)
    (directory / "free_hugepages").write_text("3\n")
    assert read_hugepages(SysfsTree(tmp_path), 0) == (Hugepages(2048, 8, 3),)
    assert read_hugepages(SysfsTree(tmp_path), 1) == ()


def test_hugepages_of_a_kernel_without_nodes() -> None:
    pages = "kernel/mm/hugepages/hugepages-1048576kB"
    sysfs = RecordedSysfs({f"{pages}/nr_hugepages": "4", f"{pages}/free_hugepages": "1"})
    assert read_hugepages(sysfs, 0) == (Hugepages(1048576, 4, 1),)
    assert read_hugepages(sysfs, 1) == ()


_ABSURD = "9" * 5000
_CPUS, _NODES = "devices/system/cpu", "devices/system/node"


@pytest.mark.parametrize("absurd", ["99999999999", _ABSURD], ids=["a number of 11 digits", "a number of 5,000 digits"])
def test_a_recording_with_absurd_numbers_is_a_machine_without_them(absurd: str) -> None:
    """No traceback, and no memory for a set of 99,999,999,999 CPUs."""
    files = build(Shape(cores_per_l3=2, isolated="1"))
    for name in (f"{_CPUS}/present", f"{_NODES}/node0/cpulist", f"{_NODES}/node0/cpumap"):
        files.pop(name, None)
    files |= {f"{_NODES}/node0/distance": absurd, f"{_NODES}/node0/meminfo": f"Node 0 MemTotal: {absurd} kB"}
    files |= {f"{_CPUS}/cpu{cpu}/topology/physical_package_id": absurd for cpu in range(2)}
    files |= {f"{_CPUS}/cpu0/cpu_capacity": absurd, f"{_CPUS}/cpu1/cpu_capacity": "1"}
    pages = f"{_NODES}/node0/hugepages"
    files |= {f"{pages}/hugepages-2048kB/nr_hugepages": absurd, f"{pages}/hugepages-2048kB/free_hugepages": absurd}
    entries = {
        _CPUS: ["cpu0", "cpu1", f"cpu{absurd}"],
        _NODES: ["node0", f"node{absurd}"],
        f"{_NODES}/node0": ["cpu0", "cpu1", f"cpu{absurd}"],
        pages: [f"hugepages-{absurd}kB"],
    }
    sysfs = RecordedSysfs(files, entries)
    machine = read_machine(sysfs)
    assert (str(machine.present), machine.node_ids, str(machine.nodes[0].cpus)) == ("0-1", (0,), "0-1")
    assert [size.size_kb for size in read_hugepages(sysfs, 0)] == [2048]
