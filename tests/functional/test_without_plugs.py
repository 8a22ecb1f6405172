# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A strictly confined snap without plugs serves CPUs as if it could see all, and says what it cannot see.

The default template of snapd lets it read everything below the directory of CPUs and the files of each node, but
neither list the two directories nor see the list of nodes and the hugepages. A daemon without the capabilities that
let root ignore file modes is in the same position on a tree with these modes.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from .harness import SMALL, Daemon, format_cpus, parse_cpus, wait_until

NODES: Final = Path("devices/system/node")
CPUS: Final = Path("devices/system/cpu")

_CAPABILITIES: Final = "-dac_override,-dac_read_search"
LAUNCHER: Final = ["setpriv", "--bounding-set", _CAPABILITIES, "--inh-caps", _CAPABILITIES]

CONNECT: Final = "sudo snap connect epa-orchestrator:sys-devices-system-node"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, and setpriv of util-linux"
)


def link_cpus_to_nodes(root: Path) -> None:
    """Make the links in the directories of CPUs, which the kernel makes and other tests do not need."""
    for cpus in root.glob(f"{NODES}/node*/cpulist"):
        for cpu in parse_cpus(cpus.read_text().strip()):
            link = root / CPUS / f"cpu{cpu}" / cpus.parent.name
            if not link.is_symlink():
                link.symlink_to(f"../../node/{cpus.parent.name}")


def set_modes(root: Path, *, hidden: bool) -> None:
    for hugepages in root.glob(f"{NODES}/node*/hugepages"):
        hugepages.chmod(0 if hidden else 0o755)
    (root / NODES / "online").chmod(0 if hidden else 0o644)
    for directory in (CPUS, NODES):
        (root / directory).chmod(0o111 if hidden else 0o755)


@pytest.fixture
def confined() -> Iterator[Daemon]:
    with Daemon(SMALL) as daemon:
        link_cpus_to_nodes(daemon.host.root)
        set_modes(daemon.host.root, hidden=True)
        yield daemon.start(launcher=LAUNCHER)


def test_listing_is_that_of_a_daemon_that_sees_all(confined: Daemon) -> None:
    answer = confined.ok("list_allocations")
    assert answer["total_available_cpus"] == 12
    assert answer["cpu_pool"]["eligible_cpus"] == SMALL.isolated


def test_cpus_are_granted_in_their_node(confined: Daemon) -> None:
    assert confined.numa("a", 1, 6) == confined.host.isolated_in(1)
    assert confined.numa("b", 0, 6) == confined.host.isolated_in(0)
    assert "NUMA node 3 does not exist" in confined.refused(
        "allocate_numa_cores", service_name="c", numa_node=3, num_of_cores=1
    )


def test_request_stays_in_one_node(confined: Daemon) -> None:
    granted = confined.cores("a", 6, numa_policy="single-numa-node")
    assert granted in (confined.host.isolated_in(0), confined.host.isolated_in(1))


def test_request_has_whole_cores(confined: Daemon) -> None:
    assert confined.cores("a", 2, cpu_thread_policy="require") == {1, 9}


def test_hugepages_are_refused_with_the_remedy(confined: Daemon) -> None:
    sentence = confined.refused("allocate_hugepages", service_name="a", node_id=0, size_kb=2048, hugepages_requested=1)
    assert sentence == f"The hugepages of NUMA node 0 cannot be read: in a snap, run: {CONNECT}"


def test_memory_info_has_the_nodes_without_their_pages(confined: Daemon) -> None:
    answer = confined.ok("get_memory_info")["numa_hugepages"]
    assert answer["node0"] == answer["node1"] == {"capacity": [], "allocations": {}}


def test_warnings_say_what_cannot_be_seen(confined: Daemon) -> None:
    nodes, hugepages = confined.ok("list_allocations")["warnings"]
    assert "nodes that have memory only may be missing" in nodes
    assert "hugepages of NUMA nodes 0-1 cannot be read" in hugepages
    assert nodes.endswith(CONNECT)
    assert hugepages.endswith(CONNECT)


def test_offline_cpu_is_noticed_at_once(confined: Daemon) -> None:
    root = confined.host.root
    (root / CPUS / "online").write_text("0-14\n")
    (root / NODES / "node1/cpulist").write_text("4-7,12-14\n")
    assert confined.numa("a", 1, 5) == confined.host.isolated_in(1) - {15}


def test_cpu_that_changes_its_node_is_noticed_at_once(confined: Daemon) -> None:
    root = confined.host.root
    (root / NODES / "node0/cpulist").write_text("0-3,5,8-11\n")
    (root / NODES / "node1/cpulist").write_text("4,6-7,12-15\n")
    assert confined.numa("a", 1, 5) == confined.host.isolated_in(1) - {5}


def test_connected_plug_is_noticed_on_sighup(confined: Daemon) -> None:
    set_modes(confined.host.root, hidden=False)
    confined.send_signal(signal.SIGHUP)
    wait_until(lambda: "warnings" not in confined.ok("list_allocations"), "the warnings are gone")
    assert confined.free_pages(0, 2048) == 64
    confined.pages("a", 0, 2048, 1)


@pytest.mark.parametrize("hidden", [False, True], ids=["listable CPU directories", "hidden CPU directories"])
def test_nodes_are_found_by_their_cpus(hidden: bool) -> None:
    """The directory of nodes is closed altogether: only the links in the CPUs' directories are left."""
    with Daemon(SMALL) as daemon:
        root = daemon.host.root
        link_cpus_to_nodes(root)
        (root / NODES).chmod(0)
        for cpu in range(16) if hidden else ():
            (root / CPUS / f"cpu{cpu}").chmod(0o111)
        daemon.start(launcher=LAUNCHER)
        assert daemon.numa("a", 1, 6) == daemon.host.isolated_in(1)
        assert "NUMA nodes cannot be listed" in daemon.ok("list_allocations")["warnings"][0]


def test_host_whose_nodes_are_unknown_is_not_one_node() -> None:
    with Daemon(SMALL) as daemon:
        (daemon.host.root / NODES).chmod(0)
        daemon.start(launcher=LAUNCHER)
        assert daemon.refused("allocate_numa_cores", service_name="a", numa_node=0, num_of_cores=1) == (
            "NUMA node 0 does not exist"
        )
        assert format_cpus(daemon.cores("b", 12)) == SMALL.isolated
