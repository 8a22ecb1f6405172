# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Names that look alike, services and records beyond the limits, and settings files that are not valid."""

from __future__ import annotations

import os
import signal
from typing import Final

import pytest

from .harness import Daemon, Json, wait_until

COMPOSED, DECOMPOSED = "\u00e9tude", "e\u0301tude"

TAKES: Final[dict[str, Json]] = {
    "allocate_cores": {"num_of_cores": 1},
    "allocate_cores_percent": {"percent": 1},
    "allocate_numa_cores": {"numa_node": 0, "num_of_cores": 1},
    "allocate_hugepages": {"node_id": 0, "size_kb": 2048, "hugepages_requested": 1},
}


def test_two_spellings_are_one_service(daemon: Daemon) -> None:
    for action, fields in TAKES.items():
        assert daemon.ok(action, service_name=DECOMPOSED, **fields)["service_name"] == COMPOSED
    assert set(daemon.claims()) == {COMPOSED}
    daemon.restart()
    released = daemon.ok("allocate_cores", service_name=DECOMPOSED, num_of_cores=-1)
    assert released["service_name"] == COMPOSED
    assert daemon.claims() == {}


@pytest.mark.parametrize("name", [" a", "a ", "\u2800", "\u3164", "a\ufe0f", "\u034fa"])
def test_refuses_a_name_that_looks_like_another(name: str, daemon: Daemon) -> None:
    daemon.cores("a", 1)
    before = daemon.snapshot()
    for action, fields in TAKES.items():
        sentence = daemon.refused(action, service_name=name, **fields)
        assert sentence.startswith("Field 'service_name' must not ")
    assert daemon.ok("allocate_cores", service_name=name, num_of_cores=-1)["allocated_cores"] == ""
    assert daemon.snapshot() == before


def test_refuses_services_beyond_the_limit(daemon: Daemon) -> None:
    daemon.reload({"max-services": 2})
    daemon.cores("a", 1)
    daemon.pages("b", 0, 2048, 1)
    for action, fields in TAKES.items():
        assert "max-services=2" in daemon.refused(action, service_name="c", **fields)


def test_refuses_hugepage_records_beyond_the_limit(daemon: Daemon) -> None:
    daemon.reload({"max-hugepage-records": 2})
    daemon.pages("b", 0, 2048, 1)
    daemon.pages("a", 1, 2048, 1)
    assert "max-hugepage-records=2" in daemon.refused(
        "allocate_hugepages", service_name="a", node_id=0, size_kb=2048, hugepages_requested=1
    )


def test_services_beyond_a_lower_limit_can_change(daemon: Daemon) -> None:
    for service, node in (("a", 1), ("b", 0)):
        daemon.cores(service, 1)
        daemon.pages(service, node, 2048, 1)
    daemon.reload({"max-services": 1, "max-hugepage-records": 1})
    daemon.cores("a", 3)
    daemon.pages("a", 1, 2048, 2)
    daemon.restart()
    assert set(daemon.claims()) == {"a", "b"}


def test_released_services_make_room_for_new_ones(daemon: Daemon) -> None:
    daemon.reload({"max-services": 1, "max-hugepage-records": 1})
    daemon.cores("a", 1)
    daemon.pages("a", 1, 2048, 1)
    daemon.cores("a", -1)
    daemon.pages("a", 1, 2048, -1)
    daemon.cores("c", 1)
    daemon.pages("c", 0, 2048, 1)


def test_reload_refuses_settings_in_a_fifo() -> None:
    with Daemon(settings={"cpu-pool": "0"}) as daemon:
        daemon.start()
        daemon.settings_path.unlink()
        os.mkfifo(daemon.settings_path)
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "it is not a regular file" in daemon.log(), "the mistake is logged")
        assert daemon.ok("list_allocations", pool="general")["total_available_cpus"] == 1


def test_start_with_settings_in_a_fifo_grants_nothing() -> None:
    with Daemon() as daemon:
        daemon.settings_path.unlink()
        os.mkfifo(daemon.settings_path)
        daemon.start()
        assert "it is not a regular file; until this is corrected" in daemon.log()
        assert "it is not a regular file" in daemon.refused("allocate_cores", service_name="a", num_of_cores=1)


def test_duplicate_key_keeps_the_settings_in_use() -> None:
    with Daemon(settings={"cpu-pool": "0"}) as daemon:
        daemon.start()
        daemon.configure('{"cpu-pool": "0,8", "cpu-pool": "8"}')
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "it has the key 'cpu-pool' twice in one object" in daemon.log(), "the mistake is logged")
        assert daemon.ok("list_allocations", pool="general")["cpu_pool"]["configured_cpus"] == "0"
