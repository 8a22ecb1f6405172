# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The host is checked for every request, read again only when it has changed, and its nodes are remembered."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.settled import UnsettledError
from epa_orchestrator.hardware.sysfs import RecordedSysfs, SysfsTree
from tools.synthetic import Shape, build, write_tree

#: Two nodes of four cores with one thread each: node 0 has CPUs 0-3, node 1 has CPUs 4-7.
SHAPE = Shape(packages=2, cores_per_l3=4, isolated="1-3,5-7", hugepages={2048: (8, 4)})
CPU, NODE = "devices/system/cpu", "devices/system/node"


class CountingTree(SysfsTree):
    """A sysfs tree that counts how often it is asked for something."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = 0

    def read(self, path: str) -> str | None:
        self.asked += 1
        return super().read(path)

    def contents(self, paths: Iterable[str]) -> tuple[object, ...]:
        self.asked += 1
        return super().contents(paths)

    def names(self, directory: str) -> list[str] | None:
        self.asked += 1
        return super().names(directory)


class Fixture:
    """A made-up host on disk, which can change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = CountingTree(root)
        self.show(SHAPE)
        self.host = Host(self.tree, Settings())

    def show(self, shape: Shape) -> None:
        """Be another machine from now on."""
        shutil.rmtree(self.root, ignore_errors=True)
        write_tree(build(shape), self.root)

    def become(self, **changes: object) -> None:
        """Be the usual machine with these differences."""
        self.show(dataclasses.replace(SHAPE, **changes))  # pyright: ignore[reportArgumentType]

    def write(self, path: str, text: str) -> None:
        (self.root / path).write_text(text + "\n")


@pytest.fixture
def made(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path / "sys")


def isolated(made: Fixture) -> tuple[str, str]:
    """What is configured and eligible in the pool isolated right now."""
    pool = made.host.pools().isolated
    return str(pool.configured), str(pool.eligible)


def nodes(host: Host) -> dict[int, str]:
    return {node: str(cpus) for node, cpus in sorted(host.seen.nodes.items())}


def test_the_first_look_discovers(made: Fixture) -> None:
    assert isolated(made) == ("1-3,5-7", "1-3,5-7")
    assert nodes(made.host) == {0: "0-3", 1: "4-7"}
    machine = made.host.pools().machine
    assert machine is not None
    assert machine.node_ids == (0, 1)


def test_nothing_is_read_before_it_is_asked_for(made: Fixture) -> None:
    assert made.tree.asked == 0
    assert made.host.seen.nodes == {}


def test_the_same_object_as_long_as_nothing_has_changed(made: Fixture) -> None:
    pools = made.host.pools()
    made.tree.asked = 0
    assert made.host.pools() is pools
    assert made.host.pools() is pools
    assert made.tree.asked == 2, "one check each time"


def test_files_rewritten_with_the_same_text_change_nothing(made: Fixture) -> None:
    pools = made.host.pools()
    made.show(SHAPE)
    assert made.host.pools() is pools


def test_another_text_for_the_same_cpus_changes_nothing(made: Fixture) -> None:
    pools = made.host.pools()
    made.write(f"{CPU}/isolated", "1,2,3,5-7")
    assert made.host.pools() is pools


def test_a_cpu_that_goes_offline_and_comes_back_is_seen_at_once(made: Fixture) -> None:
    assert isolated(made) == ("1-3,5-7", "1-3,5-7")
    made.become(offline="3,6")
    assert isolated(made) == ("1-3,5-7", "1-2,5,7")
    made.become(offline="6")
    assert isolated(made) == ("1-3,5-7", "1-3,5,7")
    made.become()
    assert isolated(made) == ("1-3,5-7", "1-3,5-7")


def test_only_the_text_of_online_needs_to_change(made: Fixture) -> None:
    made.host.pools()
    made.write(f"{CPU}/online", "0-6")
    assert isolated(made) == ("1-3,5-7", "1-3,5-6")


def test_other_isolated_cpus_are_seen_at_once(made: Fixture) -> None:
    made.host.pools()
    made.become(isolated="2,5")
    assert isolated(made) == ("2,5", "2,5")
    made.become(isolated="")
    assert isolated(made) == ("", "")
    assert "No Isolated CPUs configured" in str(made.host.pools().isolated.problem)
    (made.root / CPU / "isolated").unlink()
    assert isolated(made) == ("", "")
    made.become(isolated="7")
    assert isolated(made) == ("7", "7")
    assert made.host.pools().isolated.problem is None


def test_other_settings_count_from_the_next_look_on(made: Fixture) -> None:
    pools = made.host.pools()
    assert pools.general is None
    chosen = parse_settings({"cpu-pool": "0,4", "reserved-cpus": "7"})
    made.host.use(chosen)
    after = made.host.pools()
    assert after is not pools
    assert after.settings is chosen
    assert after.general is not None
    assert str(after.general.eligible) == "0,4"
    assert isolated(made) == ("1-3,5-6", "1-3,5-6")
    assert made.host.pools() is after
    made.host.use(Settings())
    assert made.host.pools().general is None


def test_new_settings_do_not_read_the_machine_again(made: Fixture) -> None:
    machine = made.host.pools().machine
    made.host.use(parse_settings({"cpu-pool": "0"}))
    assert made.host.pools().machine is machine


# --- changes that `online` and `isolated` do not show ---


def regroup(made: Fixture) -> None:
    """Let CPUs 0 and 1 share a core; no list of the host shows it."""
    for cpu in (0, 1):
        made.write(f"{CPU}/cpu{cpu}/topology/thread_siblings_list", "0-1")


def cores(host: Host) -> list[str]:
    machine = host.pools().machine
    assert machine is not None
    return [str(core.cpus) for core in machine.cores][:2]


def test_a_cpu_in_another_node_is_seen_at_once(made: Fixture) -> None:
    made.host.pools()
    made.write(f"{NODE}/node0/cpulist", "0-4")
    made.write(f"{NODE}/node1/cpulist", "5-7")
    assert made.host.known_pools() is None
    made.host.pools()
    assert nodes(made.host) == {0: "0-4", 1: "5-7"}


@pytest.mark.parametrize("listed", [False, True], ids=["without list of nodes", "with list of nodes"])
def test_a_new_node_is_seen_at_once(listed: bool, made: Fixture) -> None:
    if not listed:
        (made.root / NODE / "online").unlink()
    made.host.pools()
    (made.root / NODE / "node2").mkdir()
    made.write(f"{NODE}/node2/cpulist", "")
    if listed:
        made.write(f"{NODE}/online", "0-2")
    assert made.host.known_pools() is None
    made.host.pools()
    assert nodes(made.host) == {0: "0-3", 1: "4-7", 2: ""}


def test_a_node_that_disappears_is_seen_at_once(made: Fixture) -> None:
    made.host.pools()
    shutil.rmtree(made.root / NODE / "node1")
    assert made.host.known_pools() is None
    machine = made.host.pools().machine
    assert machine is not None
    assert machine.node_ids == (0,)


def test_another_core_is_seen_when_the_host_is_read_again(made: Fixture) -> None:
    before = made.host.pools()
    regroup(made)
    assert made.host.pools() is before, "no list shows it"
    made.host.read_again()
    assert cores(made.host) == ["0-1", "2"]


def test_look_again_reads_the_machine_at_the_next_look(made: Fixture) -> None:
    made.host.pools()
    regroup(made)
    made.host.look_again()
    assert made.host.known_pools() is None
    assert cores(made.host) == ["0-1", "2"]
    assert made.host.known_pools() is not None


def test_an_unchanged_machine_keeps_its_pools_when_it_is_read_again(made: Fixture) -> None:
    pools = made.host.pools()
    made.host.read_again()
    made.host.look_again()
    assert made.host.pools() is pools


def test_reading_is_due_after_a_minute_and_soon_after_a_change(made: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel shows the caches of a CPU only after it has listed the CPU."""
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    assert made.host.due == math.inf
    made.host.pools()
    assert made.host.due == 1060.0
    made.become(offline="3")
    made.host.pools()
    assert made.host.due == 1001.0
    made.host.read_again()
    assert made.host.due == 1060.0


class Unsettled(CountingTree):
    """A host on which CPU 7 comes and goes between any two readings of the list, as long as it is `restless`."""

    restless = False
    flips = 0

    def read_list(self, path: str) -> str | None:
        text = super().read_list(path)
        if self.restless and path == f"{CPU}/online":
            self.flips += 1
            return "0-6" if self.flips % 2 else "0-7"
        return text


def test_a_host_that_changes_all_the_time_is_refused_and_read_at_the_next_look(made: Fixture) -> None:
    tree = Unsettled(made.root)
    host = Host(tree, Settings())
    before = host.pools()
    made.become(offline="7")
    tree.restless = True
    with pytest.raises(UnsettledError):
        host.pools()
    tree.restless = False
    made.become()
    assert host.known_pools() is None
    assert host.pools() is before


# --- what cannot be seen ---


def test_warnings_name_what_cannot_be_seen_and_go_when_it_can(made: Fixture) -> None:
    files = build(SHAPE)
    sysfs = RecordedSysfs(files, hidden=[f"{NODE}/node0/hugepages"])
    host = Host(sysfs, Settings())
    pools = host.pools()
    sentence = "The hugepages of NUMA node 0 cannot be read"
    assert any(warning.startswith(sentence) for warning in host.warnings())
    sysfs.__init__(files)
    host.read_again()
    assert not any(warning.startswith(sentence) for warning in host.warnings())
    assert host.pools() is pools


def test_hidden_hugepages_are_refused() -> None:
    directory = f"{NODE}/node0/hugepages"
    files = {path: text for path, text in build(SHAPE).items() if not path.startswith(directory)}
    counts = f"{directory}/hugepages-2048kB/nr_hugepages"
    host = Host(RecordedSysfs(files, hidden=[directory, counts]), Settings())
    assert host.hugepages(0) == ()
    with pytest.raises(Refused, match="sudo snap connect epa-orchestrator:sys-devices-system-node"):
        host.hugepages_of(0, 2048)


# --- hugepages ---


def test_hugepages_are_read_every_time(made: Fixture) -> None:
    assert [(pages.size_kb, pages.total, pages.free) for pages in made.host.hugepages(0)] == [(2048, 8, 4)]
    made.write(f"{NODE}/node0/hugepages/hugepages-2048kB/free_hugepages", "1")
    assert [pages.free for pages in made.host.hugepages(0)] == [1]
    assert [pages.free for pages in made.host.hugepages(1)] == [4]
    assert made.host.hugepages(9) == ()


def test_hugepages_of_one_size_are_read_every_time(made: Fixture) -> None:
    assert made.host.hugepages_of(0, 2048) == Hugepages(2048, 8, 4)
    made.write(f"{NODE}/node0/hugepages/hugepages-2048kB/free_hugepages", "1")
    assert made.host.hugepages_of(0, 2048) == Hugepages(2048, 8, 1)
    assert made.host.hugepages_of(1, 2048) == Hugepages(2048, 8, 4)
    assert made.host.hugepages_of(0, 1048576) is None
    assert made.host.hugepages_of(9, 2048) is None


# --- nodes ---


def test_an_offline_cpu_stays_in_its_node(made: Fixture) -> None:
    """The kernel takes it out of the node's list, yet its owner may release it by node."""
    made.host.pools()
    made.become(offline="3,6")
    made.host.pools()
    assert nodes(made.host) == {0: "0-3", 1: "4-7"}
    assert made.host.seen.nodes[0] == CpuSet([0, 1, 2, 3])


def test_a_node_without_online_cpus_stays(made: Fixture) -> None:
    made.host.pools()
    made.become(offline="4-7")
    made.host.pools()
    assert nodes(made.host) == {0: "0-3", 1: "4-7"}


def test_a_node_that_vanished_stays_with_its_cpus(made: Fixture) -> None:
    made.host.pools()
    made.become(offline="4-7")
    shutil.rmtree(made.root / NODE / "node1")
    machine = made.host.pools().machine
    assert machine is not None
    assert machine.node_ids == (0,)
    assert nodes(made.host) == {0: "0-3", 1: "4-7"}


def test_a_node_that_never_was_is_unknown(made: Fixture) -> None:
    assert made.host.seen.nodes.get(0) is None, "nobody has looked yet"
    made.host.pools()
    assert made.host.seen.nodes.get(2) is None


def test_a_node_with_memory_only_is_known(tmp_path: Path) -> None:
    write_tree(build(dataclasses.replace(SHAPE, memory_only_nodes=1)), tmp_path)
    host = Host(SysfsTree(tmp_path), Settings())
    host.pools()
    assert host.seen.nodes[2] == CpuSet()


def test_a_cpu_that_is_seen_in_another_node_leaves_the_earlier_one(made: Fixture) -> None:
    made.host.pools()
    made.become(offline="3", isolated="1-2,5-7")
    made.write(f"{NODE}/node0/cpulist", "0-1")
    made.write(f"{NODE}/node1/cpulist", "2,4-7")
    made.host.pools()
    assert nodes(made.host) == {0: "0-1,3", 1: "2,4-7"}


def test_nodes_from_an_earlier_run_are_known(made: Fixture) -> None:
    """The machine may have come back without them, or with other CPUs in them."""
    earlier = {0: CpuSet([0, 1]), 1: CpuSet([4, 9]), 5: CpuSet([2, 20, 21])}
    host = Host(made.tree, Settings(), LastSeen(earlier))
    assert host.seen.nodes[5] == CpuSet([2, 20, 21])
    host.pools()
    assert nodes(host) == {0: "0-3", 1: "4-7,9", 5: "20-21"}
    assert earlier == {0: CpuSet([0, 1]), 1: CpuSet([4, 9]), 5: CpuSet([2, 20, 21])}, "the caller's own"


def test_an_unreadable_machine_leaves_the_memory_of_nodes(made: Fixture) -> None:
    made.host.pools()
    shutil.rmtree(made.root)
    made.host.pools()
    assert nodes(made.host) == {0: "0-3", 1: "4-7"}


# --- an unreadable tree ---


def test_an_unreadable_tree_grants_nothing_and_says_why(made: Fixture) -> None:
    shutil.rmtree(made.root)
    pools = made.host.pools()
    assert pools.machine is None
    assert isolated(made) == ("", "")
    assert pools.isolated.problem == (
        "No CPUs can be granted because the machine cannot be read: sysfs shows no CPUs: devices/system/cpu is missing"
        " or cannot be listed; in a snap, connect its plugs"
    )
    assert made.host.pools() is pools


@pytest.mark.parametrize("file", ["online", "isolated", "present"])
@pytest.mark.parametrize("text", ["rubbish", "3-1", "0-9999999"])
def test_a_decisive_file_that_makes_no_sense_grants_nothing(file: str, text: str, made: Fixture) -> None:
    made.host.pools()
    made.write(f"{CPU}/{file}", text)
    if file == "present":  # not looked at again before something else changes
        made.write(f"{CPU}/online", "0-6")
    pools = made.host.pools()
    assert pools.machine is None
    assert not pools.eligible
    assert f"{CPU}/{file}" in str(pools.isolated.problem)


@pytest.mark.parametrize("path", [".", f"{CPU}/online", f"{CPU}/isolated"])
def test_recovery_is_seen_at_once(path: str, made: Fixture) -> None:
    before = made.host.pools().machine
    if path == ".":
        shutil.rmtree(made.root)
    else:
        made.write(path, "rubbish")
    assert made.host.pools().machine is None
    made.become()
    after = made.host.pools()
    assert after.machine == before
    assert after.isolated.problem is None
    assert isolated(made) == ("1-3,5-7", "1-3,5-7")


def test_recovery_is_seen_without_a_change_of_online_or_isolated(made: Fixture) -> None:
    before = made.host.pools()
    made.write(f"{CPU}/present", "rubbish")
    made.write(f"{CPU}/online", "0-6")
    assert made.host.pools().machine is None
    made.write(f"{CPU}/present", "0-7")
    after = made.host.pools()
    assert after.machine is not None
    assert str(after.machine.online) == "0-6"
    assert before.machine is not None
    assert after.machine.nodes == before.machine.nodes


def test_a_host_that_is_unreadable_at_first_is_read_when_it_can_be(made: Fixture) -> None:
    shutil.rmtree(made.root)
    assert made.host.pools().machine is None
    made.become(isolated="2")
    assert isolated(made) == ("2", "2")
    assert nodes(made.host) == {0: "0-3", 1: "4-7"}


def test_the_settings_hold_for_an_unreadable_host_too(made: Fixture) -> None:
    shutil.rmtree(made.root)
    made.host.use(parse_settings({"cpu-pool": "0-1"}))
    general = made.host.pools().general
    assert general is not None
    assert str(general.configured) == "0-1"
    assert not general.eligible
    assert general.problem == made.host.pools().isolated.problem


def test_a_found_and_a_lost_machine_are_logged_once(made: Fixture, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        made.host.pools()
        made.host.pools()
        shutil.rmtree(made.root)
        made.host.pools()
        made.host.pools()
    found, lost = (record.getMessage() for record in caplog.records)
    assert found == "machine: CPUs 0-7 online, 1-3,5-7 isolated, 2 packages, 2 NUMA nodes, 2 L3 domains, 8 cores"
    assert "cannot be read" in lost
