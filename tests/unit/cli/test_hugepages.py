# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`hugepages` shows the hugepages of every NUMA node, and sets or removes a record."""

from __future__ import annotations

import pytest

from tests.unit.cli.builders import Daemon, table


def test_hugepages(daemon: Daemon) -> None:
    assert daemon.text("hugepages", "nova", "--count", "4") == "recorded 4 hugepages of 2M on NUMA node 0\n"
    assert table(daemon.text("hugepages")) == [
        {"Node": "node0", "Size": "2M", "Total": "2048", "Free": "2044", "Recorded for": "nova: 4"},
        {"Node": "node0", "Size": "1G", "Total": "0", "Free": "0", "Recorded for": ""},
    ]
    assert (
        daemon.text("hugepages", "nova", "--count", "-1")
        == "Removed recorded hugepage allocation (2M on NUMA node 0)\n"
    )
    assert daemon.text("hugepages", "nova", "--count", "-1") == "No existing record to remove (2M on NUMA node 0)\n"


def test_hugepages_json(daemon: Daemon) -> None:
    assert daemon.json("hugepages", "nova", "--node", "0", "--size", "2048", "--count", "4") == {
        "version": "1.0",
        "service_name": "nova",
        "hugepages_requested": 4,
        "allocation_successful": True,
        "message": "Successfully set allocation request to 4 hugepages",
        "node_id": 0,
        "size_kb": 2048,
    }
    assert daemon.json("hugepages") == {
        "version": "1.0",
        "service_name": "",
        "numa_hugepages": {
            "node0": {
                "capacity": [{"total": 2048, "free": 2044, "size": 2048}, {"total": 0, "free": 0, "size": 1048576}],
                "allocations": {"nova": {"2048": 4}},
            }
        },
    }


def test_one_hugepage_is_singular(daemon: Daemon) -> None:
    assert daemon.text("hugepages", "nova", "--count", "1") == "recorded 1 hugepage of 2M on NUMA node 0\n"


def test_a_size_that_the_node_does_not_have_is_refused_with_its_sizes(daemon: Daemon) -> None:
    assert daemon.failure(1, "hugepages", "nova", "--size", "3M", "--count", "1") == (
        "NUMA node 0 has no hugepages of 3M: it has the sizes 2M, 1G"
    )


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_refusal_tells_the_size_as_people_write_it(as_json: list[str], daemon: Daemon) -> None:
    assert daemon.failure(1, "hugepages", "nova", "--size", "1G", "--count", "99", *as_json) == (
        "NUMA node 0 size 1048576 KB only has 0 free hugepages, requested additional 99 (1048576 KB is 1G)"
    )


def test_a_record_on_a_node_that_does_not_exist_is_refused_by_the_daemon(daemon: Daemon) -> None:
    assert "NUMA node 9" in daemon.failure(1, "hugepages", "nova", "--node", "9", "--count", "1")
