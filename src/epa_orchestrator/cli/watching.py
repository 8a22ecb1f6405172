# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The option --watch: a command goes on, and shows what it shows again whenever something changes, until Ctrl-C.

When the daemon restarts, it connects again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from epa_orchestrator.cli.connect import require_feature
from epa_orchestrator.cli.output import say, write

if TYPE_CHECKING:
    from epa_orchestrator.client import Client, Watch

_Answer = TypeVar("_Answer")

#: Changes that come within this time (seconds) of each other are shown together, but after this one at the latest.
_TOGETHER: Final = 0.05
_AT_LATEST: Final = 0.5
#: How long (seconds) a command tries to connect to a daemon that has stopped, and the pause between two attempts.
_RESTART: Final = 60.0
_PAUSE: Final = 0.5
#: Moves the cursor of a terminal to its first line, and clears it (ECMA-48: CUP, ED).
_CLEAR: Final = "\x1b[H\x1b[2J"

WatchOption = Annotated[bool, typer.Option("--watch", help="Show it again whenever something changes, until Ctrl-C.")]


def watch(client: Client, draw: Callable[[], object]) -> None:
    """Call `draw` now and after every change: in place on a terminal, else one below the other.

    Raises DaemonError.
    """
    in_place = sys.stdout.isatty()
    times = count()

    def show() -> Iterator[None]:
        for _ in _changes(client):
            if in_place:
                write(_CLEAR)
            elif next(times):
                write("\n")
            draw()
            if in_place:
                say("Shown again at each change. Ctrl-C ends.", err=True)
            yield

    with suppress(KeyboardInterrupt):
        for _ in _through_restarts(client, show):
            pass


def watch_as_json(client: Client, pool: str = "isolated") -> None:
    """Print each line of a watch as the daemon sends it: the state, then every change.

    After a restart of the daemon it begins again. Raises DaemonError.
    """

    def show() -> Iterator[None]:
        _require_watch(client)
        with client.watch(pool) as changes:
            for _ in changes:
                write(f"{json.dumps(changes.document)}\n")
                yield

    with suppress(KeyboardInterrupt):
        for _ in _through_restarts(client, show):
            pass


def answers(client: Client, ask: Callable[[], _Answer], seconds: float) -> Iterator[_Answer]:
    """What `ask` returns: at once, after each change, and at least every so many seconds, without an end.

    For what changes without a line of a watch too, such as the kernel's hugepages. An older daemon tells no changes.

    Raises DaemonError.
    """
    return _through_restarts(client, lambda: (ask() for _ in _moments(client, seconds)))


def _through_restarts(client: Client, run: Callable[[], Iterator[_Answer]]) -> Iterator[_Answer]:
    """What `run` yields. If the daemon stops, `run` begins again with the next one. Raises DaemonError."""
    from epa_orchestrator.client import Unreachable

    began = False
    while True:
        try:
            for each in run():
                began = True
                yield each
        except Unreachable:
            if not began:
                raise
        _connect_again(client)


def _connect_again(client: Client) -> None:
    """Wait until a daemon answers, which may be another version. Raises DaemonError."""
    from epa_orchestrator.client import Unreachable

    say(
        f"note: the daemon at {client.path} has ended the connection; this command tries for {_RESTART:.0f} seconds to"
        " connect again",
        err=True,
    )
    latest = time.monotonic() + _RESTART
    while True:
        time.sleep(_PAUSE)
        try:
            client.list_allocations()
        except Unreachable:
            if time.monotonic() > latest:
                raise
        else:
            return


def _changes(client: Client) -> Iterator[None]:
    """The present moment, and one after each change."""
    _require_watch(client)
    with client.watch() as changes:
        for _ in changes:
            _take_those_at_once(changes)
            yield


def _moments(client: Client, seconds: float) -> Iterator[None]:
    """The present moment, one after each change, and one at least every so many seconds."""
    if not client.supports("watch"):
        while True:
            yield
            time.sleep(seconds)
    with client.watch() as changes:
        next(changes)
        while True:
            yield
            if changes.has_more(seconds):
                _take_those_at_once(changes)


def _require_watch(client: Client) -> None:
    require_feature(client, "watch", "tell changes", ", or leave out --watch")


def _take_those_at_once(changes: Watch) -> None:
    """Pass over the changes that come together with the last one."""
    latest = time.monotonic() + _AT_LATEST
    while time.monotonic() < latest and changes.has_more(_TOGETHER):
        next(changes)
