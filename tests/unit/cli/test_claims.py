# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`allocate` and `explain` send the options as fields, and show the answer as text and as JSON."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.builders import Command, Daemon, HostileServer, rows


@pytest.mark.parametrize("pool", ["shared", "Isolated", " "])
@pytest.mark.parametrize(
    "command", [["list"], ["allocate", "a", "1"], ["allocate", "a", "--percent", "1"], ["release", "a"]]
)
def test_unknown_pool_is_wrong_use(command: list[str], pool: str, daemon: Daemon) -> None:
    sentence = f"Invalid value for '--pool': '{pool}' is not one of isolated, general"
    assert sentence in daemon.misuse(*command, "--pool", pool)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["2"], ("2-3", "4 of 6 CPUs still free")),
        (["--default-size"], ("2-5", "2 of 6 CPUs still free")),
        (["6"], ("2-7", "0 of 6 CPUs still free")),
        (["--percent", "100"], ("2-7", "0 of 6 CPUs still free")),
        (["--percent", "20"], ("2-3", "4 of 6 CPUs still free")),
        (["2", "--numa-node", "0"], ("2-3", "4 of 6 CPUs still free")),
        (["1", "--pool", "general"], ("1", "0 of 1 CPU still free")),
    ],
)
def test_allocate(arguments: list[str], lines: tuple[str, str], daemon: Daemon) -> None:
    assert daemon.granted("allocate", "nova", *arguments) == lines
    assert daemon.granted("allocate", "nova", *arguments) == lines, "a repeated request changes nothing"


def test_allocate_json(daemon: Daemon) -> None:
    common: dict[str, Any] = {
        "version": "1.0",
        "service_name": "nova",
        "total_available_cpus": 6,
        "remaining_available_cpus": 4,
        "pool": "isolated",
        "preemption_policy": "legacy",
    }
    placement = {
        "numa_nodes": "0",
        "packages": 1,
        "l3_domains": 1,
        "whole_cores": 1,
        "shared_cores": 0,
        "withheld_cpus": "",
    }
    common["placement"] = placement
    assert daemon.json("allocate", "nova", "2") == common | {
        "num_of_cores": 2,
        "cores_allocated": 2,
        "allocated_cores": "2-3",
        "shared_cpus": "4-7",
    }
    assert daemon.json("allocate", "nova", "--percent", "33") == common | {
        "cores_allocated_count": 2,
        "allocated_cores": "2-3",
    }
    assert daemon.json("allocate", "nova", "2", "--numa-node", "0") == common | {
        "numa_node": 0,
        "num_of_cores": 2,
        "cores_allocated": "2-3",
    }


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["2"], ("2-3", "4 of 6 CPUs would still be free; dry run: nothing was changed")),
        (["--default-size"], ("2-5", "2 of 6 CPUs would still be free; dry run: nothing was changed")),
        (["--percent", "100"], ("2-7", "0 of 6 CPUs would still be free; dry run: nothing was changed")),
        (["2", "--numa-node", "0"], ("2-3", "4 of 6 CPUs would still be free; dry run: nothing was changed")),
        (["1", "--pool", "general"], ("1", "0 of 1 CPU would still be free; dry run: nothing was changed")),
    ],
)
def test_dry_run_changes_nothing(arguments: list[str], lines: tuple[str, str], daemon: Daemon) -> None:
    before = daemon.json("history")
    assert daemon.granted("allocate", "nova", *arguments, "--dry-run") == lines
    dry = daemon.json("allocate", "nova", *arguments, "--dry-run")
    assert daemon.json("list")["allocations"] == daemon.json("list", "--pool", "general")["allocations"] == []
    assert daemon.json("history") == before
    assert dry == daemon.json("allocate", "nova", *arguments) | {"dry_run": True}


def test_dry_run_is_refused_like_the_request(daemon: Daemon) -> None:
    assert "Requested: 7, Available: 6" in daemon.failure(1, "allocate", "nova", "7", "--dry-run")


def test_older_daemon_gets_no_dry_run() -> None:
    """It would ignore the field and allocate."""
    with tempfile.TemporaryDirectory() as directory:
        command = Command(Path(directory))
        older = HostileServer(command.socket, escapes="", features=["cpu-pools"])
        try:
            results = [command.run(*each) for each in (["allocate", "a", "1", "--dry-run"], ["explain", "a", "1"])]
        finally:
            older.stop()
    for result in results:
        assert (result.exit_code, result.stdout) == (1, "")
        assert "would really allocate" in result.stderr
    assert {request["action"] for request in older.requests} == {"list_allocations"}


def test_older_daemon_gets_no_request_without_take() -> None:
    """It would ignore the field `may_take`, and take CPUs of others."""
    with tempfile.TemporaryDirectory() as directory:
        command = Command(Path(directory))
        older = HostileServer(command.socket, escapes="", features=["dry-run"])
        try:
            sentence = command.failure(1, "allocate", "a", "1")
            asked = [request["action"] for request in older.requests]
            command.run("allocate", "a", "1", "--take")
        finally:
            older.stop()
    assert sentence == (
        "This daemon is older than this command and cannot say whose CPUs it would take: upgrade the daemon, or add"
        " --take to allow it"
    )
    assert asked == ["list_allocations"]
    assert older.requests[-1]["action"] == "allocate_cores"


@pytest.mark.parametrize("command", ["allocate", "explain"])
@pytest.mark.parametrize(
    ("option", "value", "cpus"),
    [
        ("--numa-policy", "single-numa-node", "2-3"),
        ("--cpu-thread-policy", "isolate", "2,4"),
        ("--cpu-thread-policy", "require", "2-3"),
        ("--uncore-cache-alignment", "require", "2-3"),
        ("--near", "0", "2-3"),
    ],
)
def test_wishes(command: str, option: str, value: str, cpus: str, daemon: Daemon) -> None:
    assert daemon.json(command, "nova", "2", option, value)["allocated_cores"] == cpus


@pytest.mark.parametrize("command", ["allocate", "explain"])
@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--near", "1", "near=1: NUMA node 1 does not exist"),  # a number is a NUMA node, not the name of an interface
        ("--near", "eth9", "near=eth9: the network interface does not exist"),
        ("--near", "0000:3b:00.0", "near=0000:3b:00.0: this machine shows no PCI device 0000:3b:00.0"),
        ("--near", "-1", "near=-1: the network interface does not exist"),
    ],
)
def test_invalid_wishes_are_refused(command: str, option: str, value: str, sentence: str, daemon: Daemon) -> None:
    assert daemon.failure(1, command, "nova", "2", option, value).startswith(sentence)
    assert daemon.json("list")["allocations"] == []


@pytest.mark.parametrize("command", ["allocate", "explain"])
@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--near", "a/b", "must be a NUMA node, a PCI address or a network interface, not 'a/b'"),
        ("--near", "9" * 5000, "must be a NUMA node, a PCI address or a network interface, not '999"),
        ("--near", "..", "must be a NUMA node, a PCI address or a network interface, not '..'"),
        ("--numa-policy", "single", "'single' is not one of best-effort, none, restricted, single-numa-node"),
        ("--cpu-thread-policy", "", "'' is not one of prefer, share, require, isolate"),
        ("--cpu-thread-policy", "isolated", "; did you mean 'isolate'?"),
        ("--uncore-cache-alignment", "None", "; did you mean 'none'?"),
        ("--preemption-policy", "non-preempt", "; did you mean 'non-preemptive'?"),
        (
            "--pool",
            "is\x1b[2Jolated\n",
            "'is\ufffd[2Jolated\ufffd' is not one of",
        ),
    ],
    ids=lambda each: ascii(each[:20]),
)
def test_wrong_value_is_wrong_use_of_that_option(
    command: str, option: str, value: str, sentence: str, offline: Command
) -> None:
    error = offline.misuse(command, "nova", "2", option, value)
    assert f"Invalid value for '{option}': " in error
    assert sentence in error


@pytest.mark.parametrize("arguments", [["2"], ["--percent", "30"], ["2", "--numa-node", "0"]])
def test_allocate_with_a_preemption_policy(arguments: list[str], daemon: Daemon) -> None:
    for policy in ("legacy", "non-preemptive"):
        answer = daemon.json("allocate", "nova", *arguments, "--preemption-policy", policy)
        assert answer["preemption_policy"] == policy
    sentence = daemon.failure(1, "allocate", "nova", *arguments, "--preemption-policy", "legacy")
    assert "release its CPUs before it goes back to legacy" in sentence


@pytest.mark.parametrize(
    "name", ["", "x" * 256, "x" * 10_000, "a\nb", "\x1b[31mred", "\u202egnp", "a\udcff"], ids=ascii
)
@pytest.mark.parametrize("command", [["allocate", "1"], ["release"], ["hugepages", "--count", "1"]])
def test_impossible_service_name_is_wrong_use(command: list[str], name: str, offline: Command) -> None:
    error = offline.misuse(command[0], name, *command[1:])
    assert "Invalid value for 'SERVICE': " in error
    assert all(line.isprintable() for line in error.splitlines())


@pytest.mark.parametrize("name", [" nova", "nova ", "a\u115fb"])
def test_name_that_the_daemon_does_not_accept_is_refused(name: str, daemon: Daemon) -> None:
    assert daemon.failure(1, "allocate", name, "1")
    assert daemon.json("list")["allocations"] == []


def test_explain(daemon: Daemon) -> None:
    lines = daemon.text("explain", "nova", "2").splitlines()
    assert lines[:2] == [
        "nova would get CPUs 2-3",
        "Only NUMA node 0 is possible: no other NUMA node has free CPUs of the pool.",
    ]
    cells = {cells[0]: cells[1] for cells in rows(lines)}
    assert (cells["on NUMA nodes"], cells["CPUs"], cells["CPUs left over in its L3 domains"]) == ("0", "2-3", "4")
    assert "CPUs available to the service, by NUMA node: 0: 6" in lines
    assert "cpu-thread-policy=prefer" in " ".join(lines).partition("Placed by: ")[2]
    assert daemon.json("list")["allocations"] == []


def test_explain_of_cpus_that_are_held(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "3")
    for count, sentence in (
        ("3", "keeps the CPUs that it holds"),
        ("1", "The claim shrinks"),
        ("4", "The claim grows"),
    ):
        assert sentence in daemon.text("explain", "nova", count).splitlines()[1]
    assert [each["cores_count"] for each in daemon.json("list")["allocations"]] == [3]


@pytest.mark.parametrize("arguments", [["2"], ["--percent", "33"], ["2", "--numa-node", "0"]])
def test_explain_json(arguments: list[str], daemon: Daemon) -> None:
    document = daemon.json("explain", "nova", *arguments)
    found = document.pop("explanation")
    assert document == daemon.json("allocate", "nova", *arguments, "--dry-run")
    assert [scope["cpus"] for scope in found["scopes"]] == ["2-3"]
    assert found["room"] == {"0": 6}
    assert found["policy"]["numa-policy"] == "best-effort"


REFUSED = ("nova", "3", "--cpu-thread-policy", "require")


RULE = "cpu-thread-policy=require allows whole cores only, but the service would have only a part of 1 core"


def test_explain_of_a_refusal(daemon: Daemon) -> None:
    """The table is on stdout, and the sentence of the refusal on stderr."""
    result = daemon.run("explain", *REFUSED)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    cells = {cells[0]: cells[1] for cells in rows(lines)}
    assert (cells["on NUMA nodes"], cells["CPUs"]) == ("0", "2-4")
    assert result.stderr == f"epa-orchestrator: {daemon.failure(1, 'allocate', *REFUSED)}\n"
    assert RULE in result.stderr


def test_explain_of_a_refusal_json(daemon: Daemon) -> None:
    result = daemon.run("explain", *REFUSED, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert set(document) == {"error", "explanation"}
    assert result.stderr == f"epa-orchestrator: {document['error']}\n"
    assert document["explanation"]["rule"] == "cpu-thread-policy"
    assert [scope["cpus"] for scope in document["explanation"]["scopes"]] == ["2-4"]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["7"], "Insufficient CPUs available. Requested: 7, Available: 6"),
        (["1", "--numa-node", "3"], "NUMA node 3 does not exist"),
    ],
)
def test_explain_of_a_refusal_without_choices(
    arguments: list[str], sentence: str, as_json: list[str], daemon: Daemon
) -> None:
    assert daemon.failure(1, "explain", "nova", *arguments, *as_json).startswith(sentence)
