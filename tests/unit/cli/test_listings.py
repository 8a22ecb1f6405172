# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`status` and `list` show the pools and claims of a daemon, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from epa_orchestrator import __version__
from epa_orchestrator.protocol.answers import FEATURES
from tests.unit.cli.builders import Daemon, table


def test_status(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    daemon.run("allocate", "ovs", "1", "--pool", "general")
    text = daemon.text("status")
    verdict, place, *_ = text.splitlines()
    assert verdict.startswith("epa-orchestrator ")
    assert verdict.endswith(": all is well")
    assert place == f"serving at {daemon.socket}"
    assert table(text) == [
        {"Pool": "isolated", "CPUs": "6", "Claimed": "2", "Free": "4", "Withheld": "0", "Services": "1"}
        | {"Cpu list": "2-7"},
        {"Pool": "general", "CPUs": "1", "Claimed": "1", "Free": "0", "Withheld": "0", "Services": "1"}
        | {"Cpu list": "1"},
    ]


def test_status_json(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    features = list(FEATURES)
    assert daemon.json("status") == {
        "ok": True,
        "daemon_version": __version__,
        "socket": str(daemon.socket),
        "problems": [],
        "pools": {
            "isolated": {
                "supported_cpu_features": features,
                "pool": "isolated",
                "total_allocations": 1,
                "total_allocated_cpus": 2,
                "total_available_cpus": 6,
                "remaining_available_cpus": 4,
                "cpu_pool": {
                    "source": "isolated",
                    "configured_cpus": "2-7",
                    "eligible_cpus": "2-7",
                    "unavailable_allocated_cpus": "",
                },
                "outdated_placements": [],
                "total_withheld_cpus": 0,
            },
            "general": {
                "supported_cpu_features": features,
                "pool": "general",
                "total_allocations": 0,
                "total_allocated_cpus": 0,
                "total_available_cpus": 1,
                "remaining_available_cpus": 1,
                "cpu_pool": {
                    "source": "configured",
                    "configured_cpus": "1",
                    "eligible_cpus": "1",
                    "unavailable_allocated_cpus": "",
                },
                "outdated_placements": [],
                "total_withheld_cpus": 0,
            },
        },
        "nodes": [
            {"id": 0, "cpus": 8, "claimed": 2, "free": 5, "withheld": 0, "unavailable": 0}
            | {
                "hugepages": [
                    {"size_kb": 2048, "total": 2048, "free": 2048},
                    {"size_kb": 1048576, "total": 0, "free": 0},
                ]
            }
        ],
    }


def test_status_of_a_read_only_daemon(read_only: Daemon) -> None:
    """Exit code 4, the usual text on stdout, and the reason on stderr as one printable line."""
    result = read_only.run("status")
    assert result.exit_code == 4
    assert result.stdout.splitlines()[0].endswith(": 1 problem, see below")
    assert result.stdout.splitlines()[-1] == f"warning: {result.stderr.rstrip()}"
    reason = result.stderr[:-1]
    assert reason.startswith("READ-ONLY: ")
    assert str(read_only.base / "data" / "data" / "state.json") in reason
    assert reason.isprintable()
    as_json = read_only.run("status", "--json")
    assert as_json.exit_code == 4
    document = json.loads(as_json.stdout)
    assert f"READ-ONLY: {document['state_error']}" == reason
    assert list(document["pools"]) == ["isolated"]


def test_list(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    daemon.run("allocate", "ceph", "1", "--numa-node", "0", "--preemption-policy", "non-preemptive")
    text = daemon.text("list")
    assert table(text) == [
        {"Service": "ceph", "Pool": "isolated", "CPUs": "4", "Count": "1", "Nodes": "0", "L3": "1", "Shared": "0"}
        | {"By node": "yes", "Preemption": "non-preemptive"},
        {"Service": "nova", "Pool": "isolated", "CPUs": "2-3", "Count": "2", "Nodes": "0", "L3": "1", "Shared": "0"}
        | {"By node": "no", "Preemption": "legacy"},
    ]
    assert "Pool isolated: 6 CPUs = 3 claimed + 3 free + 0 withheld" in text


def test_list_json(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    document = daemon.json("list")
    assert "state_error" not in document
    assert document["version"] == "1.0"
    assert document["allocations"] == [
        {
            "service_name": "nova",
            "pool": "isolated",
            "allocated_cores": "2-3",
            "cores_count": 2,
            "is_explicit": False,
            "preemption_policy": "legacy",
        }
    ]
    general = daemon.json("list", "--pool", "general")
    assert (general["pool"], general["allocations"]) == ("general", [])


@pytest.fixture(scope="module")
def warned() -> Iterator[Daemon]:
    """A daemon whose settings give its listings a warning."""
    made = Daemon({"cpu-pool": "900"})
    yield made
    made.stop()


def test_status_shows_each_warning_on_its_own_line(warned: Daemon) -> None:
    """Warnings do not change the exit code."""
    warnings = [line for line in warned.text("status").splitlines() if line.startswith("warning: ")]
    assert any("cpu-pool names CPUs 900" in warning for warning in warnings)


def test_status_json_has_the_warnings_once(warned: Daemon) -> None:
    document = warned.json("status")
    assert document["warnings"] == list(dict.fromkeys(document["warnings"]))
    assert any("cpu-pool names CPUs 900" in warning for warning in document["warnings"])
    assert all("warnings" not in pool for pool in document["pools"].values())


def test_list_leaves_warnings_to_status(warned: Daemon) -> None:
    assert "warning" not in warned.text("list")
    assert warned.json("list")["warnings"] == warned.json("status")["warnings"]


def test_list_shows_withheld_cpus(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2", "--cpu-thread-policy", "isolate")
    (row,) = table(daemon.text("list"))
    assert (row["CPUs"], row["Withheld"]) == ("2,4", "3,5")
    assert "Pool isolated: 6 CPUs = 2 claimed + 2 free + 2 withheld" in daemon.text("list")
    assert daemon.json("list")["allocations"][0]["withheld_cpus"] == "3,5"
    assert "2,4 (withholds 3,5)" in daemon.text("history", "--limit", "1")
