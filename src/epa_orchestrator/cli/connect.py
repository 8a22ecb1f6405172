# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Connects a command to the daemon, and gives each kind of failure its exit code."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from epa_orchestrator import paths
from epa_orchestrator.cli.output import (
    EXIT_READ_ONLY,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    end_if_read_only,
    fail,
    warn,
)

if TYPE_CHECKING:
    from epa_orchestrator.client import Client

#: How long (seconds) a command that needs no daemon waits for one.
_PATIENCE: Final = 3.0


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


def _end_refused(client: Client, refusal: str) -> None:
    """End a refused command; the exit code tells whether the daemon is read-only."""
    problem = _state_error(client)
    if problem is None:
        fail(refusal)
    if refusal.startswith(problem):
        fail(f"READ-ONLY: {refusal}", EXIT_READ_ONLY)
    fail(f"{refusal}. READ-ONLY: {problem}", EXIT_READ_ONLY)


def _state_error(client: Client) -> str | None:
    """Why the daemon serves readings only; None if it does not, or if it does not answer."""
    from epa_orchestrator.client import DaemonError

    try:
        return client.list_allocations().state_error
    except DaemonError:
        return None
