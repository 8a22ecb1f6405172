# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A CPU list whose end is missing stops all grants and names its file; readings and releases are still served."""

from __future__ import annotations

import pytest

from .harness import SMALL, Daemon, wait_until

CPU, NODE = "devices/system/cpu", "devices/system/node"

#: The lists that each request checks: a list that loses its end under a running daemon is noticed at once.
CHECKED = [f"{CPU}/online", f"{CPU}/isolated", f"{NODE}/online", f"{NODE}/node1/cpulist"]
OTHERS = [f"{CPU}/present", f"{CPU}/cpu0/topology/thread_siblings_list", f"{CPU}/cpu0/cache/index3/shared_cpu_list"]

GRANTS = [
    ("allocate_cores", {"num_of_cores": 1}),
    ("allocate_cores_percent", {"percent": 10}),
    ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 1}),
    ("allocate_cores", {"num_of_cores": 1, "dry_run": True}),
    ("allocate_cores", {"num_of_cores": 1, "pool": "general"}),
]


@pytest.mark.parametrize("path", [*CHECKED, *OTHERS])
def test_nothing_is_granted_after_a_start(path: str) -> None:
    with Daemon(SMALL, {"cpu-pool": "0,8"}) as daemon:
        daemon.host.cut(path)
        daemon.start()
        for action, fields in GRANTS:
            assert f"sysfs {path} is cut short" in daemon.refused(action, service_name="svc", **fields)
        assert f"ERROR No CPUs can be granted because the machine cannot be read: sysfs {path}" in daemon.log()


@pytest.mark.parametrize("path", CHECKED)
def test_list_that_loses_its_end_is_noticed_at_once(path: str, daemon: Daemon) -> None:
    held = daemon.cores("svc", 2)
    daemon.host.cut(path)
    assert f"sysfs {path} is cut short" in daemon.refused("allocate_cores", service_name="other", num_of_cores=1)
    assert daemon.claims() == {"svc": held}
    daemon.ok("get_memory_info")
    daemon.cores("svc", -1)
    assert daemon.claims() == {}


@pytest.mark.parametrize("path", CHECKED)
def test_whole_list_is_noticed_at_once(path: str, daemon: Daemon) -> None:
    daemon.host.cut(path)
    daemon.refused("allocate_cores", service_name="svc", num_of_cores=1)
    daemon.host.restore()
    assert len(daemon.cores("svc", 12)) == 12
    daemon.cores("svc", -1)


def test_cut_list_of_siblings_is_noticed_on_sighup() -> None:
    with Daemon(SMALL) as daemon:
        daemon.start()
        daemon.host.cut(OTHERS[1])
        daemon.reload({})
        wait_until(lambda: "error" in daemon.call("allocate_cores", service_name="svc", num_of_cores=1), "the problem")
