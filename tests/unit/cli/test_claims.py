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
def test_unknown_pool_is_refused(command: list[str], pool: str, daemon: Daemon) -> None:
    assert "'pool' must be 'isolated' or 'general'" in daemon.failure(1, *command, "--pool", pool)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["2"], "2-3 (4 of 6 still free)\n"),
        (["--default-size"], "2-5 (2 of 6 still free)\n"),
        (["6"], "2-7 (0 of 6 still free)\n"),
        (["--percent", "100"], "2-7 (0 of 6 still free)\n"),
        (["--percent", "20"], "2-3 (4 of 6 still free)\n"),
        (["2", "--numa-node", "0"], "2-3 (4 of 6 still free)\n"),
        (["1", "--pool", "general"], "1 (0 of 1 still free)\n"),
    ],
)
def test_allocate(arguments: list[str], text: str, daemon: Daemon) -> None:
    assert daemon.text("allocate", "nova", *arguments) == text
    assert daemon.text("allocate", "nova", *arguments) == text, "a repeated request changes nothing"


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
    ("arguments", "text"),
    [
        (["2"], "2-3 (4 of 6 would still be free; dry run: nothing was changed)\n"),
        (["--default-size"], "2-5 (2 of 6 would still be free; dry run: nothing was changed)\n"),
        (["--percent", "100"], "2-7 (0 of 6 would still be free; dry run: nothing was changed)\n"),
        (["2", "--numa-node", "0"], "2-3 (4 of 6 would still be free; dry run: nothing was changed)\n"),
        (["1", "--pool", "general"], "1 (0 of 1 would still be free; dry run: nothing was changed)\n"),
    ],
)
def test_dry_run_changes_nothing(arguments: list[str], text: str, daemon: Daemon) -> None:
    before = daemon.json("history")
    assert daemon.text("allocate", "nova", *arguments, "--dry-run") == text
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
    assert sentence == ("No request was sent: this daemon cannot say whose CPUs it would take: add --take to allow it")
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
        ("--near", "a/b", "Field 'near' must be a NUMA node, a PCI address or a network interface, not \"a/b\""),
        ("--near", "-1", "near=-1: the network interface does not exist"),
        ("--near", "9" * 5000, "Field 'near' must be a NUMA node, a PCI address or a network interface, not \"999"),
        ("--numa-policy", "packed", "Field 'numa_policy' must be "),
        ("--cpu-thread-policy", "", "Field 'cpu_thread_policy' must be "),
        ("--uncore-cache-alignment", "None", "Field 'uncore_cache_alignment' must be "),
    ],
    ids=lambda each: each[:20],
)
def test_invalid_wishes_are_refused(command: str, option: str, value: str, sentence: str, daemon: Daemon) -> None:
    assert daemon.failure(1, command, "nova", "2", option, value).startswith(sentence)
    assert daemon.json("list")["allocations"] == []


@pytest.mark.parametrize("arguments", [["2"], ["--percent", "30"], ["2", "--numa-node", "0"]])
def test_allocate_with_a_preemption_policy(arguments: list[str], daemon: Daemon) -> None:
    for policy in ("legacy", "non-preemptive"):
        answer = daemon.json("allocate", "nova", *arguments, "--preemption-policy", policy)
        assert answer["preemption_policy"] == policy
    sentence = daemon.failure(1, "allocate", "nova", *arguments, "--preemption-policy", "legacy")
    assert "release its CPUs before it goes back to legacy" in sentence
    assert "'preemption_policy' must be 'legacy' or 'non-preemptive'" in daemon.failure(
        1, "allocate", "nova", *arguments, "--preemption-policy", "none"
    )


@pytest.mark.parametrize(
    "name", ["", "x" * 256, "x" * 10_000, "a\nb", "\x1b[31mred", "\u202egnp", "a\udcff"], ids=ascii
)
@pytest.mark.parametrize("command", [["allocate", "1"], ["release"], ["hugepages", "--count", "1"]])
def test_invalid_service_name_is_refused(command: list[str], name: str, daemon: Daemon) -> None:
    assert daemon.failure(1, command[0], name, *command[1:])
    assert daemon.json("list")["allocations"] == []


def test_explain(daemon: Daemon) -> None:
    lines = daemon.text("explain", "nova", "2").splitlines()
    assert lines[:2] == [
        "nova would get CPUs 2-3",
        "Only NUMA node 0 is possible: other choices need more NUMA nodes, or more distant ones.",
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
    assert lines[0].strip() == "The best choice without that rule"
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
        (["1", "--numa-node", "0", "--near", "0"], "Field 'near' is not allowed for allocate_numa_cores"),
    ],
)
def test_explain_of_a_refusal_without_choices(
    arguments: list[str], sentence: str, as_json: list[str], daemon: Daemon
) -> None:
    assert daemon.failure(1, "explain", "nova", *arguments, *as_json).startswith(sentence)
