# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Last seen: the nodes and cores of CPUs over readings of hosts that lose CPUs, get them back, and are rewired."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.machine import Core, Machine
from tests.machines import made_up
from tools.synthetic import Shape

NONE: set[str] = set()


def host(*cores: str) -> Machine:
    """A host with these online cores, of eight CPUs."""
    threads = tuple(map(CpuSet.parse, cores))
    online = CpuSet(cpu for core in threads for cpu in core)
    return replace(made_up(Shape(cores_per_l3=8)), online=online, cores=tuple(map(Core, threads)))


def after(*hosts: Machine) -> set[str]:
    """The cores of several threads that are known after readings of these hosts in turn."""
    seen = LastSeen()
    for machine in hosts:
        seen = seen.updated(machine)
    return {str(CpuSet.from_mask(threads)) for threads in seen.known_cores(hosts[-1]).values()}


@pytest.mark.parametrize(
    ("hosts", "cores"),
    [
        pytest.param([host("0,4", "1,5")], {"0,4", "1,5"}, id="all online"),
        pytest.param([host("0,4", "1,5"), host("0", "1,5")], {"0,4", "1,5"}, id="one offline"),
        pytest.param([host("0,4", "1,5"), host("1,5")], {"0,4", "1,5"}, id="a whole core offline"),
        pytest.param([host("0,4", "1"), host("0", "1"), host("1")], {"0,4"}, id="offline one after the other"),
        pytest.param([host("0", "4")], NONE, id="never several threads"),
        # The last reading of a CPU counts, although it was in other cores before.
        pytest.param([host("0,4", "1,5"), host("0-1", "4-5"), host("0", "4")], {"0-1", "4-5"}, id="rewired"),
        # CPU 4 went offline as a thread of 0 and its core has CPU 1 now, too.
        pytest.param([host("0,4"), host("0-1")], {"0-1,4"}, id="offline while others join"),
        # CPUs 0 and 1 are two cores now, so CPU 4, which was with both, is known to be in neither.
        pytest.param([host("0-1,4"), host("0", "1")], NONE, id="offline while its core falls apart"),
        # CPU 5 was with 4, and 4 with 0: no two of them are known to be apart.
        pytest.param([host("4-5", "0"), host("0,4"), host("0")], {"0,4-5"}, id="joined over an offline CPU"),
        # CPU 5 was with 4 only, but 4 is back as a core of its own: it was with 0 before.
        pytest.param([host("4-5"), host("0,4"), host("0", "4")], {"4-5"}, id="back as another core"),
        # The two threads of core 2,6 are never offline at once, but one goes as the other comes.
        pytest.param([host("2,6"), host("6"), host("2")], {"2,6"}, id="in turn"),
        pytest.param([host("2,6"), host("2", "3"), host("2-3"), host("3", "6")], {"2-3"}, id="in turn, but rewired"),
        # CPU 6 was with both 4 and 5, which go with 0 and 1 since.
        pytest.param(
            [host("4-6", "0", "1"), host("0,4", "1,5"), host("0", "1")], {"0,4", "1,5"}, id="later sight wins"
        ),
    ],
)
def test_known_cores(hosts: list[Machine], cores: set[str]) -> None:
    assert after(*hosts) == cores


def test_a_core_whose_threads_are_in_several_cores_now_is_forgotten() -> None:
    """Another machine, on which CPU 1 is offline; each CPU is in one core, in whatever order one looks."""
    before = made_up(Shape(cores_per_l3=2, threads_per_core=4, siblings="adjacent"))
    now = made_up(Shape(cores_per_l3=4, threads_per_core=2, offline="1"))
    assert after(before, now) == {"0,4", "2,6", "3,7"}


def test_only_cores_of_several_threads_are_known() -> None:
    seen = LastSeen().updated(host("0,4", "1", "2,6-7"))
    assert seen.cores == (CpuSet.parse("0,4"), CpuSet.parse("2,6-7"))
    first, second = CpuSet.parse("0,4").mask, CpuSet.parse("2,6-7").mask
    assert seen.known_cores(host("0", "1", "2")) == {0: first, 4: first, 2: second, 6: second, 7: second}


def test_without_a_machine_all_cpus_count_as_offline() -> None:
    cores = tuple(map(CpuSet.parse, ("0-1", "1-2", "4,6")))
    first, second = CpuSet.parse("0-2").mask, CpuSet.parse("4,6").mask
    assert LastSeen({}, cores).known_cores(None) == {0: first, 1: first, 2: first, 4: second, 6: second}


def test_a_cpu_that_comes_and_goes_leaves_nothing_new_to_store() -> None:
    both = host("0,4", "1,5")
    seen = LastSeen().updated(both)
    assert seen.updated(host("0", "1,5")) == seen
    assert seen.updated(host("0", "1,5")).updated(both) == seen


def test_the_same_reading_again_changes_nothing_and_what_is_contradicted_is_dropped() -> None:
    seen = LastSeen().updated(host("0,4", "1,5")).updated(host("0-1"))
    assert seen.updated(host("0-1")) == seen
    assert len(seen.cores) == 3
    assert seen.updated(host("0", "1", "4-5")).cores == (CpuSet.parse("4-5"),)


def test_an_offline_cpu_stays_in_its_node_until_it_is_seen_in_another() -> None:
    before = made_up(Shape(packages=2, cores_per_l3=2))
    seen = LastSeen().updated(before)
    first, second = before.nodes
    smaller = replace(before, nodes=(replace(first, cpus=CpuSet.parse("0")), second))
    assert seen.updated(smaller).nodes == {0: CpuSet.parse("0-1"), 1: CpuSet.parse("2-3")}
    moved = replace(before, nodes=(replace(first, cpus=CpuSet.parse("0")), replace(second, cpus=CpuSet.parse("1-3"))))
    assert seen.updated(moved).nodes == {0: CpuSet.parse("0"), 1: CpuSet.parse("1-3")}
