# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A daemon grants the CPUs of the source that the operator chose, also while the source changes, and no others."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from tools.synthetic import Shape

from .harness import Daemon, Process, wait_until
from .starting import answers

COMMAND = (sys.executable, "-m", "epa_orchestrator")
NOHZ_FULL, CPUSET = "devices/system/cpu/nohz_full", "fs/cgroup/cpuset.cpus.isolated"
NO_PINNING = "No CPUs available: No Isolated CPUs configured"


def daemon_with(source: str | None, isolated: str = "", **settings: Any) -> Daemon:
    """A daemon that is not started yet, on a host of one node with eight cores of one thread."""
    options = settings if source is None else settings | {"isolated-cpus-from": source}
    daemon = Daemon(Shape(cores_per_l3=8, isolated=isolated), options)
    daemon.host.put(NOHZ_FULL, "(null)")
    return daemon


def command(daemon: Daemon, *words: str) -> str:
    """What a command prints, in one line."""
    done = subprocess.run([*COMMAND, *words], env=daemon.environment, capture_output=True, text=True, check=False)
    return " ".join((done.stdout + done.stderr).split())


def refusal(daemon: Daemon, **fields: Any) -> str:
    return daemon.refused("allocate_cores", service_name="other", num_of_cores=1, **fields)


def test_nohz_full_is_a_source() -> None:
    with daemon_with("nohz_full", isolated="0-1") as daemon:
        daemon.host.put(NOHZ_FULL, "2-5")
        daemon.start()
        pool = daemon.ok("list_allocations")["cpu_pool"]
        assert (pool["source"], pool["configured_cpus"], pool["eligible_cpus"]) == ("isolated", "2-5", "2-5")
        assert daemon.cores("vm", 4) == {2, 3, 4, 5}
        assert "Requested: 1, Available: 0" in refusal(daemon)


def test_partition_that_changes_at_runtime_changes_the_pool_at_once() -> None:
    with daemon_with("cpuset", isolated="0-1") as daemon:
        daemon.start()
        assert refusal(daemon) == NO_PINNING
        daemon.host.put(CPUSET, "2-3")
        assert daemon.cores("vm", 2) == {2, 3}
        daemon.host.put(CPUSET, "3-4")
        assert daemon.ok("list_allocations")["cpu_pool"]["unavailable_allocated_cpus"] == "2"
        assert daemon.claims() == {"vm": {2, 3}}, "a claim loses nothing"
        assert daemon.cores("ovs", 1) == {4}
        daemon.host.put(CPUSET, "")
        assert refusal(daemon) == NO_PINNING
        daemon.host.put(CPUSET, "2-4")
        assert daemon.ok("list_allocations")["cpu_pool"]["unavailable_allocated_cpus"] == ""


def test_sighup_changes_the_source() -> None:
    with daemon_with("nohz_full", isolated="1-3") as daemon:
        daemon.host.put(NOHZ_FULL, "2-5")
        daemon.start()
        assert daemon.cores("vm", 3) == {2, 3, 4}
        daemon.reload({})
        pool = daemon.ok("list_allocations")["cpu_pool"]
        assert (pool["configured_cpus"], pool["unavailable_allocated_cpus"]) == ("1-3", "4")
        assert daemon.cores("ovs", 1) == {1}
        daemon.reload({"isolated-cpus-from": "cpuset"})
        assert refusal(daemon) == NO_PINNING
        daemon.reload({"isolated-cpus-from": "nohz_full"})
        pool = daemon.ok("list_allocations")["cpu_pool"]
        assert (pool["configured_cpus"], pool["unavailable_allocated_cpus"]) == ("2-5", "1")
        assert daemon.claims() == {"vm": {2, 3, 4}, "ovs": {1}}


@pytest.mark.parametrize("source", [None, "isolcpus", "nohz_full", "cpuset"])
def test_empty_source_never_falls_back_to_another(source: str | None) -> None:
    chosen = source or "isolcpus"
    with daemon_with(source, isolated="" if chosen == "isolcpus" else "1") as daemon:
        daemon.host.put(NOHZ_FULL, "(null)" if chosen == "nohz_full" else "2")
        daemon.host.put(CPUSET, "" if chosen == "cpuset" else "3")
        daemon.start()
        for action, fields in (
            *(("allocate_cores", {"num_of_cores": count}) for count in (0, 1, 8)),
            ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 1}),
            ("allocate_cores_percent", {"percent": 50}),
        ):
            assert daemon.refused(action, service_name="vm", **fields) == NO_PINNING
        listing = daemon.ok("list_allocations")
        assert listing["total_available_cpus"] == 0
        (warning,) = listing["warnings"]
        assert re.fullmatch(
            "Pool isolated has no CPUs, so requests for pinning are refused: .*set isolated-cpus-from=.*", warning
        )
        assert warning in daemon.log()


def test_status_says_what_the_kernel_line_asks_for_in_vain() -> None:
    with daemon_with(None) as daemon:
        daemon.host.put(NOHZ_FULL, "2-7")
        daemon.host.put("devices/system/cpu/possible", "0-7")
        line = daemon.host.root.parent / "proc" / "cmdline"
        line.parent.mkdir()
        line.write_text("quiet isolcpus=managed_irq,2-7 nohz_full=2-7\n")
        daemon.start()
        (warning,) = daemon.ok("list_allocations")["warnings"]
        found = "nohz_full has 2-7, isolcpus= has only managed_irq: set isolated-cpus-from=nohz_full or add domain"
        assert warning.endswith(f": {found}")
        assert found in command(daemon, "status")
        assert found in daemon.log()
        daemon.reload({"isolated-cpus-from": "nohz_full"})
        assert "warnings" not in daemon.ok("list_allocations")
        assert daemon.cores("vm", 6) == {2, 3, 4, 5, 6, 7}


def test_unusable_source_grants_no_isolated_cpus_and_is_named() -> None:
    with daemon_with("isolcpus", isolated="1-3", **{"cpu-pool": "0"}) as daemon:
        daemon.start()
        assert daemon.cores("vm", 1) == {1}
        daemon.configure({"isolated-cpus-from": "all", "cpu-pool": "0"})
        daemon.restart()
        sentence = refusal(daemon)
        assert "it is not known which ones they are" in sentence
        assert "isolated-cpus-from='all' is not valid: set it to 'isolcpus', 'nohz_full' or 'cpuset'" in sentence
        (warning,) = daemon.ok("list_allocations")["warnings"]
        assert warning.endswith("until this is corrected, no CPUs of pool isolated are granted")
        assert daemon.claims() == {"vm": {1}}
        assert daemon.cores("host", 1, pool="general") == {0}
        daemon.configure({})
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "warnings" not in daemon.call("list_allocations"), "the settings are read")
        assert daemon.cores("ovs", 1) == {2}


def test_source_that_cannot_be_read_grants_nothing() -> None:
    with daemon_with("cpuset", isolated="1-3") as daemon:
        (daemon.host.root / "fs/cgroup").mkdir(parents=True)
        (daemon.host.root / CPUSET).mkdir()  # a directory opens, and cannot be read
        daemon.start()
        sentence = refusal(daemon)
        assert "cannot be read; in a snap, run: sudo snap connect epa-orchestrator:topology" in sentence
        (daemon.host.root / CPUSET).rmdir()
        daemon.host.put(CPUSET, "2")
        assert daemon.cores("vm", 1) == {2}


@pytest.mark.parametrize(("source", "cpus"), [("isolcpus", {1}), ("nohz_full", {2}), ("cpuset", {3})])
def test_recorded_machine_has_every_source(source: str, cpus: set[int]) -> None:
    with daemon_with(source, isolated="1") as daemon:
        daemon.host.put(NOHZ_FULL, "2")
        daemon.host.put(CPUSET, "3")
        recording = daemon.base / "recorded.json"
        command(daemon, "machine", "--record", str(recording))
        daemon.process = Process([*COMMAND, "serve", "--machine", str(recording)], daemon.environment)
        wait_until(lambda: answers(daemon.socket_path), "the daemon answers")
        assert daemon.cores("vm", 1) == cpus
