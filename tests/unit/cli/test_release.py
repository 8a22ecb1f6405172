# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`release` takes CPUs back; a release of nothing fails, and names the service that was probably meant."""

from __future__ import annotations

import pytest

from epa_orchestrator.cli.release import Record, _described
from tests.unit.cli.builders import Daemon


def test_release(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    assert daemon.text("release", "nova") == "released (6 of 6 free)\n"
    assert daemon.json("list")["allocations"] == []


def test_release_json(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    assert daemon.json("release", "nova")["allocated_cores"] == ""


def test_release_in_a_node(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2", "--numa-node", "0")
    assert daemon.json("release", "nova", "--numa-node", "0") == {
        "version": "1.0",
        "service_name": "nova",
        "numa_node": 0,
        "num_of_cores": -1,
        "cores_allocated": "",
        "total_available_cpus": 6,
        "remaining_available_cpus": 6,
        "pool": "isolated",
        "preemption_policy": None,
    }


def test_release_finds_the_pool(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "1", "--pool", "general")
    assert daemon.failure(1, "release", "nova", "--pool", "isolated") == (
        "Nothing was released: service 'nova' holds no CPUs in pool isolated, but CPU 1 in pool general"
    )
    assert daemon.text("release", "nova") == "released (1 of 1 free)\n"
    daemon.run("allocate", "nova", "1", "--pool", "general")
    assert daemon.json("release", "nova", "--pool", "general")["pool"] == "general"


@pytest.mark.parametrize("more", [[], ["--json"], ["--pool", "isolated"], ["--pool", "general"], ["--numa-node", "0"]])
def test_release_of_a_misspelt_name_suggests_the_nearest(more: list[str], daemon: Daemon) -> None:
    for service in ("openstack-hypervisor", "ovs-dpdk"):
        daemon.run("allocate", service, "2")
    assert daemon.failure(1, "release", "openstack-hypervisr", *more) == (
        "Nothing was released: service 'openstack-hypervisr' holds no CPUs; did you mean 'openstack-hypervisor'?"
    )
    assert len(daemon.json("list")["allocations"]) == 2


def test_nearest_name_may_be_in_the_other_pool(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "1", "--pool", "general")
    assert daemon.failure(1, "release", "nov").endswith("; did you mean 'nova'?")


def test_release_of_an_unlike_name_points_to_the_list(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    assert daemon.failure(1, "release", "ceph") == (
        "Nothing was released: service 'ceph' holds no CPUs; 'epa-orchestrator list' shows which services do"
    )


def test_release_when_nothing_is_held(daemon: Daemon) -> None:
    assert daemon.failure(1, "release", "nova") == (
        "Nothing was released: service 'nova' holds no CPUs, and no other service does"
    )


def test_release_of_hugepage_records_only(daemon: Daemon) -> None:
    daemon.run("hugepages", "nova", "--count", "4")
    sentence = daemon.failure(1, "release", "nova")
    assert sentence == (
        "Nothing was released: service 'nova' holds no CPUs, but has recorded hugepages (4 x 2M on NUMA node 0)."
        " To remove them, run: epa-orchestrator hugepages nova --node 0 --size 2M --count -1"
    )
    assert daemon.client.memory_info().numa_hugepages["node0"].allocations == {"nova": {"2048": 4}}


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_release_says_which_hugepage_records_stay(as_json: list[str], daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    daemon.run("hugepages", "nova", "--count", "4")
    result = daemon.run("release", "nova", *as_json)
    assert result.exit_code == 0
    assert result.stderr == (
        "note: 'nova' keeps its recorded hugepages (4 x 2M on NUMA node 0)."
        " To remove them, run: epa-orchestrator hugepages nova --node 0 --size 2M --count -1\n"
    )


def test_several_records_have_the_command_for_the_first() -> None:
    assert _described("nova", [Record(0, "2M", 4), Record(1, "1G", 1)]) == (
        "recorded hugepages (4 x 2M on NUMA node 0, 1 x 1G on NUMA node 1)."
        " To remove the first of them, run: epa-orchestrator hugepages nova --node 0 --size 2M --count -1"
    )


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_release_in_a_node_where_nothing_is_held(as_json: list[str]) -> None:
    """Node 3 does not exist, as for a charm that counts to the highest node of another host."""
    daemon = Daemon()
    try:
        daemon.run("allocate", "nova", "2")
        result = daemon.run("release", "nova", "--numa-node", "3", *as_json)
        held = daemon.json("list")["allocations"][0]["allocated_cores"]
    finally:
        daemon.stop()
    assert (result.exit_code, held) == (1, "2-3")
    assert bool(result.stdout) == bool(as_json)
    assert "NUMA node 3" in result.stderr


def test_release_by_another_unicode_form(daemon: Daemon) -> None:
    daemon.run("allocate", "\u00e9t\u00e9", "2")
    assert daemon.text("release", "e\u0301te\u0301") == "released (6 of 6 free)\n"
