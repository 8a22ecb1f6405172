# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`hugepages` shows the hugepages of every NUMA node, and sets or removes a record."""

from __future__ import annotations

from tests.unit.cli.builders import Daemon, table


def test_hugepages(daemon: Daemon) -> None:
    assert daemon.text("hugepages", "nova", "--count", "4") == "Successfully set allocation request to 4 hugepages\n"
    assert table(daemon.text("hugepages")) == [
        {"Node": "node0", "Size": "2M", "Total": "2048", "Free": "2044", "Recorded for": "nova: 4"},
        {"Node": "node0", "Size": "1G", "Total": "0", "Free": "0", "Recorded for": ""},
    ]
    assert daemon.text("hugepages", "nova", "--count", "-1") == "Removed recorded hugepage allocation\n"
    assert daemon.text("hugepages", "nova", "--count", "-1") == "No existing record to remove\n"


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
