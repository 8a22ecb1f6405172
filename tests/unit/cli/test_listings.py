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
        "notes": [],
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
                "not_usable_cpus": "",
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
                "not_usable_cpus": "",
            },
        },
        "nodes": [
            {"id": 0, "cpus": 8, "claimed": 2, "free": 5, "withheld": 0, "unavailable": 0, "not_usable": 0}
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
    same = {"Pool": "isolated", "Nodes": "0", "L3": "1", "Packages": "1", "Shared": "0"}
    same |= {"Withheld": "", "Unavailable": ""}
    assert table(daemon.run("list").stdout) == [
        {"Service": "ceph", "CPUs": "4", "Count": "1", "By node": "yes", "Preemption": "non-preemptive", **same},
        {"Service": "nova", "CPUs": "2-3", "Count": "2", "By node": "no", "Preemption": "legacy", **same},
    ]


def test_program_gets_rows_alone_and_the_totals_are_on_stderr(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    listed = daemon.run("list")
    assert len(listed.stdout.splitlines()) == 2
    assert listed.stderr.splitlines() == [
        "Pool isolated: 6 CPUs = 2 claimed + 4 free + 0 withheld",
        "Pool general: 1 CPU = 0 claimed + 1 free + 0 withheld",
    ]


@pytest.mark.parametrize("arguments", [(), ("-o", "wide"), ("--pool", "general"), ("nothing",)])
def test_program_gets_the_same_columns_from_an_empty_list(arguments: tuple[str, ...], daemon: Daemon) -> None:
    empty = daemon.run("list", *arguments).stdout
    daemon.run("allocate", "nova", "2", "--cpu-thread-policy", "isolate")
    assert empty.split() == daemon.run("list").stdout.splitlines()[0].split()


@pytest.mark.parametrize("output", ["wide", "json", "name", "csv"])
def test_cpu_that_the_host_does_not_have_is_refused(output: str, daemon: Daemon) -> None:
    sentence = daemon.failure(1, "list", "--cpu", "999", "-o", output, *(["--json"] if output == "json" else []))
    assert sentence == "This host has no CPU 999: its CPUs are 0-7"


def test_cpu_without_a_claim_is_an_empty_list(daemon: Daemon) -> None:
    listed = daemon.run("list", "--cpu", "0", "-o", "name")
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", "no claim matches\n")


def test_unknown_name_gets_the_name_that_was_probably_meant(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    listed = daemon.run("list", "nvoa", "-o", "name")
    assert (listed.exit_code, listed.stderr) == (0, "no claim matches; did you mean 'nova'?\n")


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
    assert "warning" not in warned.run("list").output
    assert warned.json("list")["warnings"] == warned.json("status")["warnings"]


def test_list_shows_withheld_cpus(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2", "--cpu-thread-policy", "isolate")
    listed = daemon.run("list")
    (row,) = table(listed.stdout)
    assert (row["CPUs"], row["Withheld"]) == ("2,4", "3,5")
    assert "Pool isolated: 6 CPUs = 2 claimed + 2 free + 2 withheld" in listed.stderr
    assert daemon.json("list")["allocations"][0]["withheld_cpus"] == "3,5"
    assert "2,4 (withholds 3,5)" in daemon.text("history", "--limit", "1")


def test_list_by_name_says_what_a_service_with_hugepages_only_holds(daemon: Daemon) -> None:
    daemon.run("allocate", "vm-1", "2")
    daemon.run("hugepages", "vm-2", "--count", "3")
    rows = daemon.run("list", "vm-1").stdout
    assert daemon.run("list", "vm-2").stderr.splitlines()[-1] == "'vm-2' holds hugepages only: 3 x 2M on NUMA node 0"
    both = daemon.run("list", "vm-*")
    assert both.stdout == rows
    assert both.stderr.splitlines()[-1].startswith("'vm-2' holds hugepages only: ")


def test_list_in_json_is_the_listing_also_for_a_service_with_hugepages_only(daemon: Daemon) -> None:
    daemon.run("hugepages", "vm-2", "--count", "3")
    listed = daemon.run("list", "vm-2", "--json")
    assert json.loads(listed.stdout)["allocations"] == []
    assert listed.stderr == "'vm-2' holds hugepages only: 3 x 2M on NUMA node 0\n"


def test_a_service_with_cpus_in_the_other_pool_holds_more_than_hugepages(daemon: Daemon) -> None:
    daemon.run("allocate", "vm-1", "2")
    daemon.run("hugepages", "vm-1", "--count", "3")
    assert daemon.run("list", "vm-1", "--pool", "general").stderr.splitlines()[-1] == "no claim matches"


def test_a_service_with_hugepages_only_may_have_been_meant(daemon: Daemon) -> None:
    daemon.run("hugepages", "ovs-dpdk", "--count", "3")
    assert daemon.run("list", "ovs-dpkd").stderr.splitlines()[-1] == "no claim matches; did you mean 'ovs-dpdk'?"


def test_status_counts_services_with_hugepages_only(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    daemon.run("hugepages", "hp", "--count", "3")
    assert "1 service, 1 more with hugepages only" in daemon.text("status").splitlines()
