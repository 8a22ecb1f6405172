# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""For every answer of a server, the client, the command line and the charm end in time, without a traceback.

A snap that may write the socket's directory can put its own server there, and root's commands ask it.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

import daemon_health
import installation
import snap_file
from epa_orchestrator.cli.app import application
from epa_orchestrator.client import client as client_module
from epa_orchestrator.client.client import Client, DaemonError, RefusedByDaemon, Unreachable
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.protocol.answers import Answer
from errors import CharmError
from snap_sources import FileSource
from tests.fake_snapd.server import replace_snapd
from tests.fake_snapd.snaps import write_snap
from tests.functional.harness import clean_environment

from .hostile_behaviours import BEHAVIOURS, ESCAPES, SHORT_FORM
from .hostile_mutations import mutated
from .hostile_server import Behaviour, HostileServer

#: The time-out for a slow server (it is slow for 4 s or more), and the one that only stops a hanging test.
SHORT, PATIENT = 0.15, 30.0

EXIT_CODES: Final = {"fine": 0, "refused": 1, "odd": 3, "late": 3}

CALLS: Final[dict[str, Callable[[Client], Answer | None]]] = {
    "list_allocations": lambda client: client.list_allocations(),
    "general_listing": lambda client: client.general_listing(),
    "memory_info": lambda client: client.memory_info(),
    "allocate": lambda client: client.allocate("a", 2, dry_run=True, explain=True),
    "release": lambda client: client.allocate("a", -1),
    "allocate_percent": lambda client: client.allocate_percent("a", 30, "general", explain=True),
    "allocate_in_node": lambda client: client.allocate_in_node("a", 0, 2, explain=True),
    "set_hugepages": lambda client: client.set_hugepages("a", 0, 2048, -1),
    "machine": lambda client: client.machine(),
    "isolation": lambda client: client.isolation(),
}

COMMANDS: Final = [
    ["status"],
    ["list"],
    ["list", "--pool", "general"],
    ["allocate", "a", "2"],
    ["allocate", "a", "--percent", "50"],
    ["allocate", "a", "2", "--numa-node", "0"],
    ["allocate", "a", "2", "--dry-run"],
    ["explain", "a", "2"],
    ["release", "a"],
    ["hugepages"],
    ["map"],
    ["hugepages", "a", "--count", "1"],
]

CHARM: Final[dict[str, Callable[[], object]]] = {
    "check": lambda: daemon_health.check(CpuSet.parse("2-7")),
    "holdings": lambda: daemon_health.holdings().services,
    "release": lambda: daemon_health.release("a"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the client every behaviour; give the command line and the charm the short form, or all with --long."""
    if "behaviour" in metafunc.fixturenames:
        every = metafunc.config.getoption("--long") or metafunc.function is test_client_recognises_hostile_answers
        behaviours = BEHAVIOURS if every else SHORT_FORM
        metafunc.parametrize("behaviour", behaviours, ids=[each.name for each in behaviours])


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with tempfile.TemporaryDirectory(prefix="epa-") as directory:
        made = HostileServer(Path(directory) / "epa.sock")
        yield made
        made.stop()


@pytest.fixture(scope="module", autouse=True)
def small_limit() -> Iterator[None]:
    """A smaller limit, so that endless answers end sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_module, "_MAX_ANSWER_BYTES", 4 << 20)
        yield


@pytest.fixture(scope="module")
def charm(server: HostileServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """The charm's workload, with its snap installed, and the hostile server where the daemon should be."""
    with pytest.MonkeyPatch.context() as patch, replace_snapd(patch) as fake:
        patch.setattr(snap_file, "INSTALLED_FILES", fake.blobs)
        patch.setattr(daemon_health, "SOCKET", server.path)
        file = write_snap(tmp_path_factory.mktemp("snap") / "epa-orchestrator.snap", "2.0")
        installation.install(FileSource(file))
        yield patch


#: How many lines about the result a command prints on stderr: what is free, the totals of two pools, what stays.
REMARKS: Final = {"allocate": 1, "list": 4, "release": 1}
REMARKS_WITH_JSON: Final = {"release": 1}


def is_shown_as_one_line(text: str) -> bool:
    return text.isprintable() and 0 < len(text) < 20_000


def patience(behaviour: Behaviour) -> float:
    return SHORT if behaviour.outcome == "late" else PATIENT


def expected(behaviour: Behaviour, server: HostileServer) -> str:
    """How an exchange must end; a slow server may not even have accepted when the client gives up."""
    return behaviour.outcome if server.hostile or behaviour.outcome == "late" else "fine"


def outcome_of(client: Client, call: Callable[[Client], Answer | None]) -> str:
    """How a call ends; an exception of another kind is not caught."""
    try:
        answer = call(client)
    except DaemonError as error:
        failure = error
    else:
        check_values(answer and answer.model_dump())
        return "fine"
    assert is_shown_as_one_line(str(failure)), str(failure)[:500]
    if isinstance(failure, RefusedByDaemon):
        return "refused"
    return "late" if isinstance(failure, Unreachable) and "did not answer within" in str(failure) else "odd"


def check_values(value: Any, field: str = "") -> None:
    """Check that the values are harmless, by rules that are independent of the client."""
    if isinstance(value, dict):
        for key, inside in value.items():  # pyright: ignore[reportUnknownVariableType]
            check_values(key)
            check_values(inside, str(key))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list | tuple):
        for inside in value:  # pyright: ignore[reportUnknownVariableType]
            check_values(inside, field)
    elif isinstance(value, str):
        assert not any(unicodedata.category(char) in ("Cc", "Cs", "Cf", "Zl", "Zp") for char in value), value
        if "cpus" in field or field in ("allocated_cores", "cores_allocated"):
            CpuSet.parse(value)
    else:
        assert value is None or -1 <= value < 2**53, value


class Result:
    """The output of a command, and its exit code."""

    def __init__(self, words: list[str], code: int, stdout: str, stderr: str) -> None:
        self.words, self.code, self.stdout, self.stderr = words, code, stdout, stderr

    def check(self, codes: set[int]) -> None:
        """One of these exit codes; one harmless line of error if it is 1 or 3, and else no error."""
        shown = (self.words, self.code, self.stdout[:500], self.stderr[:500])
        assert self.code in codes, shown
        assert "Traceback" not in self.stdout + self.stderr, shown
        assert all(line.isprintable() for line in self.stdout.split("\n")), shown
        if self.code in (1, 3):
            assert self.stderr.startswith("epa-orchestrator: "), shown
            assert self.stderr.endswith("\n"), shown
            assert is_shown_as_one_line(self.stderr[:-1]), shown
            assert self.stdout == "" or self.words[0] == "explain" or self._printed_error(), shown
        elif self.code == 0:
            lines = self.stderr.splitlines()
            remarks = REMARKS_WITH_JSON if "--json" in self.words else REMARKS
            most = remarks.get(self.words[0], 0)
            assert len(lines) <= most, shown
            assert all(is_shown_as_one_line(line) for line in lines), shown

    def _printed_error(self) -> bool:
        """Whether stdout has the same sentence as JSON, as with --json."""
        sentence = self.stderr.removeprefix("epa-orchestrator: ").rstrip("\n")
        return "--json" in self.words and json.loads(self.stdout) == {"error": sentence}


def run(server: HostileServer, words: list[str]) -> Result:
    """Run a command in this process; its exceptions are raised."""
    environment = {"EPA_SOCKET": str(server.path), "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(application(), words, env=environment, prog_name="epa-orchestrator")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Result(words, result.exit_code, result.stdout, result.stderr)


def run_process(server: HostileServer, words: list[str]) -> Result:
    """A command as a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "epa_orchestrator", *words, "--socket", str(server.path)],
        env=clean_environment() | {"COLUMNS": "120", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Result(words, result.returncode, result.stdout, result.stderr)


def charm_says(act: Callable[[], object]) -> str | None:
    """The charm's sentence about the failure; only CharmError is caught."""
    try:
        act()
    except CharmError as error:
        sentence = str(error)
    else:
        return None
    assert is_shown_as_one_line(sentence), sentence[:500]
    return sentence


def check_reason_to_keep_snap() -> str | None:
    reason = daemon_health.reason_to_keep_snap()
    assert reason is None or is_shown_as_one_line(reason), reason[:500]
    return reason


def test_genuine_answers_are_accepted(server: HostileServer, charm: pytest.MonkeyPatch) -> None:
    """Otherwise the tests below could pass for another reason than the hostile change."""
    for name, call in CALLS.items():
        assert outcome_of(Client(server.path), call) == "fine", name
    for words in COMMANDS:
        run(server, words).check({0})
        run(server, [*words, "--json"]).check({0})
    assert {name: charm_says(act) for name, act in CHARM.items()} == dict.fromkeys(CHARM)
    assert daemon_health.holdings().services == ["a", "g"]
    assert daemon_health.release("a") == ["CPUs 2-3 of pool isolated", "4 hugepages of 2M on node0"]
    assert (check_reason_to_keep_snap() or "").startswith("CPUs or hugepages are still held by a, g")


def test_every_behaviour_is_hostile_to_some_call(server: HostileServer) -> None:
    assert len(BEHAVIOURS) > 60
    for behaviour in BEHAVIOURS:
        if behaviour.outcome != "late":
            with server.behaving(behaviour):
                for call in CALLS.values():
                    outcome_of(Client(server.path, PATIENT), call)
                assert server.hostile, behaviour.name


def test_client_recognises_hostile_answers(behaviour: Behaviour, server: HostileServer) -> None:
    for name, call in CALLS.items():
        with server.behaving(behaviour):
            outcome = outcome_of(Client(server.path, patience(behaviour)), call)
            assert outcome == expected(behaviour, server), name


def test_command_survives_hostile_answers(
    behaviour: Behaviour, server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client.__init__, "__defaults__", (patience(behaviour),))
    for number, words in enumerate(COMMANDS):
        with server.behaving(behaviour):
            result = run(server, [*words, *(["--json"] if number % 2 else [])])
            is_only_the_note = words[0] == "release" and set(server.hostile) == {"get_memory_info"}
            result.check({0 if is_only_the_note else EXIT_CODES[expected(behaviour, server)]})


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=map(" ".join, COMMANDS))
def test_command_process_survives_hostile_answers(number: int, server: HostileServer, long: bool) -> None:
    """Every command once, each with another behaviour; in the long form with every behaviour of whole answers."""
    whole = [each for each in BEHAVIOURS if each.outcome in ("odd", "refused")][:40]
    for behaviour in whole if long else [whole[number]]:
        with server.behaving(behaviour):
            run_process(server, COMMANDS[number]).check({EXIT_CODES[behaviour.outcome]})


def test_charm_survives_hostile_answers(behaviour: Behaviour, server: HostileServer, charm: pytest.MonkeyPatch) -> None:
    charm.setattr(daemon_health, "_ANSWER_TIMEOUT", patience(behaviour))
    for name, act in CHARM.items():
        with server.behaving(behaviour):
            said = charm_says(act)
            assert (said is not None) == (expected(behaviour, server) != "fine"), (name, said)
    with server.behaving(behaviour):
        reason = check_reason_to_keep_snap()
        unknown = expected(behaviour, server) != "fine"
        assert (reason or "").startswith(
            "its claims cannot be read" if unknown else "CPUs or hugepages are still held by a, g"
        )


def test_gives_up_on_a_server_that_accepts_nobody(
    server: HostileServer, charm: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue stays full: connect(2) fails with EAGAIN, and the client tries again until its time-out."""
    path = server.path.with_name("full")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(path))
        listener.listen(0)
        waiting.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        for name, call in CALLS.items():
            assert outcome_of(Client(path, SHORT), call) == "late", name
        monkeypatch.setattr(Client.__init__, "__defaults__", (SHORT,))
        for words in COMMANDS:
            run(server, [*words, "--socket", str(path)]).check({3})
        with charm.context() as patch:
            patch.setattr(daemon_health, "SOCKET", path)
            patch.setattr(daemon_health, "_ANSWER_TIMEOUT", SHORT)
            assert all(charm_says(act) for act in CHARM.values())
            assert (check_reason_to_keep_snap() or "").startswith("its claims cannot be read")


def test_status_reports_an_unreadable_state(server: HostileServer) -> None:
    """No other test leads to this exit code."""
    behaviour = Behaviour("read-only", "fine", lambda each: each.connection.sendall(read_only(each.genuine)) is None)
    with server.behaving(behaviour):
        result = run(server, ["status"])
    result.check({4})
    assert result.stderr == "READ-ONLY: The disk is gone\n"


def read_only(genuine: bytes) -> bytes:
    return json.dumps(json.loads(genuine) | {"state_error": "The disk is gone"}).encode()


@pytest.mark.parametrize("block", range(10))
def test_mutated_answers_cause_no_crash(
    block: int, server: HostileServer, charm: pytest.MonkeyPatch, long: bool
) -> None:
    """Random changes of genuine answers; each exchange of a seed is changed in another way."""
    charm.setattr(daemon_health, "_ANSWER_TIMEOUT", PATIENT)
    outcomes: set[str] = set()
    for seed in range(block, 5000 if long else 250, 10):
        choose = random.Random(seed)
        with server.behaving(mutating(choose)):
            outcomes |= {outcome_of(Client(server.path, PATIENT), call) for call in CALLS.values()}
            for words in choose.sample(COMMANDS, 3):
                run(server, [*words, *choose.choice(([], ["--json"]))]).check({0, 1, 3, 4})
            charm_says(choose.choice(list(CHARM.values())))
            check_reason_to_keep_snap()
    assert outcomes >= {"fine", "odd"}, "the mutations are neither all harmless nor all fatal"


def mutating(choose: random.Random) -> Behaviour:
    return Behaviour("mutations", "odd", lambda each: each.connection.sendall(mutated(each.genuine, choose)) is None)


def test_mutations_include_escapes() -> None:
    """Without escapes in the mutations, the check for escapes would find nothing."""
    answers = [mutated(b'{"a":"b","c":["d",{"e":1}]}', random.Random(seed)) for seed in range(200)]
    assert any(json.dumps(ESCAPES)[1:-1].encode() in answer for answer in answers)
    assert len(set(answers)) > 100
