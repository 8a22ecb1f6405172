# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A request that would take CPUs of other services asks first, and takes no others than it was allowed to."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import typer

from epa_orchestrator.cli.consent import require_consent, show_taken
from epa_orchestrator.client import Client
from epa_orchestrator.protocol.answers import NumaCoresAnswer
from tests.unit.cli.builders import Daemon

#: With the CPUs as in `full`, this takes CPUs 6-7.
TAKING = ("allocate", "ovs", "2", "--numa-node", "0")
LOSS = "'ceph' would lose CPUs 6-7 to 'ovs'"


@pytest.fixture
def full(daemon: Daemon) -> Daemon:
    """The daemon, whose CPUs are all held: nova has CPUs 2-5, which nobody may take, and ceph CPUs 6-7."""
    daemon.client.allocate("nova", 4, preemption_policy="non-preemptive")
    daemon.client.allocate("ceph", 2)
    return daemon


def held(daemon: Daemon) -> dict[str, str]:
    return {claim.service_name: claim.allocated_cores for claim in daemon.client.list_allocations().allocations}


BEFORE = {"nova": "2-5", "ceph": "6-7"}
AFTER = {"nova": "2-5", "ovs": "6-7"}


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_without_a_terminal_nothing_is_taken(as_json: list[str], full: Daemon) -> None:
    assert full.failure(1, *TAKING, *as_json) == (
        f"Nothing was changed, because other services would lose CPUs: {LOSS}. Add --take to allow it"
    )
    assert held(full) == BEFORE


def test_without_a_terminal_a_process_does_not_wait_for_an_answer(full: Daemon) -> None:
    result = full.run_process(*TAKING)
    assert (result.returncode, result.stdout) == (1, "")
    assert LOSS in result.stderr


def test_question_names_the_losers(full: Daemon) -> None:
    _, _, shown = full.on_terminal(*TAKING, answer=lambda: "n\n")
    assert shown.startswith(f"{LOSS}\nTake these CPUs? [y/N] ")


@pytest.mark.parametrize("answer", ["y\n", "Y\n", "yes\n", " YES \n"])
def test_yes_takes_the_cpus(answer: str, full: Daemon) -> None:
    code, stdout, shown = full.on_terminal(*TAKING, answer=lambda: answer)
    assert (code, stdout) == (0, "6-7\n")
    assert shown.endswith("\n'ceph' lost CPUs 6-7 to 'ovs'\n0 of 6 CPUs still free\n")
    assert held(full) == AFTER


@pytest.mark.parametrize("answer", ["n\n", "\n", "no\n", "yy\n", "take\n", "\x04"])
def test_any_other_answer_takes_nothing(answer: str, full: Daemon) -> None:
    """The last one is the end of the input, Ctrl-D."""
    code, stdout, shown = full.on_terminal(*TAKING, answer=lambda: answer)
    assert (code, stdout) == (1, "")
    assert shown.endswith("epa-orchestrator: Nothing was changed\n")
    assert held(full) == BEFORE


def test_interrupted_question_takes_nothing(full: Daemon) -> None:
    code, stdout, _ = full.on_terminal(*TAKING, answer=lambda: "\x03")
    assert code != 0
    assert stdout == ""
    assert held(full) == BEFORE


def test_json_on_a_terminal_stays_json(full: Daemon) -> None:
    code, stdout, _ = full.on_terminal(*TAKING, "--json", answer=lambda: "y\n")
    assert code == 0
    assert json.loads(stdout)["taken"] == {"ceph": "6-7"}


@pytest.mark.parametrize(("as_json", "stdout"), [([], "6-7\n"), (["--json"], None)])
def test_take_asks_nothing(as_json: list[str], stdout: str | None, full: Daemon) -> None:
    result = full.run(*TAKING, "--take", *as_json)
    assert (result.exit_code, result.stderr.splitlines()[0]) == (0, "'ceph' lost CPUs 6-7 to 'ovs'")
    assert stdout is None or result.stdout == stdout
    assert held(full) == AFTER


def test_take_asks_nothing_on_a_terminal(full: Daemon) -> None:
    assert full.on_terminal(*TAKING, "--take")[0] == 0
    assert held(full) == AFTER


@pytest.mark.parametrize(
    "command",
    [
        ("allocate", "ovs", "2", "--numa-node", "0"),
        ("allocate", "ovs", "2"),
        ("allocate", "ovs", "--percent", "30"),
        ("allocate", "ovs", "--default-size"),
    ],
)
def test_request_that_takes_nothing_asks_nothing(command: tuple[str, ...], daemon: Daemon) -> None:
    code, _, shown = daemon.on_terminal(*command)
    assert code == 0
    assert shown.endswith("CPUs still free\n")
    assert "?" not in shown


@pytest.mark.parametrize("command", [(*TAKING, "--dry-run"), ("explain", *TAKING[1:])])
def test_dry_run_shows_who_would_lose(command: tuple[str, ...], full: Daemon) -> None:
    result = full.run(*command)
    assert (result.exit_code, result.stderr.splitlines()[0]) == (0, LOSS)
    assert held(full) == BEFORE


def test_request_is_refused_when_another_service_would_lose_by_now(full: Daemon) -> None:
    """While the person reads the question, ceph gives its CPUs back, and another service gets them."""

    def answer() -> str:
        full.client.allocate("ceph", -1)
        full.client.allocate("swift", 2)
        return "y\n"

    code, stdout, shown = full.on_terminal(*TAKING, answer=answer)
    assert (code, stdout) == (1, "")
    assert "would take CPUs 6-7 from 'swift'" in shown
    assert held(full) == {"nova": "2-5", "swift": "6-7"}


def test_request_is_refused_when_other_cpus_would_be_taken_by_now(daemon: Daemon) -> None:
    """While the person reads the question, the CPUs that were free for the request become somebody's."""
    daemon.client.allocate("nova", 3, preemption_policy="non-preemptive")
    daemon.client.allocate("ceph", 2)

    def answer() -> str:
        daemon.client.allocate("swift", 1, preemption_policy="non-preemptive")
        return "y\n"

    code, _, shown = daemon.on_terminal("allocate", "ovs", "2", "--numa-node", "0", answer=answer)
    assert code == 1
    assert "'ceph' would lose CPU 6 to 'ovs'" in shown
    assert "would take CPUs 6-7 from 'ceph'" in shown
    assert held(daemon) == {"nova": "2-4", "ceph": "6-7", "swift": "5"}


def test_request_that_takes_nothing_is_refused_when_it_would_take_by_now(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The free CPUs go to another service between the dry run and the request."""

    send = Client.allocate_in_node

    def send_and_be_overtaken(client: Client, *args: Any, **fields: Any) -> NumaCoresAnswer:
        answer = send(client, *args, **fields)
        if fields.get("dry_run"):
            daemon.client.allocate("ceph", 6)
        return answer

    monkeypatch.setattr(Client, "allocate_in_node", send_and_be_overtaken)
    sentence = daemon.failure(1, *TAKING)
    assert "would take CPUs 2-3 from 'ceph'" in sentence
    assert sentence.endswith("Run the command again to be asked again, or add --take")
    assert held(daemon) == {"ceph": "2-7"}


class Terminal(io.StringIO):
    """A terminal on which somebody types y."""

    def __init__(self) -> None:
        super().__init__("y\n")

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", ["stdin", "stderr"])
def test_question_needs_a_terminal_to_be_shown_and_answered(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, stream, Terminal())
    with pytest.raises(typer.Exit):
        require_consent("ovs", {"ceph": "2"})


def test_names_are_shown_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    show_taken("a\x1b[31m", {"b\r\u202e": "2-3\x07"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()


MANY = {f"service-{number}": str(number) for number in range(5000)}


@pytest.mark.parametrize("show", [lambda: require_consent("a", MANY), lambda: show_taken("a", MANY)])
def test_endless_losses_are_cut(show: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(typer.Exit):
        show()
    text = capsys.readouterr().err
    assert len(text) < 16_000
    assert "more" in text
    assert "--dry-run --json" in text
