# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`explain --make-room` shows which claims would move and the commands; a refused `allocate` says how to ask."""

from __future__ import annotations

import json
import shlex
from itertools import chain, repeat
from typing import Any

import pytest

from epa_orchestrator.cli.make_room import command
from epa_orchestrator.protocol.room import RoomRequest
from tests.unit.cli.builders import Command, Daemon, HostileServer

HINT = "To see what is in the way, run: epa-orchestrator explain "


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_of_cores": -1}, "release nova"),
        ({"num_of_cores": -1, "pool": "general"}, "release nova --pool general"),
        ({"num_of_cores": 4, "preemption_policy": "legacy"}, "allocate nova 4 --preemption-policy legacy"),
        ({"num_of_cores": 4, "numa_node": 1}, "allocate nova 4 --numa-node 1"),
        ({"num_of_cores": 4, "near": 0}, "allocate nova 4 --near 0"),
        ({"num_of_cores": 4, "cpu_thread_policy": "isolate"}, "allocate nova 4 --cpu-thread-policy isolate"),
        ({"num_of_cores": 0}, "allocate nova --default-size"),
        ({"percent": 50}, "allocate nova --percent 50"),
        ({"service_name": "my vm", "num_of_cores": 2}, "allocate 'my vm' 2"),
        ({"service_name": "$(reboot)", "num_of_cores": 2}, "allocate '$(reboot)' 2"),
        ({"service_name": "--help", "num_of_cores": 2, "near": 0}, "allocate --near 0 -- --help 2"),
    ],
)
def test_the_command_of_a_request(fields: dict[str, Any], words: str) -> None:
    named = {"action": "allocate_cores", "service_name": "nova", "pool": "isolated"}
    request = RoomRequest.model_validate(named | fields)
    assert command(request) == f"epa-orchestrator {words}"


def make_crowded(daemon: Daemon) -> None:
    """Service a has CPUs 2-4 of cores 2-3, 4-5 and 6-7, b has CPU 6: no core is free."""
    daemon.granted("allocate", "a", "3")
    daemon.granted("allocate", "b", "1")


def test_a_refused_allocate_says_on_a_terminal_how_to_see_what_is_in_the_way(daemon: Daemon) -> None:
    make_crowded(daemon)
    code, _, errors = daemon.on_terminal("allocate", "new", "2", "--cpu-thread-policy", "require")
    assert code == 1
    assert f"{HINT}new 2 --cpu-thread-policy require --make-room" in " ".join(errors.split())


def test_the_hint_names_the_pool_and_the_default_size(daemon: Daemon) -> None:
    daemon.granted("allocate", "a", "1", "--pool", "general")
    _, _, errors = daemon.on_terminal("allocate", "new", "--default-size", "--pool", "general")
    assert f"{HINT}new --default-size --pool general --make-room" in " ".join(errors.split())


def test_a_refusal_of_another_kind_has_no_hint(daemon: Daemon) -> None:
    daemon.granted("allocate", "a", "1", "--preemption-policy", "non-preemptive")
    _, _, errors = daemon.on_terminal("allocate", "a", "1", "--preemption-policy", "legacy")
    assert HINT not in errors


def test_no_hint_names_what_an_older_daemon_cannot_do(offline: Command) -> None:
    server = HostileServer(offline.socket, refuse=True)
    refusals = chain(["Insufficient CPUs available. Requested: 2, Available: 1"], repeat("No listing"))
    server.handler = lambda connection: connection.sendall(
        json.dumps({"version": "1.0", "error": next(refusals)}).encode()
    )
    try:
        code, _, errors = offline.on_terminal("allocate", "new", "2", "--take")
    finally:
        server.stop()
    assert (code, errors) == (1, "epa-orchestrator: Insufficient CPUs available. Requested: 2, Available: 1\n")


def test_a_script_gets_the_refusal_alone(daemon: Daemon) -> None:
    assert daemon.failure(1, "allocate", "new", "7") == "Insufficient CPUs available. Requested: 7, Available: 6"


def test_the_plan_is_a_table_and_commands_that_work(daemon: Daemon) -> None:
    make_crowded(daemon)
    shown = daemon.run("explain", "new", "2", "--cpu-thread-policy", "require", "--make-room")
    assert shown.exit_code == 1
    lines = shown.stdout.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("SERVICE"))
    assert lines[begin].split() == ["SERVICE", "FROM", "TO", "NUMA", "NODES", "PREEMPTION"]
    assert lines[begin + 1].split()[0] == "b"
    assert any(line.startswith("Moving 1 claim makes room. The request would get CPUs ") for line in lines)
    commands = [shlex.split(line) for line in lines if line.startswith("  epa-orchestrator ")]
    assert [each[1:3] for each in commands] == [["release", "b"], ["allocate", "new"], ["allocate", "b"]]
    for each in commands:
        assert daemon.run(*each[1:]).exit_code == 0


def test_json_has_the_plan_next_to_the_error(daemon: Daemon) -> None:
    make_crowded(daemon)
    shown = daemon.run("explain", "new", "2", "--cpu-thread-policy", "require", "--make-room", "--json")
    assert shown.exit_code == 1
    assert '"make_room": {' in shown.stdout
    assert '"from": ' in shown.stdout


def test_no_plan_says_why(daemon: Daemon) -> None:
    daemon.granted("allocate", "a", "4")
    shown = daemon.run("explain", "new", "3", "--make-room")
    assert shown.exit_code == 1
    assert shown.stdout.splitlines()[-1] == (
        "No moving makes room: pool isolated has 6 eligible CPUs, and other services hold 4 of them, so 3 are not left,"
        " whichever they hold: release a claim, or ask for at most 2"
    )


def test_a_request_that_is_granted_is_explained(daemon: Daemon) -> None:
    shown = daemon.run("explain", "new", "2", "--make-room")
    assert shown.exit_code == 0
    assert "new would get CPUs" in shown.stdout
