# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The model of a picture: how the domains of a machine nest, and the letters of its services."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.picture.model import STATE_MARKS, Group, Picture, build_picture, mark_of
from tests.machines import SYNTHETIC, made_up, real_machine, synthetic, with_node_cpus
from tests.unit.picture.scenes import drawn_cores, scene
from tools.synthetic import Shape


def picture(machine: Machine) -> Picture:
    return build_picture(machine, {"free": machine.online, "offline": machine.present - machine.online}, [])


def outline(groups: tuple[Group, ...]) -> list[object]:
    """The labels of boxes, each with its own boxes or its CPUs."""
    return [
        {group.label: outline(group.children)}
        if group.children
        else (group.label, str(CpuSet(cpu.id for core in group.cores for cpu in core.cpus)))
        for group in groups
    ]


def test_domains_nest_from_packages_to_l3_caches() -> None:
    assert outline(picture(made_up(Shape(2, 1, 2, 2, 2))).groups) == [
        {"package 0, NUMA node 0": [("L3 0", "0-1,8-9"), ("L3 1", "2-3,10-11")]},
        {"package 1, NUMA node 1": [("L3 2", "4-5,12-13"), ("L3 3", "6-7,14-15")]},
    ]


def test_domains_with_the_same_cpus_share_a_box() -> None:
    assert outline(picture(made_up(Shape(2, 1, 1, 2))).groups) == [
        ("package 0, NUMA node 0, L3 0", "0-1"),
        ("package 1, NUMA node 1, L3 1", "2-3"),
    ]


def test_an_l3_cache_that_reaches_over_nodes_is_around_them() -> None:
    assert outline(picture(made_up(Shape(1, 2, 1, 2, l3_scope="package"))).groups) == [
        {"package 0, L3 0": [("NUMA node 0", "0-1"), ("NUMA node 1", "2-3")]}
    ]


def test_unknown_l3_caches_have_no_box() -> None:
    assert outline(picture(made_up(Shape(2, 1, 1, 2, l3_scope="none"))).groups) == [
        ("package 0, NUMA node 0", "0-1"),
        ("package 1, NUMA node 1", "2-3"),
    ]


def test_domains_of_one_core_each_have_no_box() -> None:
    """A POWER7 has a package and an L3 cache for each core."""
    found = outline(picture(synthetic("power7")).groups)
    assert len(found) == 8
    assert found[2] == ("NUMA node 4", "64-95")


def test_cpus_in_no_node_have_a_box_of_their_own() -> None:
    machine = with_node_cpus(made_up(Shape(1, 2, 1, 2, l3_scope="none")), ["0-1", "2"])
    assert outline(picture(machine).groups) == [
        {"package 0": [("NUMA node 0", "0-1"), ("NUMA node 1", "2"), ("no NUMA node", "3")]}
    ]


def test_cores_in_two_nodes_are_in_a_box_with_both_names() -> None:
    """Cores n and n + 8 of a virtual machine are in nodes 0 and 1."""
    assert outline(picture(synthetic("crossed-cores")).groups) == [("package 0, NUMA nodes 0-1, L3s 0-1", "0-15")]


def test_a_domain_in_two_boxes_is_marked_as_a_part() -> None:
    machine = replace(made_up(Shape(2, 1, 1, 4, l3_scope="none")))
    machine = with_node_cpus(machine, ["0-1,4-5", "2-3,6-7"])
    assert outline(picture(machine).groups) == [
        {"package 0": [("NUMA node 0 (part)", "0-1"), ("NUMA node 1 (part)", "2-3")]},
        {"package 1": [("NUMA node 0 (part)", "4-5"), ("NUMA node 1 (part)", "6-7")]},
    ]


def test_nodes_that_share_all_cpus_are_one_box() -> None:
    machine = synthetic("every-cpu-in-every-node")
    found = outline(picture(replace(machine, nodes=machine.nodes[:4])).groups)
    assert found == [{"NUMA nodes 0-3": [("package 0", "0-3"), ("package 1", "4-7")]}]


def test_offline_cpus_have_a_box_of_their_own() -> None:
    found = picture(made_up(Shape(1, 1, 1, 4, offline="2")))
    assert outline(found.groups)[-1] == ("not online", "2")


def test_nodes_without_cpus_are_named() -> None:
    assert picture(synthetic("xeon-pmem")).memory_only == "4-7"


@pytest.mark.parametrize("name", SYNTHETIC)
def test_every_cpu_is_in_one_box(name: str) -> None:
    machine = synthetic(name)
    shown = [cpu.id for core in drawn_cores(picture(machine).groups) for cpu in core.cpus]
    assert sorted(shown) == [*(machine.present | machine.online)]


@pytest.mark.parametrize(
    "name", ["clx-2s-snc2-pmem-112t", "haswell-2s-24c-offline-cpu0-node0", "ia64-128c-17n-memonly"]
)
def test_every_cpu_of_a_real_machine_is_in_one_box(name: str) -> None:
    machine = real_machine(name)
    shown = [cpu.id for core in drawn_cores(picture(machine).groups) for cpu in core.cpus]
    assert sorted(shown) == [*(machine.present | machine.online)]


def test_a_core_says_where_it_is() -> None:
    core = drawn_cores(picture(made_up(Shape(2, 1, 2, 2, 2))).groups)[4]
    assert core.place == "core 4,12, L3 2, NUMA node 1, package 1"


def test_a_state_without_an_owner_has_its_mark_and_an_owner_its_letter() -> None:
    found = scene(made_up(Shape(1, 1, 1, 8, 2, siblings="adjacent")))
    marks = {cpu.state: cpu.mark for core in drawn_cores(found.groups) for cpu in core.cpus}
    assert marks == {
        "not-isolated": "-",
        "reserved": "#",
        "claimed": "C",
        "withheld": "~",
        "free": ".",
        "unavailable": "C",
        "offline": "x",
    }


def test_summary_counts_the_cpus_of_each_state() -> None:
    found = scene(made_up(Shape(1, 1, 1, 8, 2, siblings="adjacent")))
    assert found.summary == (
        "16 CPUs: 4 claimed by 3 services, 7 free, 1 withheld, 1 reserved, 1 unavailable, 1 offline, 1 not isolated"
    )


def test_summary_of_one_cpu_and_one_service() -> None:
    machine = made_up(Shape(1, 1, 1, 1))
    found = build_picture(machine, {"claimed": machine.online, "free": EMPTY}, [("a", machine.online)])
    assert found.summary == "1 CPU: 1 claimed by 1 service"


@pytest.mark.parametrize(
    ("number", "mark"), [(0, "A"), (25, "Z"), (26, "a"), (50, "z"), (51, "AA"), (52, "AB"), (2652, "AAA")]
)
def test_letters_of_services(number: int, mark: str) -> None:
    assert mark_of(number) == mark


def test_no_two_services_share_a_mark_with_each_other_or_a_state() -> None:
    marks = [mark_of(number) for number in range(3000)]
    assert len({*marks, *STATE_MARKS.values()}) == 3000 + len(STATE_MARKS)
