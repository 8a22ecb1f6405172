# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The strictly confined snap without any plug connected, with the plug for the NUMA nodes alone, and with all.

The tests run in order: each continues from the machine as the test before left it.
"""

from __future__ import annotations

import json
from typing import Any

from epa_orchestrator.isolation.findings import CHECKS
from tests.machine.host import ISOLATED, SERVICE, SNAP, ask, claims, connection, purge
from tests.machine.machine import Machine

PLUGS = ("sys-devices-system-node", "topology", "isolation", "system-observe")


def totals(machine: Machine) -> dict[str, Any]:
    """The number of hugepages of each node, by size (KiB)."""
    nodes = ask(machine, action="get_memory_info")["numa_hugepages"]
    return {
        node: {size["size"]: size["total"] for size in pages["capacity"] if size["total"]}
        for node, pages in nodes.items()
    }


def test_installed_snap_has_no_plug_connected(machine: Machine) -> None:
    purge(machine, SNAP)
    machine.run("snap", "install", "--dangerous", "/job/newer.snap", timeout=900)
    assert [connection(machine, f"{SNAP}:{plug}") for plug in PLUGS] == ["-"] * len(PLUGS)


def test_daemon_without_plugs_offers_the_isolated_cpus(machine: Machine) -> None:
    assert ask(machine, action="list_allocations")["cpu_pool"]["eligible_cpus"] == ISOLATED


def test_apparmor_hides_the_hugepages_but_not_the_cpus_of_a_node(machine: Machine) -> None:
    """snapd 2.68 lets a strict snap list all directories of /sys/devices; earlier releases do not."""
    node = "/sys/devices/system/node/node1"
    shell = ("snap", "run", "--shell", SNAP, "-c")
    refused = machine.run(*shell, f"cat {node}/hugepages/hugepages-2048kB/nr_hugepages", timeout=600, check=False)
    assert refused.rc != 0
    assert "Permission denied" in refused.err
    assert machine.run(*shell, f"cat {node}/cpulist", timeout=600).out == "8-15\n"


def test_daemon_without_plugs_knows_the_nodes_of_the_cpus(machine: Machine) -> None:
    answers = [
        ask(machine, action="allocate_numa_cores", service_name=f"on-{node}", numa_node=node, num_of_cores=2)
        for node in (0, 1)
    ]
    assert [answer["cores_allocated"] for answer in answers] == ["4-5", "12-13"]
    assert claims(machine) == {"on-0": "4-5", "on-1": "12-13"}


def test_daemon_without_plugs_keeps_cores_whole(machine: Machine) -> None:
    answer = ask(machine, action="allocate_cores", service_name="whole", num_of_cores=2)
    assert answer["allocated_cores"] == "6-7"


def test_daemon_without_plugs_warns_about_the_hugepages(machine: Machine) -> None:
    assert totals(machine) == {"node0": {}, "node1": {}}
    warnings = ask(machine, action="list_allocations")["warnings"]
    assert any("hugepages of NUMA nodes 0-1 cannot be read" in warning for warning in warnings)


def audit(machine: Machine) -> dict[str, dict[str, str]]:
    """The results of the audit that root runs in the snap's confinement, by check."""
    done = machine.run("snap", "run", SNAP, "audit", "--json", timeout=600, check=False)
    return {check["id"]: check for check in json.loads(done.out)["checks"]}


def test_audit_without_plugs_says_which_plug_it_needs(machine: Machine) -> None:
    found = audit(machine)
    assert list(found) == list(CHECKS)
    denied = {name: check for name, check in found.items() if "which the snap may not read" in check["seen"]}
    assert all(check["result"] == "not-checked" for check in denied.values())
    remedies = {name: check["seen"].partition("which the snap may not read: ")[2] for name, check in denied.items()}
    connect = f"run: sudo snap connect {SNAP}:"
    assert remedies["D1"] == f"{connect}isolation"
    assert remedies["B6"] == f"{connect}isolation"
    assert remedies["A6"] == "run the charm's action audit-isolation"
    ways = (*(f"{connect}{plug}" for plug in PLUGS), "run the charm's action audit-isolation")
    assert all(remedy.startswith(ways) for remedy in remedies.values())


def test_audit_without_plugs_checks_what_every_snap_may_read(machine: Machine) -> None:
    found = audit(machine)
    assert {name for name in ("A1", "A2", "A3", "A4") if found[name]["result"] == "not-checked"} == set()


def test_plug_of_the_nodes_shows_their_hugepages(machine: Machine) -> None:
    machine.run("snap", "connect", f"{SNAP}:{PLUGS[0]}", timeout=600)
    machine.run("systemctl", "restart", SERVICE, timeout=600)
    assert totals(machine) == {"node0": {2048: 64}, "node1": {2048: 64}}


def test_audit_with_its_plugs_lacks_only_what_no_plug_shows(machine: Machine) -> None:
    for plug in PLUGS[1:]:
        machine.run("snap", "connect", f"{SNAP}:{plug}", timeout=600)
    machine.run("systemctl", "restart", SERVICE, timeout=600)
    found = audit(machine)
    assert {name for name in ("B1", "B4", "B6", "C4", "D1", "F5") if found[name]["result"] == "not-checked"} == set()
    assert [name for name, check in found.items() if f"snap connect {SNAP}" in check["seen"]] == []


def test_claims_stay_when_the_plug_is_connected(machine: Machine) -> None:
    assert claims(machine) == {"on-0": "4-5", "on-1": "12-13", "whole": "6-7"}
    purge(machine, SNAP)
