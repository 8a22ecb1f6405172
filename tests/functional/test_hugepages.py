# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`allocate_hugepages` and `get_memory_info`: records, and the kernel's own count of free pages."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import Daemon, Json, error_of


def request(daemon: Daemon, count: int, service: str = "svc", node: int = 0, size: int = 2048) -> str:
    """The message of an answer; its other fields must repeat the request."""
    answer = daemon.pages(service, node, size, count)
    for field, value in {
        "version": "1.0",
        "service_name": service,
        "hugepages_requested": count,
        "allocation_successful": True,
        "node_id": node,
        "size_kb": size,
    }.items():
        assert answer.pop(field) == value
    assert set(answer) == {"message"}
    return answer["message"]


def refused(daemon: Daemon, count: int, service: str = "svc", node: int = 0, size: int = 2048) -> str:
    """The sentence of a refusal."""
    return daemon.refused(
        "allocate_hugepages", service_name=service, node_id=node, size_kb=size, hugepages_requested=count
    )


def recorded(daemon: Daemon, node: int = 0) -> dict[str, dict[str, int]]:
    """The node's records: service -> {size: count}."""
    return daemon.ok("get_memory_info")["numa_hugepages"][f"node{node}"]["allocations"]


def test_memory_info_lists_pages_by_node(daemon: Daemon) -> None:
    assert daemon.ok("get_memory_info") == {
        "version": "1.0",
        "service_name": "",
        "numa_hugepages": {
            "node0": {
                "capacity": [
                    {"total": 64, "free": 64, "size": 2048},
                    {"total": 4, "free": 4, "size": 1048576},
                ],
                "allocations": {},
            },
            "node1": {"capacity": [{"total": 32, "free": 32, "size": 2048}], "allocations": {}},
            "node2": {"capacity": [], "allocations": {}},
        },
    }
    assert daemon.ok("get_memory_info", service_name="hôte")["service_name"] == "hôte"


def test_records(daemon: Daemon) -> None:
    assert request(daemon, 10) == "Successfully set allocation request to 10 hugepages"
    assert request(daemon, 1, size=1048576) == "Successfully set allocation request to 1 hugepages"
    assert request(daemon, 5, node=1) == "Successfully set allocation request to 5 hugepages"
    assert request(daemon, 7, service="other") == "Successfully set allocation request to 7 hugepages"
    assert recorded(daemon) == {"svc": {"2048": 10, "1048576": 1}, "other": {"2048": 7}}
    assert recorded(daemon, 1) == {"svc": {"2048": 5}}
    assert daemon.free_pages(0, 2048) == 47
    assert daemon.free_pages(0, 1048576) == 3
    assert daemon.free_pages(1, 2048) == 27
    before = daemon.snapshot()
    daemon.restart()
    assert daemon.snapshot() == before


def test_request_replaces_the_recorded_count(daemon: Daemon) -> None:
    for count in (10, 10, 30, 1, 64):
        assert request(daemon, count) == f"Successfully set allocation request to {count} hugepages"
        assert recorded(daemon) == {"svc": {"2048": count}}
        assert daemon.free_pages(0, 2048) == 64 - count


def test_removal(daemon: Daemon) -> None:
    assert request(daemon, -1) == "No existing record to remove"
    request(daemon, 10)
    request(daemon, 1, size=1048576)
    assert request(daemon, -1, service="other") == "No existing record to remove"
    assert request(daemon, -1, node=1) == "No existing record to remove"
    assert request(daemon, -1) == "Removed recorded hugepage allocation"
    assert recorded(daemon) == {"svc": {"1048576": 1}}
    assert request(daemon, -1) == "No existing record to remove"
    assert request(daemon, -1, size=1048576) == "Removed recorded hugepage allocation"
    assert recorded(daemon) == {}


def test_never_changes_the_kernels_pages(daemon: Daemon) -> None:
    files = sorted((daemon.host.root / "devices/system/node").rglob("*_hugepages"))
    before = [file.read_text() for file in files]
    request(daemon, 64)
    request(daemon, -1)
    assert [file.read_text() for file in files] == before


def test_only_the_increase_must_fit(daemon: Daemon) -> None:
    request(daemon, 60)
    assert refused(daemon, 65) == "NUMA node 0 size 2048 KB only has 4 free hugepages, requested additional 5"
    request(daemon, 64)
    assert refused(daemon, 65) == "NUMA node 0 size 2048 KB only has 0 free hugepages, requested additional 1"
    assert refused(daemon, 1, service="other") == (
        "NUMA node 0 size 2048 KB only has 0 free hugepages, requested additional 1"
    )
    request(daemon, 50)
    request(daemon, 14, service="other")
    assert refused(daemon, 51) == "NUMA node 0 size 2048 KB only has 0 free hugepages, requested additional 1"
    assert refused(daemon, 5, size=1048576) == (
        "NUMA node 0 size 1048576 KB only has 4 free hugepages, requested additional 5"
    )


@pytest.mark.parametrize("node", [3, 99, 2**31 - 1])
def test_refuses_an_unknown_node(daemon: Daemon, node: int) -> None:
    assert refused(daemon, 1, node=node) == f"NUMA node {node} not found"


@pytest.mark.parametrize(("node", "size"), [(0, 4096), (0, 1), (1, 1048576), (2, 2048), (0, 2**31 - 1)])
def test_refuses_an_unknown_size(daemon: Daemon, node: int, size: int) -> None:
    assert refused(daemon, 1, node=node, size=size) == f"Hugepage size {size} KB not found on node {node}"


# free - max(recorded - (total - free), 0), never below 0
@pytest.mark.parametrize(
    ("total", "free", "expected"),
    [
        (64, 64, 54),  # no page in use: the 10 recorded pages are not in use yet
        (64, 60, 54),  # 4 in use, which count as recorded ones
        (64, 54, 54),  # all 10 in use
        (64, 50, 50),  # more in use than recorded
        (64, 0, 0),
        (8, 8, 0),  # fewer pages than recorded
        (8, 3, 0),
        (128, 128, 118),
    ],
)
def test_free_pages_exclude_recorded_pages(daemon: Daemon, total: int, free: int, expected: int) -> None:
    request(daemon, 6)
    request(daemon, 4, service="other")
    daemon.host.set_pages(0, 2048, total, free)
    assert daemon.free_pages(0, 2048) == expected
    (page,) = [
        page for page in daemon.ok("get_memory_info")["numa_hugepages"]["node0"]["capacity"] if page["size"] == 2048
    ]
    assert page == {"total": total, "free": expected, "size": 2048}
    assert refused(daemon, 6 + expected + 1) == (
        f"NUMA node 0 size 2048 KB only has {expected} free hugepages, requested additional {expected + 1}"
    )
    if expected:
        request(daemon, 6 + expected)
    request(daemon, 5)
    request(daemon, 3, service="other")
    assert recorded(daemon) == {"svc": {"2048": 5}, "other": {"2048": 3}}


def test_records_of_a_missing_size_can_be_removed(daemon: Daemon) -> None:
    request(daemon, 2, size=1048576)
    daemon.host.remove("devices/system/node/node0/hugepages/hugepages-1048576kB")
    assert daemon.ok("get_memory_info")["numa_hugepages"]["node0"]["capacity"] == [
        {"total": 64, "free": 64, "size": 2048}
    ]
    assert recorded(daemon) == {"svc": {"1048576": 2}}
    assert refused(daemon, 3, size=1048576) == "Hugepage size 1048576 KB not found on node 0"
    assert request(daemon, -1, size=1048576) == "Removed recorded hugepage allocation"


def test_records_and_cpus_are_independent(daemon: Daemon) -> None:
    cpus = daemon.cores("svc", 3)
    request(daemon, 4)
    assert request(daemon, -1) == "Removed recorded hugepage allocation"
    assert daemon.claims() == {"svc": cpus}
    request(daemon, 4, service="pages only")
    assert daemon.claims() == {"svc": cpus}


def test_pages_are_shared_by_all_pools(daemon: Daemon) -> None:
    daemon.configure({"cpu-pool": "0,4"})
    daemon.restart()
    daemon.cores("general", 2, pool="general")
    request(daemon, 60, service="general")
    assert refused(daemon, 5) == "NUMA node 0 size 2048 KB only has 4 free hugepages, requested additional 5"


@pytest.mark.parametrize(("reserved", "free"), [("0:2048:4", 60), ("0:2048:4,0:1048576:1,1:2048:32", 60)])
def test_reserved_hugepages_are_never_granted(reserved: str, free: int) -> None:
    settings: dict[str, Any] = {"reserved-hugepages": reserved}
    with Daemon(settings=settings) as daemon:
        daemon.start()
        assert refused(daemon, 61) == (
            f"NUMA node 0 size 2048 KB only has {free} free hugepages, requested additional 61"
        )
        request(daemon, 60)


# --- promised pages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("promised", "free"),
    [
        (0, (64, 32)),
        (32, (64, 32)),  # all of them may lie on node 1
        (40, (56, 32)),  # 8 can only lie on node 0
        (64, (32, 32)),
        (70, (26, 26)),  # 6 can only lie on node 1
        (96, (0, 0)),
        (1000, (0, 0)),
    ],
)
def test_promised_pages_that_can_only_lie_on_a_node_are_not_free_there(
    daemon: Daemon, promised: int, free: tuple[int, int]
) -> None:
    daemon.host.become(promised={2048: promised})
    assert (daemon.free_pages(0, 2048), daemon.free_pages(1, 2048)) == free
    assert refused(daemon, free[0] + 1) == (
        f"NUMA node 0 size 2048 KB only has {free[0]} free hugepages, requested additional {free[0] + 1}"
    )
    if free[0]:
        request(daemon, free[0])


def test_promised_pages_count_as_used_by_those_who_recorded_them(daemon: Daemon) -> None:
    request(daemon, 60)
    daemon.host.become(promised={2048: 60})  # the service has mapped its pages, and touches none yet
    assert daemon.free_pages(0, 2048) == 4


def test_promised_pages_of_another_size_do_not_count(daemon: Daemon) -> None:
    daemon.host.become(promised={1048576: 4})
    assert (daemon.free_pages(0, 2048), daemon.free_pages(0, 1048576)) == (64, 0)


# --- more than the node has -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [8, 7, 3])
def test_a_record_for_more_than_the_node_has_is_not_repeated(daemon: Daemon, count: int) -> None:
    request(daemon, 8)
    daemon.host.set_pages(0, 2048, 2, 2)
    assert refused(daemon, count) == (
        f"NUMA node 0 size 2048 KB only has 2 hugepages in all, requested {count}: request fewer, or -1 to remove the"
        " record"
    )
    assert recorded(daemon) == {"svc": {"2048": 8}}


@pytest.mark.parametrize(("count", "left"), [(2, {"svc": {"2048": 2}}), (1, {"svc": {"2048": 1}}), (-1, {})])
def test_a_record_can_be_lowered_to_what_the_node_has(daemon: Daemon, count: int, left: Json) -> None:
    request(daemon, 8)
    daemon.host.set_pages(0, 2048, 2, 2)
    request(daemon, count)
    assert recorded(daemon) == left


# --- one node, and answers that fit ---------------------------------------------------------------------------------


def test_one_node_is_listed_on_request(daemon: Daemon) -> None:
    request(daemon, 4)
    every = daemon.ok("get_memory_info")["numa_hugepages"]
    assert daemon.ok("get_memory_info", node_id=0)["numa_hugepages"] == {"node0": every["node0"]}
    assert daemon.ok("get_memory_info", node_id=None)["numa_hugepages"] == every


def test_one_node_counts_promised_pages_as_all_nodes_do(daemon: Daemon) -> None:
    daemon.host.become(promised={2048: 70})
    every = daemon.ok("get_memory_info")["numa_hugepages"]
    for node_id in (0, 1, 2):
        assert daemon.ok("get_memory_info", node_id=node_id)["numa_hugepages"] == {
            f"node{node_id}": every[f"node{node_id}"]
        }


def test_a_node_that_does_not_exist_is_refused(daemon: Daemon) -> None:
    assert error_of(daemon.call("get_memory_info", node_id=9)) == "NUMA node 9 not found"
