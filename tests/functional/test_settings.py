# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The operator's settings: when the daemon reads them, and which it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Final

import pytest

from epa_orchestrator.state.lock import daemon_pid

from .harness import Daemon, Json, clean_environment, wait_until
from .watching import Watching


def test_sighup_during_the_start_reads_the_settings() -> None:
    """A hook that finds the lock held sends SIGHUP, before or after the daemon has read the settings."""
    with Daemon() as daemon:
        daemon.launch()
        wait_until(lambda: daemon_pid(daemon.common) is not None, "the daemon holds its lock")
        daemon.configure({"cpu-pool": "0,4"})
        daemon.send_signal(signal.SIGHUP)
        wait_until(daemon.socket_path.is_socket, "the daemon serves")
        wait_until(lambda: "error" not in daemon.call("list_allocations", pool="general"), "the pool is there")


def test_sighup_reads_the_settings(daemon: Daemon) -> None:
    held = daemon.cores("svc", 2)
    daemon.refused("list_allocations", pool="general")
    daemon.configure({"cpu-pool": "0,4"})
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "error" not in daemon.call("list_allocations", pool="general"), "the general pool is there")
    daemon.cores("host", 2, pool="general")
    daemon.configure({"cpu-pool": "0,4,8"})
    daemon.send_signal(signal.SIGHUP)
    wait_until(
        lambda: daemon.ok("list_allocations", pool="general")["total_available_cpus"] == 3, "the general pool has grown"
    )
    assert daemon.claims() == {"svc": held}
    assert daemon.claims("general") == {"host": {0, 4}}


def test_claim_outside_a_smaller_pool_must_be_released_first() -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        daemon.start()
        daemon.cores("host", 2, pool="general")
        daemon.configure({"cpu-pool": "0"})
        daemon.restart()
        assert daemon.ok("list_allocations", pool="general")["cpu_pool"]["unavailable_allocated_cpus"] == "4"
        assert "release it first" in daemon.refused(
            "allocate_cores", service_name="host", num_of_cores=1, pool="general"
        )
        daemon.cores("host", -1, pool="general")
        daemon.cores("host", 1, pool="general")


def test_reserved_cpu_stays_with_its_owner(daemon: Daemon) -> None:
    held = daemon.numa("svc", 0, 2)
    daemon.configure({"reserved-cpus": str(min(held))})
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.ok("list_allocations")["total_available_cpus"] == 11, "the settings are read")
    assert daemon.claims() == {"svc": held}
    assert daemon.ok("list_allocations")["cpu_pool"]["unavailable_allocated_cpus"] == str(min(held))
    assert daemon.cores("svc", 2) == held
    assert "release it first" in daemon.refused("allocate_cores", service_name="svc", num_of_cores=3)
    daemon.cores("svc", -1)
    assert min(held) not in daemon.cores("svc", 11)


#: Mistake -> (the settings, the texts that the sentence must have).
BAD_SETTINGS: Final[dict[str, tuple[Json | str, tuple[str, ...]]]] = {
    "not JSON": ("{", ("settings.json",)),
    "array": ("[]", ("settings.json",)),
    "empty file": ("", ("settings.json",)),
    "CPU list": ({"cpu-pool": "0-"}, ("cpu-pool",)),
    "CPU list as array": ({"cpu-pool": [0, 1]}, ("cpu-pool",)),
    "endless CPU list": ({"cpu-pool": "0-99999999999"}, ("cpu-pool",)),
    "reserved CPUs": ({"reserved-cpus": "x"}, ("reserved-cpus",)),
    "unknown value": ({"numa-policy": "best"}, ("numa-policy", "best")),
    "wrong type": ({"prefer-closest-numa-nodes": "yes"}, ("prefer-closest-numa-nodes",)),
    "percent": ({"default-allocation-percent": 101}, ("default-allocation-percent",)),
    "percent as text": ({"default-allocation-percent": "80"}, ("default-allocation-percent",)),
    "boolean for a number": ({"large-system-threshold": True}, ("large-system-threshold",)),
    "policy": ({"default-preemption-policy": "never"}, ("default-preemption-policy",)),
    "hugepages": ({"reserved-hugepages": "0:2048"}, ("reserved-hugepages",)),
    "uids": ({"allowed-uids": ["root"]}, ("allowed-uids",)),
    "gids": ({"allowed-gids": {"0": 0}}, ("allowed-gids",)),
    "threads against cores": (
        {"cpu-thread-policy": "require", "cpu-distribution": "cores"},
        ("cpu-thread-policy", "cpu-distribution"),
    ),
    "cache against nodes": (
        {"uncore-cache-alignment": "require", "numa-allocation-strategy": "distribute"},
        ("uncore-cache-alignment", "numa-allocation-strategy"),
    ),
    "cache against caches": (
        {"uncore-cache-alignment": "require", "cpu-distribution": "caches"},
        ("uncore-cache-alignment", "cpu-distribution"),
    ),
}


@pytest.mark.parametrize(("settings", "named"), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_daemon_with_invalid_settings_serves_and_says_so(settings: Json | str, named: tuple[str, ...]) -> None:
    with Daemon() as daemon:
        daemon.configure(settings)
        daemon.start()
        listing = daemon.ok("list_allocations")
        for name in named:
            assert name in " ".join(listing["warnings"])
            assert name in daemon.log()
        assert "state_error" not in listing


def test_missing_settings_file_is_named() -> None:
    with Daemon() as daemon:
        daemon.configure({})
        daemon.settings_path.unlink()
        daemon.start()
        (warning,) = daemon.ok("list_allocations")["warnings"]
        assert "cannot be read: No such file" in warning
        assert "No CPUs can be granted" in daemon.refused("allocate_cores", service_name="svc", num_of_cores=1)


def test_valid_options_are_used_next_to_an_invalid_one() -> None:
    with Daemon(settings={"cpu-pool": "0,4", "reserved-cpus": "3", "numa-policy": "sideways", "later": 1}) as daemon:
        daemon.start()
        assert 3 not in daemon.cores("svc", 11)
        assert daemon.cores("host", 2, pool="general") == {0, 4}
        assert len(daemon.ok("list_allocations")["warnings"]) == 2


CPU_REQUESTS: Final = (
    *(("allocate_cores", {"num_of_cores": count}) for count in (0, 1, 100)),
    ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 1}),
    ("allocate_cores_percent", {"percent": 1}),
)


@pytest.mark.parametrize("settings", [{"reserved-cpus": "x", "cpu-pool": "0,4"}, "{"], ids=["option", "file"])
def test_unknown_reservation_grants_no_cpus(settings: Json | str) -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        daemon.start()
        held = daemon.cores("svc", 2)
        daemon.cores("host", 1, pool="general")
        daemon.configure(settings)
        daemon.restart()
        for pool in ("isolated", "general"):
            for action, fields in CPU_REQUESTS:
                sentence = daemon.refused(action, service_name="new", pool=pool, **fields)
                assert str(daemon.settings_path) in sentence
                assert "No Isolated CPUs configured" not in sentence, "a hypervisor would stop pinning"
        assert daemon.claims() == {"svc": held}
        assert daemon.cores("svc", 2) == daemon.cores("svc", 0) == held, "nothing new"
        daemon.cores("host", -1, pool="general")
        daemon.cores("svc", -1)


def test_unusable_cpu_pool_leaves_the_isolated_pool_alone() -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        daemon.start()
        daemon.cores("host", 1, pool="general")
        daemon.configure({"cpu-pool": "0-"})
        daemon.restart()
        assert daemon.cores("svc", 12) == daemon.host.isolated
        for action, fields in CPU_REQUESTS:
            sentence = daemon.refused(action, service_name="new", pool="general", **fields)
            assert sentence.startswith("No CPUs available in pool general: settings file")
        assert daemon.claims("general") == {"host": {0}}
        daemon.cores("host", -1, pool="general")


def test_unusable_reserved_hugepages_grant_no_hugepages() -> None:
    with Daemon(settings={"reserved-hugepages": "0:2048"}) as daemon:
        daemon.start()
        sentence = daemon.refused(
            "allocate_hugepages", service_name="svc", node_id=0, size_kb=2048, hugepages_requested=1
        )
        assert "only has 0 free hugepages" in sentence
        assert "reserved-hugepages" in sentence
        capacity = daemon.ok("get_memory_info")["numa_hugepages"]["node0"]["capacity"]
        assert {size["free"] for size in capacity} == {0}
        daemon.cores("svc", 1)


def test_unusable_numa_reclaim_takes_nothing_from_others() -> None:
    with Daemon(settings={"numa-reclaim": "sometimes"}) as daemon:
        daemon.start()
        daemon.cores("svc", 12)
        daemon.refused("allocate_numa_cores", service_name="new", numa_node=0, num_of_cores=1)


def test_corrected_settings_end_the_warning_without_a_restart() -> None:
    with Daemon(settings={"reserved-cpus": "x", "numa-policy": "sideways"}) as daemon:
        daemon.start()
        daemon.configure({"reserved-cpus": "3", "numa-policy": "sideways", "cpu-pool": "0"})
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.ok("list_allocations")["total_available_cpus"] == 11, "the valid ones are used")
        assert len(daemon.ok("list_allocations")["warnings"]) == 1
        daemon.configure({"reserved-cpus": "3"})
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "warnings" not in daemon.ok("list_allocations"), "nothing is wrong")


def test_cpus_that_are_gone_from_cpu_pool_are_named() -> None:
    with Daemon(settings={"cpu-pool": "0,99"}) as daemon:
        daemon.start()
        (warning,) = daemon.ok("list_allocations")["warnings"]
        assert warning == "cpu-pool names CPUs 99, which this machine does not have: remove them from cpu-pool"
        assert warning in daemon.log()
        assert daemon.cores("host", 1, pool="general") == {0}


@pytest.mark.parametrize(("value", "cpus"), [("isolated", None), (" 0 - 0 ,\t4 ", {0, 4})])
def test_cpu_pool_is_read_as_the_older_snap_reads_it(value: str, cpus: set[int] | None) -> None:
    with Daemon(settings={"cpu-pool": value}) as daemon:
        daemon.start()
        assert "warnings" not in daemon.ok("list_allocations")
        if cpus is None:
            assert "is not configured" in daemon.refused("list_allocations", pool="general")
        else:
            assert daemon.cores("host", len(cpus), pool="general") == cpus


def test_lists_of_ids_may_be_text() -> None:
    with Daemon(settings={"allowed-uids": "1000,1001", "allowed-gids": ""}) as daemon:
        daemon.start()
        assert "warnings" not in daemon.ok("list_allocations")


def test_invalid_settings_on_sighup_change_nothing() -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        daemon.start()
        held = daemon.cores("svc", 2)
        for settings, named in BAD_SETTINGS.values():
            said = len(daemon.log())
            daemon.configure(settings)
            daemon.send_signal(signal.SIGHUP)
            wait_until(
                lambda said=said, named=named: all(name in daemon.log()[said:] for name in named),
                "the mistake is logged",
            )
            assert daemon.ok("list_allocations", pool="general")["cpu_pool"]["configured_cpus"] == "0,4"
        assert daemon.claims() == {"svc": held}
        daemon.configure({"cpu-pool": "0"})
        daemon.send_signal(signal.SIGHUP)
        wait_until(
            lambda: daemon.ok("list_allocations", pool="general")["total_available_cpus"] == 1, "good ones are read"
        )


def status(daemon: Daemon) -> Json:
    """The output of the command `status --json`."""
    command = [sys.executable, "-m", "epa_orchestrator", "status", "--json", "--socket", str(daemon.socket_path)]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("refused", ['{"reserved-cpus": "x"}', "garbage"])
def test_refused_settings_are_a_warning_until_right_ones_are_read(refused: str) -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        daemon.start()
        assert status(daemon)["ok"]
        with Watching(daemon) as watching:
            daemon.configure(refused)
            daemon.send_signal(signal.SIGHUP)
            line = watching.next()
            (warning,) = line["warnings"]
            assert (line["event"], line["pools"]["general"]["total_available_cpus"]) == ("machine", 2)
            assert f"settings file {daemon.settings_path}" in warning
            assert "after a restart no CPUs" in warning
            assert daemon.ok("list_allocations")["warnings"] == [warning]
            assert (status(daemon)["ok"], status(daemon)["problems"]) == (False, [warning])
            daemon.configure({"cpu-pool": "0"})
            daemon.send_signal(signal.SIGHUP)
            while "warnings" in watching.next():
                pass
        assert "warnings" not in daemon.ok("list_allocations")
        assert status(daemon)["ok"]


@pytest.mark.parametrize("how", ["empty object", "no variable", "every default"])
def test_missing_settings_are_the_defaults(how: str) -> None:
    with Daemon() as daemon:
        if how == "no variable":
            del daemon.environment["EPA_SETTINGS"]
        elif how == "every default":
            daemon.configure(
                {
                    "isolated-cpus-from": "isolcpus",
                    "nohz-full": "same",
                    "owner-cgroups": "openstack-hypervisor=machine.slice",
                    "cpu-pool": "",
                    "reserved-cpus": "",
                    "numa-policy": "best-effort",
                    "numa-allocation-strategy": "packed",
                    "prefer-closest-numa-nodes": True,
                    "uncore-cache-alignment": "prefer",
                    "cpu-thread-policy": "prefer",
                    "cpu-distribution": "packed",
                    "prefer-core-type": "none",
                    "numa-reclaim": "if-needed",
                    "resize-policy": "in-place",
                    "default-allocation-percent": 80,
                    "large-system-threshold": 100,
                    "large-system-reserved-cpus": 16,
                    "default-preemption-policy": "legacy",
                    "reserved-hugepages": "",
                    "max-services": 2048,
                    "max-hugepage-records": 8192,
                }
            )
        daemon.start()
        assert len(daemon.cores("svc", 0)) == 9


def test_overlapping_general_pool_grants_nothing() -> None:
    # The isolated CPUs may change with every boot, so the daemon starts; but it grants nothing from such a pool.
    with Daemon(settings={"cpu-pool": "0-1,4"}) as daemon:
        daemon.start()
        assert "cpu-pool" in daemon.log()
        assert daemon.cores("svc", 12) == daemon.host.isolated
        for action, fields in (
            *(("allocate_cores", {"num_of_cores": count}) for count in (0, 1, 100)),
            ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 1}),
            ("allocate_cores_percent", {"percent": 1}),
        ):
            sentence = daemon.refused(action, service_name="host", pool="general", **fields)
            assert sentence.startswith("No CPUs available in pool general: cpu-pool overlaps the isolated CPUs 1")


def test_general_pool_grants_again_after_an_overlap() -> None:
    with Daemon(settings={"cpu-pool": "0-1,4"}) as daemon:
        daemon.start()
        daemon.host.set_isolated(daemon.host.isolated - {1})
        assert daemon.cores("host", 3, pool="general") == {0, 1, 4}
