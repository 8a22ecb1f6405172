# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The legend and the hugepages on terminals of any width."""

from __future__ import annotations

import pytest

from epa_orchestrator.allocation.cpu_states import CpuState
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.picture.model import Pages, Picture, build_picture
from epa_orchestrator.picture.terminal_legend import dense_hugepages, hugepages, legend
from tests.unit.picture.scenes import scene, sized


def named(names: list[str]) -> Picture:
    """512 CPUs, one for each service."""
    machine = sized(512)
    owned = CpuSet(range(len(names)))
    owners = [(name, CpuSet([number])) for number, name in enumerate(names)]
    return build_picture(machine, {"claimed": owned, "free": machine.online - owned}, owners)


def shown(picture: Picture, columns: int, *, plain: bool = False) -> list[str]:
    return [line.plain.rstrip() for line in legend(picture, columns, plain=plain)]


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_each_of_many_instances_can_be_told_apart(columns: int) -> None:
    lines = shown(named([f"instance-{number:04x}-compute.example" for number in range(312)]), columns)
    assert lines[1] == "all services: instance-…-compute.example"
    text = "\n".join(lines)
    assert all(text.count(f"…{number:04x}… 1") == 1 for number in range(312))


def test_the_cpus_that_are_withheld_for_a_service_follow_it() -> None:
    states: dict[CpuState, CpuSet] = {"claimed": CpuSet([2, 4]), "withheld": CpuSet([3])}
    owners = [("ovs", CpuSet([2])), ("vm", CpuSet([4]))]
    picture = build_picture(sized(8), states, owners, withheld={"ovs": CpuSet([3])})
    assert shown(picture, 80) == ["~ withheld 1", "A ovs 1 (~3)   B vm 1"]


def test_a_long_list_of_withheld_cpus_is_cut() -> None:
    withheld = CpuSet(range(1, 100, 2))
    picture = build_picture(sized(512), {"withheld": withheld}, [("ovs", CpuSet([0]))], withheld={"ovs": withheld})
    assert shown(picture, 80)[-1] == "A ovs 1 (~1,3,5,7,9,…)"


def test_free_cpus_of_both_pools_have_their_own_marks() -> None:
    picture = build_picture(sized(8), {"free": CpuSet(range(8))}, [], general=CpuSet([0, 1]))
    assert shown(picture, 80) == [". free 6   : free in pool general 2"]


def test_a_long_name_folds_below_its_mark() -> None:
    assert shown(named(["instance-00a0-compute.example", "ovs"]), 24) == [
        ". free 510",
        "A instance-00a0-compute.",
        "  example 1",
        "B ovs 1",
    ]


def test_ascii_names_stay_different() -> None:
    assert shown(named(["käse", r"k\xe4se"]), 80, plain=True)[1] == r"A k\xe4se 1    B k\\xe4se 1"


def test_ascii_names_are_cut_with_a_star() -> None:
    lines = shown(named([f"instance-{number:04x}-compute.example" for number in range(40)]), 80, plain=True)
    assert lines[1:3] == [
        "all services: instance-*-compute.example",
        "A *0000* 1   B *0001* 1   C *0002* 1   D *0003* 1   E *0004* 1   F *0005* 1",
    ]


def test_hugepages_fold_at_40_columns() -> None:
    assert [line.plain for line in hugepages(scene(sized(8)), 40, plain=False)] == [
        "hugepages  █ recorded",
        "▒ in use by others or reserved  · free",
        "node 0   2M  ████▒▒▒▒▒▒▒▒▒▒····  of 2048",
        "   512 recorded  1024 others   512 free",
        "node 0   1G  ··················  of    4",
        "     0 recorded     0 others     4 free",
    ]


@pytest.mark.parametrize("columns", [30, 40, 50, 60, 70])
def test_no_line_of_hugepages_is_cut(columns: int) -> None:
    machine = sized(8)
    pages = [Pages(0, 2048, 100_000, 200_000, 1_000_000)]
    picture = build_picture(machine, {"free": machine.online}, [], pages)
    lines = [line.plain for line in hugepages(picture, columns, plain=False)]
    assert max(map(len, lines[2:])) <= columns
    for words in ("100000 recorded", "700000 others", "200000 free", "of 1000000"):
        assert words in "\n".join(lines)


def test_dense_hugepages_are_in_one_line() -> None:
    lines = [line.plain for line in dense_hugepages(scene(sized(8)), 80)]
    assert lines == ["free hugepages:   node 0 2M: 512 of 2048   node 0 1G: 4 of 4"]
