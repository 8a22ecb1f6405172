# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The option --watch: a command goes on, and shows what it shows again whenever something changes, until Ctrl-C."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epa_orchestrator.cli.connect import require_feature
from epa_orchestrator.cli.output import say, write

if TYPE_CHECKING:
    from epa_orchestrator.client import Client, Watch

#: Changes that come within this time (seconds) of each other are shown together, but after this one at the latest.
_TOGETHER: Final = 0.05
_AT_LATEST: Final = 0.5
#: Moves the cursor of a terminal to its first line, and clears it (ECMA-48: CUP, ED).
_CLEAR: Final = "\x1b[H\x1b[2J"

WatchOption = Annotated[bool, typer.Option("--watch", help="Show it again whenever something changes, until Ctrl-C.")]


def watch(client: Client, draw: Callable[[], object]) -> None:
    """Call `draw` now and after every change: in place on a terminal, else one below the other.

    Raises DaemonError, also when the daemon ends the watch.
    """
    in_place = sys.stdout.isatty()
    with _watching(client) as changes:
        for number, _ in enumerate(changes):
            _take_those_at_once(changes)
            if in_place:
                write(_CLEAR)
            elif number:
                write("\n")
            draw()
            if in_place:
                say("Shown again at each change. Ctrl-C ends.", err=True)


def watch_as_json(client: Client, pool: str = "isolated") -> None:
    """Print each line of a watch as the daemon sends it: the state, then every change.

    Raises DaemonError, also when the daemon ends the watch.
    """
    with _watching(client, pool) as changes:
        for _ in changes:
            write(f"{json.dumps(changes.document)}\n")


def moments(client: Client, seconds: float) -> Iterator[None]:
    """A moment at once, one after each change, and one at least every so many seconds, without an end.

    For what changes without a line of a watch too, such as the kernel's hugepages. An older daemon tells no changes.

    Raises DaemonError, also when the daemon ends the watch.
    """
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


@contextmanager
def _watching(client: Client, pool: str = "isolated") -> Generator[Watch]:
    """The changes that a daemon tells; Ctrl-C ends the block without an error."""
    require_feature(client, "watch", "tell changes", ", or leave out --watch")
    try:
        with client.watch(pool) as changes:
            yield changes
    except KeyboardInterrupt:
        return


def _take_those_at_once(changes: Watch) -> None:
    """Pass over the changes that come together with the last one."""
    latest = time.monotonic() + _AT_LATEST
    while time.monotonic() < latest and changes.has_more(_TOGETHER):
        next(changes)
