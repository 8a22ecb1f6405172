# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The snap and the charm that are packed for arm64, on a kernel for arm64.

The tests run in order: each continues from the machine as the test before left it.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

import pytest

from tests.architectures.bare import BareMachine
from tools.packing import ROOT, document

SNAP: Final = "/job/snap"
PLACES: Final = {"SNAP": SNAP, "SNAP_DATA": "/run/epa/current", "SNAP_COMMON": "/run/epa/common"}
SOCKET: Final = f"{PLACES['SNAP_DATA']}/data/epa.sock"
PROGRAM: Final = f"{SNAP}/bin/epa-orchestrator"
LOG: Final = "/run/daemon.log"


def environment() -> dict[str, str]:
    """The environment of the snap's programs: snapd's variables, and those of snapcraft.yaml."""
    variables: dict[str, str] = dict(PLACES)
    for name, value in document(ROOT / "snap" / "snapcraft.yaml")["environment"].items():
        for place in sorted(PLACES, key=len, reverse=True):
            value = value.replace(f"${place}", PLACES[place])
        variables[name] = value
    return variables


def command(machine: BareMachine, *words: str) -> str:
    """The output of the snap's command line."""
    return machine.run(PROGRAM, *words, env=environment(), timeout=120).out


def ask(machine: BareMachine, **request: Any) -> dict[str, Any]:
    """Send a request over the socket, as the shipped clients do, with Python alone."""
    program = (
        "import socket, sys; c = socket.socket(socket.AF_UNIX); c.settimeout(90); c.connect(sys.argv[1]);"
        " c.sendall(sys.argv[2].encode()); print(c.makefile().read())"
    )
    return json.loads(machine.run("python3", "-S", "-c", program, SOCKET, json.dumps(request), timeout=120).out)


def serve(machine: BareMachine) -> str:
    """Start the daemon, wait until it serves, and return its process id."""
    script = f"{PROGRAM} serve >{LOG} 2>&1 </dev/null & echo $!"
    pid = machine.run("sh", "-c", script, env=environment()).out.strip()
    deadline = time.monotonic() + 120
    while machine.run("grep", "-q", "serving at", LOG, check=False).rc:
        assert time.monotonic() < deadline, machine.run("cat", LOG).out
        time.sleep(1)
    return pid


@pytest.fixture(scope="module")
def found(machine: BareMachine) -> dict[str, Any]:
    """The machine as the command line shows it."""
    return json.loads(command(machine, "machine", "--json"))


@pytest.fixture(scope="module")
def daemon(machine: BareMachine) -> str:
    """The process id of the daemon, started after the snap's install hook; snapctl knows no options."""
    machine.put("/usr/bin/snapctl", b"#!/bin/sh\necho '{}'\n", 0o755)
    machine.run("mkdir", "-p", f"{PLACES['SNAP_DATA']}/data", PLACES["SNAP_COMMON"])
    machine.run(f"{SNAP}/meta/hooks/install", env=environment(), timeout=120)
    return serve(machine)


def test_kernel_and_python_are_for_arm64(machine: BareMachine) -> None:
    assert machine.run("uname", "-m").out == "aarch64\n"
    assert machine.run("python3", "--version").out.startswith("Python 3.13.")


def test_machine_shows_the_cpus_of_the_kernel(found: dict[str, Any]) -> None:
    assert (found["present"], found["online"], found["isolated"]) == ("0-15", "0-15", "4-7,12-15")


def test_machine_shows_packages_and_cores(found: dict[str, Any]) -> None:
    assert [package["cpus"] for package in found["packages"]] == ["0-7", "8-15"]
    assert [core["cpus"] for core in found["cores"]] == [f"{cpu}-{cpu + 1}" for cpu in range(0, 16, 2)]


def test_machine_shows_numa_nodes_and_their_distances(found: dict[str, Any]) -> None:
    nodes = [(node["id"], node["cpus"], node["distances"]) for node in found["nodes"]]
    assert nodes == [(0, "0-7", [10, 20]), (1, "8-15", [20, 10])]


def test_machine_shows_the_hugepage_sizes_of_arm64(found: dict[str, Any]) -> None:
    for node in found["nodes"]:
        pages = {size["size_kb"]: size["total"] for size in node["hugepages"]}
        assert pages == {64: 0, 2048: 16, 32768: 0, 1048576: 0}


def test_serve_answers(machine: BareMachine, daemon: str) -> None:
    listing = ask(machine, action="list_allocations")
    assert listing["cpu_pool"]["eligible_cpus"] == "4-7,12-15"
    assert listing["total_available_cpus"] == 8


def test_allocation_takes_whole_cores(machine: BareMachine, daemon: str) -> None:
    answer = ask(machine, action="allocate_cores", service_name="ovs", num_of_cores=2)
    assert answer["allocated_cores"] == "4-5"
    assert answer["remaining_available_cpus"] == 6


def test_numa_allocation_takes_cpus_of_that_node(machine: BareMachine, daemon: str) -> None:
    answer = ask(machine, action="allocate_numa_cores", service_name="nova", numa_node=1, num_of_cores=3)
    assert answer["cores_allocated"] == "12-14"


def test_hugepages_are_recorded(machine: BareMachine, daemon: str) -> None:
    request = {"action": "allocate_hugepages", "service_name": "nova", "node_id": 1, "size_kb": 2048}
    assert ask(machine, **request, hugepages_requested=10)["allocation_successful"] is True
    refused = ask(machine, **request, hugepages_requested=17)
    assert "NUMA node 1" in refused["error"]


def test_command_line_lists_the_claims(machine: BareMachine, daemon: str) -> None:
    listing = json.loads(command(machine, "list", "--json"))
    claims = {claim["service_name"]: claim["allocated_cores"] for claim in listing["allocations"]}
    assert claims == {"ovs": "4-5", "nova": "12-14"}


def test_offline_cpu_is_not_granted(machine: BareMachine, daemon: str) -> None:
    machine.run("sh", "-c", "echo 0 >/sys/devices/system/cpu/cpu15/online")
    listing = ask(machine, action="list_allocations")
    assert listing["cpu_pool"]["eligible_cpus"] == "4-7,12-14"
    machine.run("sh", "-c", "echo 1 >/sys/devices/system/cpu/cpu15/online")
    assert ask(machine, action="list_allocations")["cpu_pool"]["eligible_cpus"] == "4-7,12-15"


def test_killed_daemon_starts_with_its_claims(machine: BareMachine, daemon: str) -> None:
    machine.run("kill", "-9", daemon)
    serve(machine)
    assert ask(machine, action="list_allocations")["total_allocated_cpus"] == 5


def test_packages_of_the_charm_are_imported(machine: BareMachine) -> None:
    packages = "/job/charm/venv/lib/python3.13/site-packages"
    path = {"PYTHONPATH": f"/job/charm/lib:/job/charm/src:{packages}"}
    machine.run("python3", "-W", "ignore", "-c", "import charm, pydantic_core, yaml._yaml", env=path, timeout=300)
