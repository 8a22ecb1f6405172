# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What the tests look at in the machine: the daemon's answers, the installed snaps and their connections."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.machine.machine import Machine

SNAP: Final = "epa-orchestrator"
SERVICE: Final = f"snap.{SNAP}.daemon.service"
#: The snap of examples/consumer-snap, under the name of the hypervisor.
CONSUMER: Final = "openstack-hypervisor"
CONSUMER_APP: Final = "epa-consumer"
SOCKET: Final = f"/var/snap/{SNAP}/current/data/epa.sock"
ISOLATED: Final = "4-7,12-15"


def ask(machine: Machine, **request: Any) -> dict[str, Any]:
    """Send a request from the host."""
    program = (
        "import socket, sys; c = socket.socket(socket.AF_UNIX); c.settimeout(300); c.connect(sys.argv[1]);"
        " c.sendall(sys.argv[2].encode()); print(c.makefile().read())"
    )
    return json.loads(machine.run("python3", "-c", program, SOCKET, json.dumps(request), timeout=600).out)


def claims(machine: Machine) -> dict[str, str]:
    """The CPUs of each service."""
    listing = ask(machine, action="list_allocations")
    return {claim["service_name"]: claim["allocated_cores"] for claim in listing["allocations"]}


def active(machine: Machine) -> tuple[str, str]:
    """The status of a unit with which nothing is wrong, for the claims that there are."""
    listing = ask(machine, action="list_allocations")
    if not (services := listing["total_allocations"]):
        return "active", ""
    free, total = listing["remaining_available_cpus"], listing["total_available_cpus"]
    return "active", f"{free} of {total} CPUs free, {services} service{'s' * (services != 1)}"


def from_inside(machine: Machine, *words: str) -> list[str]:
    """The lines that the program of the consumer snap prints, in its own confinement."""
    return machine.run(f"/snap/bin/{CONSUMER}.{CONSUMER_APP}", *words, timeout=600).out.splitlines()


def daemon_pid(machine: Machine) -> int:
    return int(machine.run("systemctl", "show", "-P", "MainPID", SERVICE).out)


def snap_row(machine: Machine, name: str = SNAP) -> list[str]:
    """The snap's row of `snap list`: name, version, revision, tracking, publisher, notes."""
    return next(line.split() for line in machine.run("snap", "list").out.splitlines() if line.startswith(f"{name} "))


def connection(machine: Machine, plug: str) -> str:
    """The slot that a plug is connected to, as in `snap connections`."""
    rows = [line.split() for line in machine.run("snap", "connections", SNAP).out.splitlines()]
    return next((row[2] for row in rows if row[1] == plug), "-")


def option(machine: Machine, name: str) -> Any:
    return json.loads(machine.run("snap", "get", "-d", SNAP).out).get(name)


def purge(machine: Machine, name: str) -> None:
    """Remove a snap with its data, if it is installed."""
    machine.run("snap", "remove", "--purge", name, timeout=900)
