# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The protocol's document is right: its exchanges are replayed, its tables complete, its clients work."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import pytest
from pydantic import BaseModel

from epa_orchestrator.protocol.answers import (
    FEATURES,
    CoresAnswer,
    ErrorAnswer,
    HugepagesAnswer,
    Listing,
    MemoryAnswer,
    NumaCoresAnswer,
    PercentAnswer,
)
from epa_orchestrator.protocol.history import ClaimAnswer, HistoryAnswer
from epa_orchestrator.protocol.isolation import IsolationAnswer
from epa_orchestrator.protocol.machine import MachineAnswer
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.watching import ClaimEvent, HugepagesEvent, MachineEvent, StateEvent
from tools.make_machines import SHIPPED
from tools.write_protocol import DOCUMENT, build_schema, fill_in, tables

from .harness import PATIENCE, Daemon, Json, connect

TEXT: Final = DOCUMENT.read_text(encoding="utf-8")
ANSWERS: Final[dict[str, type[BaseModel]]] = {
    "allocate_cores": CoresAnswer,
    "allocate_cores_percent": PercentAnswer,
    "allocate_numa_cores": NumaCoresAnswer,
    "list_allocations": Listing,
    "get_memory_info": MemoryAnswer,
    "allocate_hugepages": HugepagesAnswer,
    "get_machine": MachineAnswer,
    "watch": StateEvent,
    "get_history": HistoryAnswer,
    "get_claim": ClaimAnswer,
    "get_isolation": IsolationAnswer,
}
#: What differs from one run or host to the next: times, the process that asks, and what an audit finds.
VARYING: Final[Json] = {
    "at": 1795789630.25,
    "pid": 4711,
    "uid": 0,
    "gid": 0,
    "comm": "nova-compute",
    "unit": None,
    "snap": None,
    "read_at": 1795789690.5,
    "asked_at": 1795789630.25,
    "checks": [],
    "noise": None,
    "now": None,
    "since": None,
    "culprit": None,
    "remedy": None,
    "problem": None,
}
EVENTS: Final[dict[str, type[BaseModel]]] = {"claim": ClaimEvent, "machine": MachineEvent, "hugepages": HugepagesEvent}


class Exchange(NamedTuple):
    """A request and its answer as the document shows them, and the lines that a watching client gets then."""

    request: Json
    answer: Json
    lines: tuple[Json, ...] = ()


class Replayed(NamedTuple):
    """The answer of a daemon, and the lines that a watching client got."""

    answer: bytes
    lines: tuple[bytes, ...]


def exchanges_in(document: str) -> list[Exchange]:
    """The exchanges of a document, in order: `-> request`, `<- answer`, `<+ line` in blocks without a language."""
    blocks = re.findall(r"^```\n(-> .*?)^```$", document, re.MULTILINE | re.DOTALL)
    pairs = re.findall(r"^-> (.*?)^<- (.*?)(?=^-> |\Z)", "".join(blocks), re.MULTILINE | re.DOTALL)
    found: list[Exchange] = []
    for request, answers in pairs:
        answer, *lines = re.split(r"^<\+ ", answers, flags=re.MULTILINE)
        found.append(Exchange(json.loads(request), json.loads(answer), tuple(map(json.loads, lines))))
    return found


def code_in(language: str) -> str:
    """The document's block of code in a language."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return code


def started() -> Daemon:
    """The daemon of the document: the machine vm-8, with a general pool."""
    return Daemon(SHIPPED["vm-8"][1], {"cpu-pool": "0-1"})


def replay(exchanges: list[Exchange]) -> list[Replayed]:
    """The answers of a new daemon to the requests, and what a client gets that goes on watching."""
    replayed: list[Replayed] = []
    with started() as daemon, ExitStack() as watching:
        daemon.start()
        reader: BinaryIO = watching.enter_context(io.BytesIO())
        for each in exchanges:
            request = json.dumps(each.request).encode()
            if each.request["action"] == "watch":
                client = watching.enter_context(connect(daemon.socket_path))
                client.sendall(request)
                reader = watching.enter_context(client.makefile("rb"))
                answer = reader.readline()
            else:
                answer = daemon.request(request)
            replayed.append(Replayed(answer, tuple([reader.readline() for _ in each.lines])))
    return replayed


@pytest.fixture(scope="module")
def answers() -> list[Replayed]:
    """The answers of a new daemon to the document's requests."""
    return replay(EXCHANGES)


EXCHANGES: Final = exchanges_in(TEXT)


def test_the_daemon_gives_the_answers_of_the_document(answers: list[Replayed]) -> None:
    """Also in the order of the fields."""
    for exchange, (answer, lines) in zip(EXCHANGES, answers, strict=True):
        found = json.loads(answer, object_hook=without_varying)
        shown = json.loads(json.dumps(exchange.answer), object_hook=without_varying)
        assert json.dumps(found, indent=1) == json.dumps(shown, indent=1), exchange.request
        assert [json.dumps(json.loads(line)) for line in lines] == list(map(json.dumps, exchange.lines))


def without_varying(document: Json) -> Json:
    """A part of an answer with the values that the document shows; what it does not show is left out."""
    shown = {name: VARYING.get(name, value) for name, value in document.items()}
    return {name: value for name, value in shown.items() if value is not None or name not in VARYING}


def test_every_request_of_the_document_is_replayed() -> None:
    assert TEXT.count("\n-> ") == TEXT.count("\n<- ") == len(EXCHANGES)


def test_a_wrong_answer_in_the_document_is_noticed() -> None:
    (right,) = replay(EXCHANGES[:1])
    wrong = exchanges_in(TEXT.replace('"remaining_available_cpus": 6', '"remaining_available_cpus": 5', 1))[0]
    assert json.loads(right.answer) != wrong.answer


@pytest.mark.parametrize("action", ANSWERS)
def test_every_action_has_a_section_with_an_exchange(action: str) -> None:
    (section,) = re.findall(rf"^### {action}\n(.*?)(?=^##+ \w)", TEXT + "\n## end", re.MULTILINE | re.DOTALL)
    assert f"<!-- fields: {type_of(action)} -->" in section
    requests = [each.request["action"] for each in EXCHANGES]
    assert action in requests


def type_of(action: str) -> str:
    """The name of an action's request."""
    return "".join(word.capitalize() for word in action.split("_"))


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.request["action"])
def test_an_exchange_is_valid_by_the_models(exchange: Exchange) -> None:
    validate(exchange.request)
    model = ErrorAnswer if "error" in exchange.answer else ANSWERS[exchange.request["action"]]
    model.model_validate_json(json.dumps(exchange.answer), strict=True)
    for line in exchange.lines:
        EVENTS[line["event"]].model_validate_json(json.dumps(line), strict=True)


def test_an_error_begins_with_the_bytes_that_the_document_promises(answers: list[Replayed]) -> None:
    promised = '{"version":"1.0","error":'
    assert f"`{promised}`" in TEXT
    errors = [answer for answer, _ in answers if "error" in json.loads(answer)]
    assert errors
    assert all(answer.startswith(promised.encode()) for answer in errors)


# --- tables ---


def test_the_table_of_every_model_is_in_the_document() -> None:
    for name in tables():
        assert TEXT.count(f"<!-- fields: {name} -->\n") == 1, name
    assert fill_in(TEXT) == TEXT


def test_the_schema_has_the_fields_of_every_table() -> None:
    """The tables leave out `action`, and what is in another table."""
    definitions = build_schema()["$defs"]
    in_tables = {field for rows in tables().values() for field in re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)}
    in_schema = {field for model in definitions.values() for field in model.get("properties", ())}
    assert in_schema - {"action"} == in_tables


def test_every_feature_is_in_the_document() -> None:
    (section,) = re.findall(r"^## Features\n(.*?)^## ", TEXT, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `([a-z-]+)` \| (?:1\.0|this daemon) \| \S", section, re.MULTILINE)
    assert tuple(rows) == FEATURES


# --- clients ---


@pytest.fixture(scope="module")
def socket_path() -> Iterator[Path]:
    """The socket of a daemon on which the clients can have CPUs 2 and 3."""
    with started() as daemon:
        yield daemon.start().socket_path


@pytest.fixture(scope="module")
def full_path() -> Iterator[Path]:
    """The socket of a daemon with one CPU left."""
    with started() as daemon:
        daemon.start().cores("other", 5)
        yield daemon.socket_path


@pytest.fixture(params=["python", "sh", "c"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The command of a client of the document."""
    language: str = request.param
    path = tmp_path / f"client.{language}"
    path.write_text(code_in(language))
    for program in {"sh": ("nc", "jq"), "c": ("cc",)}.get(language, ()):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed, which this client needs")
    if language == "c":
        compiler = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / "client"), str(path)]
        subprocess.run(compiler, check=True, timeout=PATIENCE)
        return [str(tmp_path / "client")]
    return [sys.executable if language == "python" else "sh", str(path)]


def run(client: list[str], path: Path) -> subprocess.CompletedProcess[str]:
    """Run a client on a socket."""
    return subprocess.run([*client, str(path)], capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_a_client_prints_its_cpus(client: list[str], socket_path: Path) -> None:
    done = run(client, socket_path)
    assert (done.returncode, done.stderr) == (0, "")
    printed: Any = json.loads(done.stdout) if done.stdout.startswith("{") else {"allocated_cores": done.stdout.strip()}
    assert printed["allocated_cores"] == "2-3"


def test_a_client_shows_why_it_is_refused(client: list[str], full_path: Path) -> None:
    done = run(client, full_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Insufficient CPUs available. Requested: 2, Available: 1" in done.stderr


def test_a_client_fails_without_a_daemon(client: list[str], tmp_path: Path) -> None:
    done = run(client, tmp_path / "none.sock")
    assert done.returncode != 0
    assert done.stdout == ""
    assert "none.sock" in done.stderr or "No such file" in done.stderr
