# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Connects a command to the daemon, and gives each kind of failure its exit code."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from epa_orchestrator import paths
from epa_orchestrator.cli.output import EXIT_UNREACHABLE, fail

if TYPE_CHECKING:
    from epa_orchestrator.client import Client


@contextmanager
def connect(socket: Path | None) -> Generator[Client]:
    """A client whose errors end the command with one sentence and an exit code."""
    from epa_orchestrator.client import Client, DaemonError, RefusedByDaemon

    try:
        yield Client(socket or paths.client_socket_path())
    except RefusedByDaemon as error:
        fail(str(error))
    except DaemonError as error:
        fail(str(error), EXIT_UNREACHABLE)
