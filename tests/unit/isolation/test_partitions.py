# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Partitions: those in the tree of control groups, the kernel's reasons, and names that users chose."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation import partitions
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.partitions import Partition, read_partitions

CGROUPS = "sys/fs/cgroup"


def tree(*groups: tuple[str, str, str]) -> RecordedHost:
    """Control groups: path, state of the partition, and what its children are controlled in."""
    files = {f"{CGROUPS}/cgroup.subtree_control": "cpuset cpu\n", f"{CGROUPS}/cpuset.cpus.isolated": "\n"}
    for path, state, controlled in groups:
        files[f"{CGROUPS}/{path}/cpuset.cpus.partition"] = f"{state}\n"
        files[f"{CGROUPS}/{path}/cgroup.subtree_control"] = f"{controlled}\n"
    return RecordedHost(files)


def test_partitions_are_found_below_others_and_members_are_none() -> None:
    host = tree(
        ("a.slice", "member", "cpuset"), ("a.slice/b", "isolated", ""), ("c", "root", "cpuset cpu"), ("d", "member", "")
    )
    assert read_partitions(host) == (Partition("c", "root"), Partition("a.slice/b", "isolated"))


def test_groups_whose_parent_does_not_control_cpusets_are_not_entered() -> None:
    assert read_partitions(tree(("a", "member", "cpu"), ("a/b", "isolated", ""))) == ()


def test_without_version_2_the_partitions_are_unread() -> None:
    path = f"{CGROUPS}/cgroup.subtree_control"
    assert read_partitions(RecordedHost({})) == Unread(path)
    assert read_partitions(RecordedHost({}, [path])) == Unread(path, "denied")


def test_without_the_cpuset_controller_there_are_no_partitions() -> None:
    assert read_partitions(RecordedHost({f"{CGROUPS}/cgroup.subtree_control": "cpu memory\n"})) == ()


def test_a_deep_tree_ends_at_some_depth() -> None:
    deep = [("/".join("x" * depth), "member", "cpuset") for depth in range(1, 60)]
    assert read_partitions(tree(*deep, ("/".join("x" * 60), "isolated", ""))) == ()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("member", None),
        ("root", None),
        ("isolated", None),
        ("", None),
        ("isolated invalid (Parent is not a partition root)", "Parent is not a partition root"),
        ("root invalid (Cpu list in cpuset.cpus not exclusive)", "Cpu list in cpuset.cpus not exclusive"),
        ("isolated invalid", "no reason given"),
        ("isolated invalid (a\x1bb)", "a\N{REPLACEMENT CHARACTER}b"),
        (f"isolated invalid ({'x' * 1000})", "x" * 200),
    ],
)
def test_the_reason_of_an_invalid_partition(state: str, reason: str | None) -> None:
    assert Partition("quiet", state).reason == reason


#: The kernel's own sentences (perr_strings in kernel/cgroup/cpuset.c, Linux 6.12), and the remedies.
@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("Invalid cpu list in cpuset.cpus.exclusive", "write only CPUs that are online"),
        (
            "Parent is an invalid partition root",
            "correct the partition of the control group above /sys/fs/cgroup/quiet",
        ),
        ("Parent is not a partition root", "make the control group above /sys/fs/cgroup/quiet a partition first"),
        ("Cpu list in cpuset.cpus not exclusive", "remove the CPUs of /sys/fs/cgroup/quiet/cpuset.cpus from the"),
        ("Parent unable to distribute cpu downstream", "leave a CPU to the control group above /sys/fs/cgroup/quiet"),
        ("No cpu available due to hotplug", "bring the CPUs in /sys/fs/cgroup/quiet/cpuset.cpus online"),
        ("cpuset.cpus and cpuset.cpus.exclusive are empty", "write the CPUs to /sys/fs/cgroup/quiet/cpuset.cpus"),
        (
            "partition config conflicts with housekeeping setup",
            "write to /sys/fs/cgroup/quiet/cpuset.cpus only CPUs that",
        ),
        ("Enable partition not permitted", "make /sys/fs/cgroup/quiet a partition as root of the host"),
        ("Have remote partition underneath", "make the partitions below /sys/fs/cgroup/quiet members first"),
        ("a new reason", "correct /sys/fs/cgroup/quiet/cpuset.cpus, then write the partition's type"),
    ],
)
def test_the_remedy_of_an_invalid_partition(reason: str, remedy: str) -> None:
    assert Partition("quiet", f"isolated invalid ({reason})").remedy.startswith(remedy)


def test_a_control_groups_name_cannot_act_on_a_terminal() -> None:
    assert Partition("a\x1b[2J", "root").name == "a\N{REPLACEMENT CHARACTER}[2J"
    assert "\x1b" not in Partition("a\x1b{group}", "root invalid").remedy


def test_partitions_are_found_where_only_their_files_were_copied() -> None:
    state = "isolated invalid (Parent is not a partition root)"
    host = RecordedHost({f"{CGROUPS}/dpdk/cpuset.cpus.partition": f"{state}\n"})
    assert read_partitions(host) == (Partition("dpdk", state),)


def test_version_1_has_no_partitions() -> None:
    files = {f"{CGROUPS}/cpuset/dpdk/cpuset.cpus": "2\n", f"{CGROUPS}/unified/cgroup.subtree_control": "\n"}
    assert read_partitions(RecordedHost(files)) == Unread(f"{CGROUPS}/cgroup.subtree_control")


@pytest.mark.parametrize(
    ("state", "isolated"), [("isolated", "2-3"), ("isolated invalid (Invalid cpu list)", ""), ("root", "")]
)
def test_only_a_valid_isolated_partition_isolates(state: str, isolated: str) -> None:
    host = RecordedHost(
        {f"{CGROUPS}/dpdk/cpuset.cpus.partition": f"{state}\n", f"{CGROUPS}/dpdk/cpuset.cpus.effective": "2-3\n"}
    )
    assert read_partitions(host) == (Partition("dpdk", state, CpuSet.parse(isolated)),)


def test_partitions_below_groups_that_were_not_copied_are_found() -> None:
    host = RecordedHost({f"{CGROUPS}/system.slice/ovs.service/cpuset.cpus.partition": "isolated invalid\n"})
    assert read_partitions(host) == (Partition("system.slice/ovs.service", "isolated invalid"),)


@pytest.mark.parametrize("name", ["cpuset.cpus", "cpuset.cpus.exclusive"])
def test_the_list_to_correct_is_the_one_that_the_kernel_names(name: str) -> None:
    remedy = Partition("dpdk", f"isolated invalid (Invalid cpu list in {name})").remedy
    assert remedy.endswith(f" to /{CGROUPS}/dpdk/{name}")


def test_a_group_whose_name_is_a_command_does_not_run_it() -> None:
    partition = Partition("x;reboot", "isolated invalid (x are empty)")
    assert partition.remedy == "write the CPUs to '/sys/fs/cgroup/x;reboot'/cpuset.cpus"


def test_groups_that_cannot_be_read_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Counted(RecordedHost):
        def read(self, path: str) -> str | Unread:
            read.append(path)
            return super().read(path)

    monkeypatch.setattr(partitions, "_MOST_GROUPS", 3)
    files = {f"{CGROUPS}/cgroup.subtree_control": "cpuset\n"}
    assert read_partitions(Counted(files, [f"{CGROUPS}/x{n}/cpuset.cpus.partition" for n in range(10)])) == ()
    assert len(read) == 4
