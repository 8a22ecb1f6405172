"""The command line against real daemons: text, JSON and exit codes of every command, and what it makes of mistakes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from epa_orchestrator import __version__
from epa_orchestrator.cli.commands import app
from epa_orchestrator.client.client import Client, DaemonError
from epa_orchestrator.hardware import sysfs
from epa_orchestrator.hardware.sysfs import dump_recording
from epa_orchestrator.protocol.answers import FEATURES
from tests.functional.harness import Process, clean_environment, wait_until
from tools.synthetic import Shape, build, write_tree

SHIPPED = ("altra-q80-1s", "epyc-9654-2s", "vm-8", "xeon-8380-2s-snc2")

#: Every command that asks a daemon.
ASKING = (
    ["status"],
    ["list"],
    ["allocate", "a", "2"],
    ["allocate", "a", "--percent", "50"],
    ["allocate", "a", "2", "--numa-node", "0"],
    ["allocate", "a", "2", "--dry-run"],
    ["explain", "a", "2"],
    ["explain", "a", "--percent", "50"],
    ["explain", "a", "2", "--numa-node", "0"],
    ["release", "a"],
    ["release", "a", "--numa-node", "0"],
    ["hugepages"],
    ["hugepages", "a", "--count", "1"],
)


def table(text: str) -> list[dict[str, str]]:
    """The rows of a printed table by its headings."""
    lines = text.splitlines()
    (head,) = (line for line in lines if line.startswith("┃"))
    headings = [cell.strip() for cell in head.split("┃")[1:-1]]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    return [dict(zip(headings, row, strict=True)) for row in cells]


def rows(lines: list[str]) -> list[list[str]]:
    """The cells of a printed table's body."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]


class Command:
    """Runs the command line in this process, in an environment of its own."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.environment: dict[str, str | None] = {
            "SNAP_DATA": str(base / "data"),
            "SNAP_COMMON": str(base / "common"),
            "EPA_SETTINGS": None,
            "EPA_SYSFS": None,
            "EPA_SOCKET": None,
            "COLUMNS": "150",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }

    @property
    def socket(self) -> Path:
        return self.base / "data" / "data" / "epa.sock"

    def run(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> Result:
        """The result of a command; a traceback is never one."""
        result = CliRunner().invoke(
            app, arguments, env=self.environment | dict(env or {}), prog_name="epa-orchestrator"
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def text(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        result = self.run(*arguments)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """The document that a command that succeeds prints."""
        return json.loads(self.text(*arguments, "--json"))

    def failure(self, code: int, *arguments: str, env: Mapping[str, str | None] | None = None) -> str:
        """The one line that a command that fails leaves on stderr, and nothing on stdout."""
        result = self.run(*arguments, env=env)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert result.stderr.startswith("epa-orchestrator: ")
        assert result.stderr.endswith("\n")
        assert result.stderr[:-1].isprintable()
        return result.stderr[:-1].removeprefix("epa-orchestrator: ")

    def misuse(self, *arguments: str) -> str:
        """What a wrong use of the command line is told."""
        result = self.run(*arguments)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        return result.stderr


class Daemon(Command):
    """A daemon that serves the machine vm-8: CPUs 2-7 isolated, CPUs 2n and 2n + 1 share a core, one node."""

    def __init__(self, settings: dict[str, Any] | None = None, legacy_state: str | None = None) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="epa-")))
        (self.base / "data" / "data").mkdir(parents=True)
        (self.base / "settings.json").write_text(json.dumps(settings or {}))
        if legacy_state is not None:
            (self.base / "data" / "data" / "state.json").write_text(legacy_state)
        set_here = {name: value for name, value in self.environment.items() if value is not None}
        self.process = Process(
            [sys.executable, "-m", "epa_orchestrator", "serve", "--machine", "vm-8"],
            clean_environment() | set_here | {"EPA_SETTINGS": str(self.base / "settings.json")},
        )
        self.client = Client(self.socket)
        wait_until(self._answers, "the daemon answers")

    def reset(self) -> None:
        """Release everything that a test has claimed."""
        for pool in ("isolated", "general"):
            for claim in self.client.list_allocations(pool).allocations:
                self.client.allocate(claim.service_name, -1, pool)
        for node, pages in self.client.memory_info().numa_hugepages.items():
            for service, counts in pages.allocations.items():
                for size in counts:
                    self.client.set_hugepages(service, int(node.removeprefix("node")), int(size), -1)

    def stop(self) -> None:
        self.process.signal(signal.SIGTERM)
        try:
            assert self.process.wait() == 0, self.process.output()
        finally:
            self.process.close()
            shutil.rmtree(self.base)

    def _answers(self) -> bool:
        assert self.process.running, self.process.output()
        try:
            self.client.list_allocations()
        except DaemonError:
            return False
        return True


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    """A daemon with both pools."""
    made = Daemon({"cpu-pool": "1"})
    yield made
    made.stop()


@pytest.fixture
def daemon(served: Daemon) -> Iterator[Daemon]:
    """The same daemon, without claims before and after a test."""
    yield served
    served.reset()


@pytest.fixture(scope="module")
def read_only() -> Iterator[Daemon]:
    """A daemon without a general pool, which could not import the older one's state."""
    made = Daemon(legacy_state='{"version": 1, "allocations_db": {"allocations": {"a": "0-x\x1b[2J"}}}')
    yield made
    made.stop()


@pytest.fixture
def nobody(tmp_path: Path) -> Command:
    """Where no daemon is."""
    return Command(tmp_path)


# --- status ---


def test_status(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    daemon.run("allocate", "ovs", "1", "--pool", "general")
    assert daemon.text("status").splitlines() == [
        f"serving at {daemon.socket}",
        "pool isolated: CPUs 2-7; 4 of 6 free, 2 held by 1 services",
        "pool general: CPUs 1; 0 of 1 free, 1 held by 1 services",
    ]


def test_status_json(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    features = list(FEATURES)
    assert daemon.json("status") == {
        "socket": str(daemon.socket),
        "state_error": None,
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
                "state_error": None,
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
                "state_error": None,
            },
        },
    }


def test_status_of_a_daemon_that_serves_reading_actions_only(read_only: Daemon) -> None:
    """Exit code 4, with the same on stdout as ever and the reason on stderr, on one harmless line."""
    result = read_only.run("status")
    assert result.exit_code == 4
    assert result.stdout.splitlines() == [
        f"serving at {read_only.socket}",
        "pool isolated: CPUs 2-7; 0 of 6 free, 0 held by 0 services",
    ]
    reason = result.stderr[:-1]
    assert reason.startswith("READ-ONLY: ")
    assert str(read_only.base / "data" / "data" / "state.json") in reason
    assert reason.isprintable()
    as_json = read_only.run("status", "--json")
    assert as_json.exit_code == 4
    document = json.loads(as_json.stdout)
    assert f"READ-ONLY: {document['state_error']}" == reason
    assert list(document["pools"]) == ["isolated"]


# --- list ---


def test_list(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    daemon.run("allocate", "ceph", "1", "--numa-node", "0", "--policy", "non-preemptive")
    text = daemon.text("list")
    assert table(text) == [
        {"Service": "ceph", "CPUs": "4", "Count": "1", "By node": "yes", "Policy": "non-preemptive"},
        {"Service": "nova", "CPUs": "2-3", "Count": "2", "By node": "no", "Policy": "legacy"},
    ]
    assert "Pool isolated" in text
    assert "3 CPUs held, 3 of 6 free" in text


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


def test_list_of_a_read_only_daemon(read_only: Daemon) -> None:
    assert "0 CPUs held, 0 of 6 free" in read_only.text("list")
    assert "state.json" in read_only.json("list")["state_error"]


@pytest.mark.parametrize("pool", ["shared", "Isolated", " "])
@pytest.mark.parametrize(
    "command", [["list"], ["allocate", "a", "1"], ["allocate", "a", "--percent", "1"], ["release", "a"]]
)
def test_a_pool_that_does_not_exist(command: list[str], pool: str, daemon: Daemon) -> None:
    assert "'pool' must be 'isolated' or 'general'" in daemon.failure(1, *command, "--pool", pool)


def test_a_pool_that_is_not_configured(read_only: Daemon) -> None:
    assert "general is not configured" in read_only.failure(1, "list", "--pool", "general")


# --- allocate, release ---


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["2"], "2-3 (4 of 6 still free)\n"),
        ([], "2-5 (2 of 6 still free)\n"),
        (["0"], "2-5 (2 of 6 still free)\n"),
        (["6"], "2-7 (0 of 6 still free)\n"),
        (["--percent", "100"], "2-7 (0 of 6 still free)\n"),
        (["--percent", "20"], "2-3 (4 of 6 still free)\n"),
        (["2", "--numa-node", "0"], "2-3 (4 of 6 still free)\n"),
        (["1", "--pool", "general"], "1 (0 of 1 still free)\n"),
    ],
)
def test_allocate(arguments: list[str], text: str, daemon: Daemon) -> None:
    assert daemon.text("allocate", "nova", *arguments) == text
    assert daemon.text("allocate", "nova", *arguments) == text, "again, and nothing changes"


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
        ([], "2-5 (2 of 6 would still be free; dry run: nothing was changed)\n"),
        (["--percent", "100"], "2-7 (0 of 6 would still be free; dry run: nothing was changed)\n"),
        (["2", "--numa-node", "0"], "2-3 (4 of 6 would still be free; dry run: nothing was changed)\n"),
        (["1", "--pool", "general"], "1 (0 of 1 would still be free; dry run: nothing was changed)\n"),
    ],
)
def test_allocate_as_a_dry_run(arguments: list[str], text: str, daemon: Daemon) -> None:
    before = daemon.json("history")
    assert daemon.text("allocate", "nova", *arguments, "--dry-run") == text
    dry = daemon.json("allocate", "nova", *arguments, "--dry-run")
    assert daemon.json("list")["allocations"] == daemon.json("list", "--pool", "general")["allocations"] == []
    assert daemon.json("history") == before
    assert dry == daemon.json("allocate", "nova", *arguments) | {"dry_run": True}
    daemon.reset()
    assert "Requested: 7, Available: 6" in daemon.failure(1, "allocate", "nova", "7", "--dry-run")


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
        ("--near", "1", "near=1: NUMA node 1 does not exist"),  # a number is a node, not an interface's name
        ("--near", "eth9", "near=eth9: the network interface does not exist"),
        ("--near", "0000:3b:00.0", "near=0000:3b:00.0: this machine shows no PCI device 0000:3b:00.0"),
        ("--near", "a/b", "Field 'near' must be a NUMA node, a PCI address or a network interface, not a/b"),
        ("--near", "-1", "near=-1: the network interface does not exist"),
        ("--near", "9" * 5000, "Field 'near' must be a NUMA node, a PCI address or a network interface, not 999"),
        ("--numa-policy", "packed", "Field 'numa_policy' must be "),
        ("--cpu-thread-policy", "", "Field 'cpu_thread_policy' must be "),
        ("--uncore-cache-alignment", "None", "Field 'uncore_cache_alignment' must be "),
    ],
    ids=lambda each: each[:20],
)
def test_wishes_that_are_refused(command: str, option: str, value: str, sentence: str, daemon: Daemon) -> None:
    assert daemon.failure(1, command, "nova", "2", option, value).startswith(sentence)
    assert daemon.json("list")["allocations"] == []


def test_what_is_withheld_is_listed(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2", "--cpu-thread-policy", "isolate")
    (row,) = table(daemon.text("list"))
    assert (row["CPUs"], row["Withheld"]) == ("2,4", "3,5")
    assert "2 CPUs held, 2 of 6 free" in daemon.text("list")
    assert daemon.json("list")["allocations"][0]["withheld_cpus"] == "3,5"
    assert "2,4 (withholds 3,5)" in daemon.text("history", "--limit", "1")


# --- explain ---


def test_explain(daemon: Daemon) -> None:
    lines = daemon.text("explain", "nova", "2").splitlines()
    assert lines[:2] == [
        "nova would get CPUs 2-3",
        "NUMA node 0 alone has such CPUs, among choices of as few and as close NUMA nodes.",
    ]
    cells = {cells[0]: cells[1] for cells in rows(lines)}
    assert (cells["on NUMA nodes"], cells["CPUs"], cells["CPUs left over in its L3 domains"]) == ("0", "2-3", "4")
    assert "CPUs that the service could have, by NUMA node: 0: 6" in lines
    assert "cpu-thread-policy=prefer" in " ".join(lines).partition("Placed by: ")[2]
    assert daemon.json("list")["allocations"] == []


def test_explain_of_what_is_held(daemon: Daemon) -> None:
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
RULE = "cpu-thread-policy=require allows whole cores only, and of 1 core the service would have a part"


def test_explain_of_a_refusal(daemon: Daemon) -> None:
    """The table on stdout, and the sentence that the request would be refused with on stderr."""
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
def test_explain_of_what_needs_no_table(as_json: list[str], daemon: Daemon) -> None:
    for arguments, sentence in (
        (["7"], "Insufficient CPUs available. Requested: 7, Available: 6"),
        (["1", "--numa-node", "3"], "NUMA node 3 does not exist"),
        (
            ["1", "--numa-node", "0", "--near", "0"],
            "Field 'near' is not allowed for allocate_numa_cores: numa_node says",
        ),
    ):
        assert daemon.failure(1, "explain", "nova", *arguments, *as_json).startswith(sentence)


@pytest.mark.parametrize("arguments", [["2"], ["--percent", "30"], ["2", "--numa-node", "0"]])
def test_allocate_with_a_policy(arguments: list[str], daemon: Daemon) -> None:
    for policy in ("legacy", "non-preemptive"):
        assert daemon.json("allocate", "nova", *arguments, "--policy", policy)["preemption_policy"] == policy
    sentence = daemon.failure(1, "allocate", "nova", *arguments, "--policy", "legacy")
    assert "release its CPUs before it goes back to legacy" in sentence
    assert "'preemption_policy' must be 'legacy' or 'non-preemptive'" in daemon.failure(
        1, "allocate", "nova", *arguments, "--policy", "none"
    )


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_what_the_daemon_refuses(as_json: list[str], daemon: Daemon) -> None:
    refusals = {
        ("allocate", "nova", "7"): "Insufficient CPUs available. Requested: 7, Available: 6",
        ("allocate", "nova", "1", "--numa-node", "3"): "NUMA node 3 does not exist",
        ("allocate", "nova", "--numa-node", "0"): "num_of_cores=0 is invalid for allocate_numa_cores",
        ("release", "nova", "--numa-node", "3"): "NUMA node 3 does not exist",
        ("hugepages", "nova", "--count", "0"): "hugepages_requested=0 is invalid for allocate_hugepages",
        ("hugepages", "nova", "--count", "1", "--node", "3"): "NUMA node 3 not found",
        ("hugepages", "nova", "--count", "1", "--size", "4"): "Hugepage size 4 KB not found on node 0",
    }
    for arguments, sentence in refusals.items():
        assert daemon.failure(1, *arguments, *as_json) == sentence
    assert "only has 2048 free hugepages" in daemon.failure(1, "hugepages", "nova", "--count", "2049", *as_json)
    assert daemon.json("status")["pools"]["isolated"]["total_allocations"] == 0


@pytest.mark.parametrize("command", [["allocate", "a", "1"], ["release", "a"], ["hugepages", "a", "--count", "1"]])
def test_a_read_only_daemon_refuses_to_change_anything(command: list[str], read_only: Daemon) -> None:
    sentence = read_only.failure(1, *command)
    assert "state.json" in sentence
    assert "restart" in sentence


def test_release(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2")
    assert daemon.text("release", "nova") == "released (6 of 6 free)\n"
    assert daemon.text("release", "nova") == "released (6 of 6 free)\n", "there is nothing, and nothing wrong with that"
    assert daemon.json("release", "nova")["allocated_cores"] == ""


def test_release_in_a_node(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "2", "--numa-node", "0")
    assert daemon.json("release", "nova", "--numa-node", "0") == {
        "version": "1.0",
        "service_name": "nova",
        "numa_node": 0,
        "num_of_cores": -1,
        "cores_allocated": "",
        "total_available_cpus": 6,
        "remaining_available_cpus": 6,
        "pool": "isolated",
        "preemption_policy": None,
    }


def test_release_finds_the_pool(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "1", "--pool", "general")
    assert "in pool general" in daemon.failure(1, "release", "nova", "--pool", "isolated")
    assert daemon.text("release", "nova") == "released (1 of 1 free)\n"
    daemon.run("allocate", "nova", "1", "--pool", "general")
    assert daemon.json("release", "nova", "--pool", "general")["pool"] == "general"


# --- hugepages ---


def test_hugepages(daemon: Daemon) -> None:
    assert daemon.text("hugepages", "nova", "--count", "4") == "Successfully set allocation request to 4 hugepages\n"
    assert table(daemon.text("hugepages")) == [
        {"Node": "node0", "Size (KiB)": "2048", "Total": "2048", "Free": "2044", "Recorded for": "nova: 4"},
        {"Node": "node0", "Size (KiB)": "1048576", "Total": "0", "Free": "0", "Recorded for": ""},
    ]
    assert daemon.text("hugepages", "nova", "--count", "-1") == "Removed recorded hugepage allocation\n"
    assert daemon.text("hugepages", "nova", "--count", "-1") == "No existing record to remove\n"


def test_hugepages_json(daemon: Daemon) -> None:
    assert daemon.json("hugepages", "nova", "--node", "0", "--size", "2048", "--count", "4") == {
        "version": "1.0",
        "service_name": "nova",
        "hugepages_requested": 4,
        "allocation_successful": True,
        "message": "Successfully set allocation request to 4 hugepages",
        "node_id": 0,
        "size_kb": 2048,
    }
    assert daemon.json("hugepages") == {
        "version": "1.0",
        "service_name": "",
        "numa_hugepages": {
            "node0": {
                "capacity": [{"total": 2048, "free": 2044, "size": 2048}, {"total": 0, "free": 0, "size": 1048576}],
                "allocations": {"nova": {"2048": 4}},
            }
        },
    }


def test_hugepages_of_a_read_only_daemon(read_only: Daemon) -> None:
    assert "node0" in read_only.text("hugepages")
    assert "state.json" in read_only.json("hugepages")["state_error"]


# --- history ---


def test_history(daemon: Daemon) -> None:
    daemon.run("allocate", "historian", "2")
    daemon.run("allocate", "historian", "2", "--numa-node", "0", "--policy", "non-preemptive")
    daemon.run("release", "historian")
    daemon.run("hugepages", "historian", "--count", "4")
    daemon.run("hugepages", "historian", "--count", "-1")
    events = daemon.json("history", "historian")
    claim = {"pool": "isolated", "cpus": "2-3", "explicit": "", "policy": "legacy"}
    explicit = claim | {"explicit": "2-3", "policy": "non-preemptive"}
    pages = {"node_id": 0, "size_kb": 2048, "hugepages": 4}
    assert [(each["action"], each["before"], each["after"]) for each in events] == [
        ("allocate_cores", None, claim),
        ("allocate_numa_cores", claim, explicit),
        ("allocate_cores", explicit, None),
        ("allocate_hugepages", None, pages),
        ("allocate_hugepages", pages, None),
    ]
    for each in events:
        assert (each["pid"], each["uid"], each["gid"]) == (os.getpid(), os.geteuid(), os.getegid())
        assert each["service"] == "historian"
    assert [each["id"] for each in events] == sorted(each["id"] for each in events)
    assert [each["at"] for each in events] == sorted(each["at"] for each in events)
    shown = table(daemon.text("history", "historian"))
    assert [(row["Action"], row["Service"], row["Before"], row["After"]) for row in shown] == [
        ("allocate_cores", "historian", "nothing", "2-3"),
        ("allocate_numa_cores", "historian", "2-3", "2-3 (by node, non-preemptive)"),
        ("allocate_cores", "historian", "2-3 (by node, non-preemptive)", "nothing"),
        ("allocate_hugepages", "historian", "nothing", "4 x 2048 KiB on node 0"),
        ("allocate_hugepages", "historian", "4 x 2048 KiB on node 0", "nothing"),
    ]
    assert all(str(os.getpid()) in row["Peer"] for row in shown)


def test_history_shows_the_newest_and_everybody(daemon: Daemon) -> None:
    for service in ("first", "second", "third"):
        daemon.run("allocate", service, "1")
    assert [each["service"] for each in daemon.json("history", "--limit", "2")] == ["second", "third"]
    assert [each["service"] for each in daemon.json("history", "--limit", "1")] == ["third"]
    assert daemon.json("history", "never-seen") == []
    assert daemon.run("history", "never-seen").exit_code == 0


def test_history_needs_no_daemon(daemon: Daemon, tmp_path: Path) -> None:
    """It reads a copy of the state just as well."""
    daemon.run("allocate", "nova", "2")
    shutil.copytree(daemon.base / "common", tmp_path / "common")
    newest = Command(tmp_path).json("history", "--limit", "1")
    assert newest == daemon.json("history", "--limit", "1")
    assert newest[0]["after"]["cpus"] == "2-3"


def test_history_of_a_machine_that_is_served_outside_a_snap(daemon: Daemon, nobody: Command) -> None:
    """There each served machine has a state of its own, named after its file."""
    daemon.run("allocate", "nova", "2")
    state = nobody.base / "epa-orchestrator" / "machines" / "vm-8"
    shutil.copytree(daemon.base / "common", state)
    outside = {"SNAP_COMMON": None, "XDG_STATE_HOME": str(nobody.base)}
    for machine in ("vm-8", str(nobody.base / "vm-8.json")):
        result = nobody.run("history", "--limit", "1", "--machine", machine, "--json", env=outside)
        assert result.exit_code == 0
        assert json.loads(result.stdout)[0]["after"]["cpus"] == "2-3"
    assert "common/state.db" in nobody.failure(1, "history", env=outside)
    assert "machines/vm-9/state.db" in nobody.failure(1, "history", "--machine", "vm-9", env=outside)


def test_history_without_a_database(nobody: Command) -> None:
    assert str(nobody.base / "common" / "state.db") in nobody.failure(1, "history")
    (nobody.base / "common").mkdir()
    (nobody.base / "common" / "state.db").write_bytes(b"rubbish" * 1000)
    assert "cannot be read" in nobody.failure(1, "history")
    assert (nobody.base / "common" / "state.db").read_bytes() == b"rubbish" * 1000


DAMAGED = {
    "before = 'no JSON'": ("before", "Before"),
    "after = '[]'": ("after", "After"),
    'after = \'{"pool": "isolated"}\'': ("after", "After"),
    "after = '{\"hugepages\": 1}'": ("after", "After"),
    "after = CAST(x'ff' AS TEXT)": ("after", "After"),
    "service = CAST(x'6eff' AS TEXT)": ("service", "Service"),
    "service = NULL": ("service", "Service"),
    "action = NULL": ("action", "Action"),
    "at = NULL": ("at", "When"),
    "at = 'noon'": ("at", "When"),
    "at = 1e300": ("at", "When"),
    "at = 9e999": ("at", "When"),
    "at = -9e18": ("at", "When"),
    "pid = x'00'": ("pid", "Peer"),
    "uid = 'root'": ("uid", "Peer"),
}


@pytest.mark.parametrize("change", DAMAGED)
def test_a_damaged_event_is_shown_as_damaged(change: str, daemon: Daemon, nobody: Command) -> None:
    """A table without constraints can hold what a damaged page can."""
    column, heading = DAMAGED[change]
    for count in ("1", "2", "3"):
        daemon.run("allocate", "nova", count)
    shutil.copytree(daemon.base / "common", nobody.base / "common")
    with contextlib.closing(sqlite3.connect(nobody.base / "common" / "state.db")) as database:
        database.executescript(
            "CREATE TABLE plain AS SELECT * FROM event; DROP TABLE event; ALTER TABLE plain RENAME TO event;"
            f"UPDATE event SET {change} WHERE id = (SELECT max(id) - 1 FROM event)"
        )
    whole, events = daemon.json("history", "--limit", "3"), nobody.json("history", "--limit", "3")
    assert events == [whole[0], whole[1] | {column: None, "damaged": [column]}, whole[2]]
    shown, expected = table(nobody.text("history", "--limit", "3")), table(daemon.text("history", "--limit", "3"))
    assert "damaged" in shown[1].pop(heading)
    assert expected[1].pop(heading)
    assert shown == expected


# --- machine ---


def test_machine(nobody: Command) -> None:
    text = nobody.text("machine", "--machine", "vm-8")
    assert "8 of 8: 0-7" in text
    assert "2-7" in text
    assert "4, 2 threads each" in text
    assert "2048 x 2048 KiB (2048 free)" in text


def test_machine_json(nobody: Command) -> None:
    assert nobody.json("machine", "--machine", "vm-8") == {
        "present": "0-7",
        "online": "0-7",
        "isolated": "2-7",
        "packages": [{"id": "0", "cpus": "0-7"}],
        "nodes": [
            {
                "id": 0,
                "cpus": "0-7",
                "distances": [10],
                "memory_kb": 16 << 20,
                "hugepages": [
                    {"size_kb": 2048, "total": 2048, "free": 2048},
                    {"size_kb": 1048576, "total": 0, "free": 0},
                ],
            }
        ],
        "l3_domains": ["0-7"],
        "cores": [{"cpus": f"{cpu}-{cpu + 1}", "type": None} for cpu in (0, 2, 4, 6)],
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_machine_can_be_shown(name: str, nobody: Command) -> None:
    document = nobody.json("machine", "--machine", name)
    assert document["isolated"]
    assert f"of {CPUS[name]}: " in nobody.text("machine", "--machine", name)


#: CPUs of the shipped machines: 80 Neoverse N1; 2 x 96 Zen 4 cores and 2 x 40 Ice Lake cores of 2 threads; 8 vCPUs.
CPUS = {"altra-q80-1s": 80, "epyc-9654-2s": 384, "vm-8": 8, "xeon-8380-2s-snc2": 160}


def test_the_machine_is_this_host_unless_named(nobody: Command) -> None:
    shape = Shape(packages=2, cores_per_l3=3, isolated="1-2", hugepages={2048: (3, 1)})
    write_tree(build(shape), nobody.base / "sys")
    result = nobody.run("machine", "--json", env={"EPA_SYSFS": str(nobody.base / "sys")})
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["online"], document["isolated"]) == ("0-5", "1-2")
    assert document["nodes"][1]["hugepages"] == [{"size_kb": 2048, "total": 3, "free": 1}]


def test_a_host_that_cannot_be_read(nobody: Command) -> None:
    (nobody.base / "sys").mkdir()
    for arguments in (["machine"], ["machine", "--json"]):
        assert "sysfs shows no CPUs" in nobody.failure(1, *arguments, env={"EPA_SYSFS": str(nobody.base / "sys")})


@pytest.mark.parametrize("arguments", [["machine"], ["machine", "--json"]])
def test_a_host_that_cannot_be_read_at_the_moment(
    arguments: list[str], nobody: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose lxcfs has died: its files in /sys then fail with ENOTCONN."""
    write_tree(build(Shape()), nobody.base / "sys")

    def fail(path: str, *_: object) -> int:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), path)

    monkeypatch.setattr(sysfs.os, "open", fail)
    sentence = nobody.failure(1, *arguments, env={"EPA_SYSFS": str(nobody.base / "sys")})
    assert "Transport endpoint is not connected" in sentence


@pytest.mark.parametrize("as_json", [False, True])
def test_a_recorded_machine_is_the_machine(as_json: bool, nobody: Command) -> None:
    shape = Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="1-3", offline="5", hugepages={2048: (9, 8)})
    write_tree(build(shape), nobody.base / "sys")
    host = {"EPA_SYSFS": str(nobody.base / "sys")}
    recording = nobody.base / "host.json"
    arguments = ["machine", "--record", str(recording), *(["--json"] if as_json else [])]
    result = nobody.run(*arguments, env=host)
    assert result.exit_code == 0
    assert f"epa-orchestrator serve --machine {recording}" in result.stderr
    shown = nobody.run("machine", "--json", env=host).stdout
    assert result.stdout == (shown if as_json else "")
    assert nobody.text("machine", "--machine", str(recording), "--json") == shown


def test_a_recording_that_cannot_be_written(nobody: Command) -> None:
    sentence = nobody.failure(1, "machine", "--machine", "vm-8", "--record", str(nobody.base / "missing" / "x.json"))
    assert sentence.endswith("No such file or directory")
    assert nobody.failure(1, "machine", "--machine", "vm-8", "--record", str(nobody.base)).endswith("Is a directory")


@pytest.mark.parametrize(
    "name", ["vm-9", "VM-8", "vm-8.json", "vm-8/", "/missing.json", "a\x1b[2J\n", "a\udcff", "x" * 5000]
)
def test_a_machine_that_does_not_exist(name: str, nobody: Command) -> None:
    sentence = nobody.failure(1, "machine", "--machine", name)
    assert "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name) in sentence


def test_the_machines_that_ship_are_named(nobody: Command) -> None:
    assert nobody.failure(1, "machine", "--machine", "vm-9").endswith(f"these do: {', '.join(SHIPPED)}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"format": "epa-orchestrator-machine/1", "files": {"a\x1b[2J": 1}}',
        b'{"format": "epa-orchestrator-machine/1", "files": {"a\\u001b[2J\\n": 1}}',
        b'{"format": "epa-orchestrator-machine/1", "files": {"a/cpu{}/b": {"x": "3-1"}}}',
    ],
)
def test_a_machine_that_is_no_recording(content: bytes, nobody: Command) -> None:
    path = nobody.base / "machine.json"
    path.write_bytes(content)
    sentence = nobody.failure(1, "machine", "--machine", str(path))
    assert sentence.startswith(f"The recorded machine '{path}' cannot be used: ")


def test_a_recording_without_cpus(nobody: Command) -> None:
    path = nobody.base / "machine.json"
    for files in ({}, {"devices/system/cpu/present": "0-x\x1b[2J\n"}):
        path.write_text(json.dumps({"format": "epa-orchestrator-machine/1", "files": files}))
        assert "sysfs" in nobody.failure(1, "machine", "--machine", str(path))


def test_a_file_comes_before_a_shipped_machine_of_its_name(nobody: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nobody.base)
    Path("vm-8").write_text("not a recording")
    assert "cannot be used" in nobody.failure(1, "machine", "--machine", "vm-8")


# --- serve ---


def serve(command: Command, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A daemon that is expected to give up by itself."""
    set_here = {name: value for name, value in command.environment.items() if value is not None}
    return subprocess.run(
        [sys.executable, "-m", "epa_orchestrator", "serve", *arguments],
        env=clean_environment() | set_here | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_serve_beside_a_daemon_with_the_same_state(daemon: Daemon) -> None:
    result = serve(daemon, "--machine", "vm-8")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("epa-orchestrator: Another daemon already uses the state in ")
    assert daemon.run("status").exit_code == 0, "the first one serves on"


def test_serve_beside_a_daemon_at_the_same_socket(daemon: Daemon, tmp_path: Path) -> None:
    result = serve(daemon, "--machine", "vm-8", SNAP_COMMON=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        f"epa-orchestrator: Another process already serves {daemon.socket}: stop it first"
    )
    assert daemon.run("status").exit_code == 0, "the first one serves on"


@pytest.mark.parametrize("recorded", [False, True])
def test_serve_without_isolated_cpus_says_so(recorded: bool, nobody: Command) -> None:
    """It serves all the same, and tells on a real host how to try it."""
    files = build(Shape(cores_per_l3=2))
    write_tree(files, nobody.base / "sys")
    recording = nobody.base / "plain.json"
    recording.write_text(dump_recording("plain", "made for a test", files, {}))
    with tempfile.TemporaryDirectory() as directory:  # short enough for a socket's address
        command = Command(Path(directory))
        set_here = {name: value for name, value in command.environment.items() if value is not None}
        process = Process(
            [sys.executable, "-m", "epa_orchestrator", "serve", *(["--machine", str(recording)] if recorded else [])],
            clean_environment() | set_here | {"EPA_SYSFS": str(nobody.base / "sys")},
        )
        try:
            wait_until(lambda: command.run("status").exit_code != 3, "the daemon answers")
            assert "pool isolated: CPUs none; 0 of 0 free" in command.text("status")
            refusal = command.failure(1, "allocate", "nova", "1")
            assert refusal == "No CPUs available: No Isolated CPUs configured"
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
        finally:
            process.close()
    (warning,) = (line for line in process.output().splitlines() if "isolates no CPUs" in line)
    assert ("epa-orchestrator serve --machine vm-8" in warning) is not recorded
    assert ("the recorded machine plain" in warning) is recorded


def test_serve_of_a_machine_that_does_not_exist(nobody: Command) -> None:
    result = serve(nobody, "--machine", "vm-9")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("epa-orchestrator: There is no file 'vm-9'")
    assert not (nobody.base / "common").exists()


def test_serve_of_a_machine_that_is_no_recording(nobody: Command) -> None:
    (nobody.base / "machine.json").write_text("{}")
    result = serve(nobody, "--machine", str(nobody.base / "machine.json"))
    assert (result.returncode, result.stdout) == (1, "")
    assert "cannot be used" in result.stderr
    assert not (nobody.base / "common").exists()


def test_serve_with_settings_that_cannot_be_used(nobody: Command) -> None:
    settings = nobody.base / "settings.json"
    settings.write_text('{"numa-policy": "sideways"}')
    result = serve(nobody, "--machine", "vm-8", EPA_SETTINGS=str(settings))
    assert result.returncode == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"epa-orchestrator: settings file {settings}: numa-policy='sideways' is not valid")
    assert "Traceback" not in result.stderr


# --- which daemon ---


@pytest.mark.parametrize("command", ASKING)
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_without_a_daemon_the_exit_code_is_3(command: list[str], as_json: list[str], nobody: Command) -> None:
    sentence = nobody.failure(3, *command, *as_json)
    assert sentence.startswith(f"No daemon serves {nobody.socket}: start it with ")
    assert "epa-orchestrator serve" in sentence


@pytest.mark.parametrize("command", ASKING)
def test_the_socket_may_be_named(command: list[str], daemon: Daemon, nobody: Command) -> None:
    assert nobody.run(*command, "--socket", str(daemon.socket)).exit_code == 0
    assert nobody.run(*command, env={"EPA_SOCKET": str(daemon.socket)}).exit_code == 0
    assert str(nobody.base / "x") in daemon.failure(3, *command, "--socket", str(nobody.base / "x"))


# --- wrong use ---


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["allocatee", "a"], "allocatee"),
        (["--no-such"], "--no-such"),
        (["status", "--no-such"], "--no-such"),
        (["status", "extra"], "extra"),
        (["list", "--pool"], "--pool"),
        (["allocate"], "service"),
        (["allocate", "a", "many"], "count"),
        (["allocate", "a", "1.5"], "count"),
        (["allocate", "a", "-1"], "-1"),
        (["allocate", "a", "--", "-1"], "count"),
        (["allocate", "a", "1", "2"], "2"),
        (["allocate", "a", "--percent", "0"], "--percent"),
        (["allocate", "a", "--percent", "101"], "--percent"),
        (["allocate", "a", "--percent", "50%"], "--percent"),
        (["allocate", "a", "1", "--numa-node", "-1"], "--numa-node"),
        (["allocate", "a", "2", "--percent", "10"], "--percent goes with neither count nor --numa-node"),
        (["allocate", "a", "--percent", "10", "--numa-node", "0"], "--percent goes with neither"),
        (["explain"], "service"),
        (["explain", "a", "-1"], "-1"),
        (["explain", "a", "2", "--percent", "10"], "--percent goes with neither count nor --numa-node"),
        (["explain", "a", "2", "--dry-run"], "--dry-run"),
        (["release"], "service"),
        (["release", "a", "--numa-node", "x"], "--numa-node"),
        (["hugepages", "a"], "give service and --count"),
        (["hugepages", "--count", "1"], "give service and --count"),
        (["hugepages", "a", "--count", "-2"], "--count"),
        (["hugepages", "a", "--count", "1", "--size", "0"], "--size"),
        (["hugepages", "a", "--count", "1", "--node", "-1"], "--node"),
        (["history", "--limit", "0"], "--limit"),
        (["history", "--limit", str(2**64)], "--limit"),
        (["serve", "extra"], "extra"),
    ],
)
def test_wrong_use_has_the_exit_code_2(arguments: list[str], names: str, nobody: Command) -> None:
    """Before anybody is asked: there is no daemon here. The words are Typer's, but for our own rules."""
    told = nobody.misuse(*arguments)
    assert names in " ".join(told.rpartition("rror")[2].lower().split())


@pytest.mark.parametrize(
    "name", ["", "x" * 256, "x" * 10_000, "a\nb", "\x1b[31mred", "\u202egnp", "a\udcff"], ids=ascii
)
@pytest.mark.parametrize("command", [["allocate", "1"], ["release"], ["hugepages", "--count", "1"]])
def test_a_wrong_service_name_is_refused(command: list[str], name: str, daemon: Daemon) -> None:
    assert daemon.failure(1, command[0], name, *command[1:])
    assert daemon.json("list")["allocations"] == []


@pytest.mark.parametrize("name", ["", "x" * 10_000, "\x1b[31mred", "a\udcff"], ids=ascii)
def test_nothing_is_known_of_a_wrong_service_name(name: str, daemon: Daemon) -> None:
    """The last one is what Python makes of a byte that is no UTF-8."""
    assert daemon.json("history", name) == []


def test_help_and_version(nobody: Command) -> None:
    assert nobody.text("--version") == f"{__version__}\n"
    for arguments in ([], ["status"], ["allocate"], ["history"]):
        assert "Usage: epa-orchestrator" in nobody.text(*arguments, "--help")
    commands = nobody.text("--help")
    for command in ("serve", "status", "list", "allocate", "explain", "release", "hugepages", "machine", "history"):
        assert f"  {command} " in commands
    assert "3 no daemon answers" in " ".join(commands.split())


def test_the_module_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "epa_orchestrator", "--version"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (result.stdout, result.stderr) == (f"{__version__}\n", "")


@pytest.mark.parametrize("arguments", [["list"], ["allocate", "nova", "2", "--dry-run"], ["history"]])
def test_a_terminal_that_cannot_show_a_character_shows_its_number(arguments: list[str], daemon: Daemon) -> None:
    daemon.run("allocate", "nov\u00e4", "2")
    set_here = {name: value for name, value in daemon.environment.items() if value is not None}
    result = subprocess.run(
        [sys.executable, "-m", "epa_orchestrator", *arguments],
        env=clean_environment() | set_here | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert arguments[0] == "allocate" or "nov\\xe4" in result.stdout


# --- nothing acts on the terminal ---

#: Printable, so that the daemon takes them, yet Rich's markup and emoji codes.
MARKUP = ("[red]x[/red]", "[/]", "[link=file:///x]y[/link]", ":smile:", "\\[b]", "'; rm -rf / #")


@pytest.mark.parametrize("name", MARKUP)
def test_markup_in_a_service_name_is_shown_as_it_is(name: str, daemon: Daemon) -> None:
    assert daemon.text("allocate", name, "2") == "2-3 (4 of 6 still free)\n"
    daemon.run("hugepages", name, "--count", "1")
    for arguments in (["list"], ["hugepages"], ["history", name]):
        assert name in daemon.text(*arguments)
    assert daemon.json("list")["allocations"][0]["service_name"] == name
    assert daemon.text("release", name) == "released (6 of 6 free)\n"


class Liar:
    """Answers or refuses every request with terminal escapes in each of its texts."""

    ESCAPES = "\x1b[31m\x1b]0;t\x07\x9b2J\r\u202e"

    def __init__(self, path: Path, *, refuse: bool = False, bad: str = ESCAPES, features: Sequence[str] = ()) -> None:
        path.parent.mkdir(parents=True)
        self._refuse = refuse
        self._bad = bad
        self._features = features
        self.requests: list[dict[str, Any]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                request = json.loads(connection.recv(65_536))
                self.requests.append(request)
                connection.sendall(json.dumps(self._answer(request)).encode())

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        bad = self._bad
        if self._refuse:
            return {"version": "1.0", "error": f"No{bad} {request['action']}"}
        numbers = dict.fromkeys(
            ("total_available_cpus", "remaining_available_cpus", "total_allocations", "total_allocated_cpus"), 1
        )
        pool = request.get("pool", "isolated")
        common = {"version": "1.0", "service_name": "a", "pool": pool, "preemption_policy": "legacy", **numbers}
        if request["action"] == "list_allocations":
            claim = {"service_name": f"a{bad}", "pool": pool, "allocated_cores": "2", "preemption_policy": "legacy"}
            cpus = dict.fromkeys(("configured_cpus", "eligible_cpus", "unavailable_allocated_cpus"), "2")
            return common | {
                "supported_cpu_features": self._features,
                "cpu_pool": {"source": "isolated", **cpus},
                "outdated_placements": [f"a{bad}"],
                "allocations": [claim | {"cores_count": 1, "is_explicit": True}],
            }
        if request["action"] == "get_memory_info":
            node = {"capacity": [{"total": 1, "free": 1, "size": 2048}], "allocations": {f"a{bad}": {"2048": 1}}}
            return {"version": "1.0", "service_name": "", "numa_hugepages": {"node0": node}}
        return common | {"service_name": f"a{bad}"}


def test_an_older_daemon_is_not_asked_for_a_dry_run() -> None:
    """It would ignore the field, and allocate."""
    with tempfile.TemporaryDirectory() as directory:
        command = Command(Path(directory))
        older = Liar(command.socket, bad="", features=["cpu-pools"])
        try:
            results = [command.run(*words) for words in (["allocate", "a", "1", "--dry-run"], ["explain", "a", "1"])]
        finally:
            older.stop()
    for result in results:
        assert (result.exit_code, result.stdout) == (1, "")
        assert "would really allocate" in result.stderr
    assert {request["action"] for request in older.requests} == {"list_allocations"}


@pytest.mark.parametrize("refuse", [False, True], ids=["answers", "refusals"])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_what_a_lying_server_says_does_not_act_on_the_terminal(as_json: list[str], refuse: bool) -> None:
    """A snap that may write the socket's directory can put its own server there; tests/faults has more of them."""
    with tempfile.TemporaryDirectory() as directory:
        command = Command(Path(directory))
        liar = Liar(command.socket, refuse=refuse)
        try:
            for arguments in ASKING:
                assert command.failure(1 if refuse else 3, *arguments, *as_json)
        finally:
            liar.stop()


@pytest.mark.parametrize("words", [["machine", "--machine", "vm-8"], ["machine", "--machine", "vm-8", "--json"]])
def test_output_that_cannot_be_written_ends_in_a_sentence(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "epa_orchestrator", *words],
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    sentence = "epa-orchestrator: Something cannot be read or written: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, sentence)


@pytest.mark.parametrize("errors", ["2>/dev/full", "2>&-"])
def test_where_neither_output_nor_errors_can_be_written_the_exit_code_still_tells(errors: str) -> None:
    """Python's own at the end of such a process is 120."""
    command = f'exec "$0" -m epa_orchestrator machine --machine vm-8 >/dev/full {errors}'
    buffered = clean_environment() | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(["sh", "-c", command, sys.executable], env=buffered, check=False)
    assert done.returncode == 1
