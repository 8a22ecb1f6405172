# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Discovery: shipped, recorded and synthetic machines give their facts, also from damaged or old sysfs trees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.discovery import MachineError, read_machine
from epa_orchestrator.hardware.hugepages import read_hugepages
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs, Recorder, dump_recording, load_recording
from tests.machines import made_up, real_machine, real_machine_files, real_sysfs, write_real_machine
from tools.make_machines import MACHINES
from tools.synthetic import Shape, build

REAL = real_machine_files()

#: Where the unmodified dump contradicts the facts, which describe the tree as a current kernel would show it: its node
#: lists hold offline CPUs, or its nodes have neither list nor mask but links.
VERBATIM_NODES_DIFFER = {"haswell-2s-24c-offline-cpu0-node0", "power8-8247-22l-deconf-80p"}


def found(machine: Machine) -> dict[str, object]:
    """The discovered machine, in the terms of the recorded facts."""
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
    """The recorded facts that discovery can find: some dumps lack files, some facts are summaries."""
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


@pytest.mark.skipif(not REAL, reason="the recorded real machines are not next to this checkout")
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


@pytest.mark.skipif(not REAL, reason="the recorded real machines are not next to this checkout")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_recording_of_a_real_machine_is_the_same_machine(path: Path) -> None:
    recorder = Recorder(real_sysfs(json.loads(path.read_text(encoding="utf-8"))))
    machine = read_machine(recorder)
    pages = [read_hugepages(recorder, node_id) for node_id in machine.node_ids]
    replayed = load_recording(dump_recording("x", "y", recorder.files, recorder.entries))
    assert read_machine(replayed) == machine
    assert [read_hugepages(replayed, node_id) for node_id in machine.node_ids] == pages


@pytest.mark.skipif(not REAL, reason="the recorded real machines are not next to this checkout")
@pytest.mark.parametrize("name", ["power8-8247-22l-deconf-80p", "tulsa-4s-16t-offlines", "xeon4108-2s-32t-hugepages"])
def test_tree_on_disk_is_the_same_machine(name: str, tmp_path: Path) -> None:
    path = next(path for path in REAL if path.stem == name)
    tree = write_real_machine(json.loads(path.read_text(encoding="utf-8")), tmp_path)
    machine = read_machine(tree)
    assert machine == real_machine(name)
    assert read_hugepages(tree, 0) == read_hugepages(real_sysfs(json.loads(path.read_text(encoding="utf-8"))), 0)


def per_cpu(file: str, values: list[int]) -> dict[str, str]:
    return {f"devices/system/cpu/cpu{cpu}/{file}": str(value) for cpu, value in enumerate(values)}


@pytest.mark.parametrize(
    ("file", "values", "performance", "efficiency"),
    [
        # An i7-1370P: 5 or 5.2 GHz, and 3.9 GHz, which is less than four fifths of the highest.
        ("cpufreq/cpuinfo_max_freq", [5_000_000, 5_200_000, 3_900_000], "0-1", "2"),
        # Favoured cores are no type of their own.
        ("cpufreq/cpuinfo_max_freq", [4_300_000, 4_500_000, 4_300_000], "", ""),
        # Cortex-A510, A715 and X3: less than half of the highest capacity is slow.
        ("cpu_capacity", [280, 855, 1024], "1-2", "0"),
        ("cpu_capacity", [1024, 1024, 1024], "", ""),
    ],
)
def test_core_types(file: str, values: list[int], performance: str, efficiency: str) -> None:
    machine = read_machine(RecordedSysfs(build(Shape(cores_per_l3=3)) | per_cpu(file, values)))
    by_type = {
        kind: str(CpuSet(cpu for core in machine.cores if core.type == kind for cpu in core.cpus))
        for kind in ("performance", "efficiency")
    }
    assert by_type == {"performance": performance, "efficiency": efficiency}


@pytest.mark.parametrize(
    ("name", "packages", "nodes", "l3_domains", "cores", "cpus", "isolated"),
    [
        ("epyc-9654-2s", 2, 8, 24, 2 * 96, 384, 384 - 8 * 2 * 2),
        ("xeon-8380-2s-snc2", 2, 4, 2, 2 * 40, 160, 160 - 4 * 2 * 2),
        ("altra-q80-1s", 1, 1, 1, 80, 80, 80 - 4),
        ("vm-8", 1, 1, 1, 4, 8, 6),
    ],
)
def test_shipped_machine_gives_its_facts(
    name: str, packages: int, nodes: int, l3_domains: int, cores: int, cpus: int, isolated: int
) -> None:
    machine = read_machine(load_recording((MACHINES / f"{name}.json").read_text(encoding="utf-8")))
    domains = [machine.packages, machine.nodes, machine.l3_domains, machine.cores]
    assert [len(domain) for domain in domains] == [packages, nodes, l3_domains, cores]
    assert (len(machine.online), len(machine.isolated)) == (cpus, isolated)


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
def test_refuses_a_damaged_tree(files: dict[str, str], sentence: str) -> None:
    with pytest.raises(MachineError, match=sentence):
        read_machine(RecordedSysfs(files))


@pytest.mark.parametrize("name", ["present", "online", "isolated"])
def test_refuses_a_decisive_file_that_is_listed_but_cannot_be_read(name: str) -> None:
    """A snap whose plug is not connected sees such a file; taken for an absent one, no CPU would be isolated."""
    path = f"devices/system/cpu/{name}"
    files = build(Shape(isolated="1-2"))
    del files[path]
    sysfs = RecordedSysfs(files, {"devices/system/cpu": [name]})
    with pytest.raises(MachineError, match=f"^sysfs {path} is there but cannot be read; in a snap, connect its plugs$"):
        read_machine(sysfs)


def test_without_a_list_of_present_cpus_those_with_a_directory_are_present() -> None:
    assert str(read_machine(RecordedSysfs(without(build(Shape(offline="2")), "cpu/present"))).present) == "0-3"


def test_where_the_directory_cannot_be_listed_the_online_cpus_are_present() -> None:
    files = without(build(Shape(offline="2")), "cpu/present")
    assert str(read_machine(RecordedSysfs(files, hidden=["devices/system/cpu"])).present) == "0-1,3"


def test_directory_of_cpus_that_cannot_be_listed_hides_nothing() -> None:
    shape = Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="1-3", offline="6")
    assert read_machine(RecordedSysfs(build(shape), hidden=["devices/system/cpu"])) == made_up(shape)


def test_hidden_pmus_leave_the_core_types_to_the_frequencies() -> None:
    """A snap may read neither of them without a plug."""
    files = build(Shape(cores_per_l3=2)) | per_cpu("cpufreq/cpuinfo_max_freq", [5_000_000, 3_000_000])
    machine = read_machine(RecordedSysfs(files, {"devices/cpu_core": ["cpus"], "devices/cpu_atom": ["cpus"]}))
    assert [core.type for core in machine.cores] == ["performance", "efficiency"]


_ABSURD = "9" * 5000
_CPUS, _NODES = "devices/system/cpu", "devices/system/node"


@pytest.mark.parametrize("absurd", ["99999999999", _ABSURD], ids=["a number of 11 digits", "a number of 5,000 digits"])
def test_ignores_absurd_numbers_in_a_recording(absurd: str) -> None:
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
