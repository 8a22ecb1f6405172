# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Connects a command to the daemon, and gives each kind of failure its exit code."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from epa_orchestrator import paths
from epa_orchestrator.cli.output import (
    EXIT_READ_ONLY,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    end_if_read_only,
    fail,
    say,
    warn,
)

if TYPE_CHECKING:
    from epa_orchestrator.client import Client

_Answer = TypeVar("_Answer")

#: How long (seconds) a command that needs no daemon waits for one.
_PATIENCE: Final = 3.0
#: Sentences with more characters in common tell one fact.
_LEAST_COMMON: Final = 20


@contextmanager
def connect(socket: Path | None) -> Generator[Client]:
    """A client whose errors end the command with one sentence and an exit code."""
    from epa_orchestrator.client import Client, DaemonError, RefusedByDaemon

    client = Client(socket or paths.client_socket_path())
    try:
        yield client
    except RefusedByDaemon as error:
        warn(error.warnings)
        _end_refused(client, str(error))
    except DaemonError as error:
        fail(str(error), EXIT_UNREACHABLE)


@contextmanager
def without_daemon() -> Generator[None]:
    """For a command that needs no daemon: say at its end, with the exit code, that the running daemon is read-only."""
    from epa_orchestrator.client import Client

    client = Client(paths.client_socket_path(), _PATIENCE)
    try:
        yield
    except typer.Exit as ended:
        if ended.exit_code == EXIT_REFUSED:
            end_if_read_only(_state_error(client))
        raise
    end_if_read_only(_state_error(client))


def require_feature(client: Client, feature: str, what: str, instead: str = "") -> None:
    """End the command if the daemon is too old for it, before it gets a request that it would misunderstand.

    `what` completes "cannot …"; `instead` is another way out, such as ", or leave out --watch".
    """
    if not client.supports(feature):
        fail(_too_old(what) + instead)


def ask_if_possible(
    socket: Path | None, feature: str, what: str, ask: Callable[[Client], _Answer], otherwise: str
) -> _Answer | None:
    """The daemon's answer; None where no daemon can give one: a note on stderr says why, and what happens `otherwise`.

    A socket that was given means this daemon, and nothing takes its place. `what` completes "cannot …".
    """
    from epa_orchestrator.client import Unreachable

    with connect(socket) as client:
        if socket is not None:
            require_feature(client, feature, what)
            return ask(client)
        try:
            if client.supports(feature):
                return ask(client)
            reason = _too_old(what)
        except Unreachable as error:
            reason = str(error)
    say(f"note: {reason}. {otherwise}", err=True)
    return None


def _too_old(what: str) -> str:
    return f"This daemon is older than this command and cannot {what}: upgrade the daemon"


def _end_refused(client: Client, refusal: str) -> None:
    """End a refused command; the exit code tells whether the daemon is read-only."""
    problem = _state_error(client)
    if problem is None:
        fail(refusal)
    fail(read_only_sentence(refusal, problem), EXIT_READ_ONLY)


def read_only_sentence(refusal: str, problem: str) -> str:
    """A refusal, and why the daemon is read-only; what both tell is there once."""
    if problem in refusal:
        return f"READ-ONLY: {refusal}"
    end, start = refusal.lower(), problem.lower()
    for common in range(len(start), _LEAST_COMMON, -1):
        if end.endswith(start[:common]):
            return f"READ-ONLY: {refusal}{problem[common:]}"
    return f"{refusal}. READ-ONLY: {problem}"


def _state_error(client: Client) -> str | None:
    """Why the daemon serves readings only; None if it does not, or if it does not answer."""
    from epa_orchestrator.client import DaemonError

    try:
        return client.list_allocations().state_error
    except DaemonError:
        return None
