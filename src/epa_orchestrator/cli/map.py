# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `map`: the machine as nested boxes, with the owner and the state of each CPU."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from epa_orchestrator.cli.connect import connect, require_feature
from epa_orchestrator.cli.options import JsonOption, SocketOption, whole_number, within
from epa_orchestrator.cli.output import Misuse, end_if_read_only, print_json, say, warn
from epa_orchestrator.cli.recordings import is_stdout, write_file
from epa_orchestrator.cli.watching import WatchOption, answers

if TYPE_CHECKING:
    from rich.console import Console

    from epa_orchestrator.client import Client
    from epa_orchestrator.picture.model import Picture

#: The columns for a file or another program, unless the variable COLUMNS says otherwise.
_COLUMNS: Final = 80
#: How often (seconds) the daemon is asked at least: it tells no change of the kernel's hugepages.
_EVERY: Final = 1.0


def map_(
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Write an SVG picture to this file instead; `-` is stdout.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            help="The width: columns on the terminal, pixels of an SVG picture.",
            parser=whole_number,
            callback=within(40, 10_000),
        ),
    ] = None,
    watch: WatchOption = False,
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the machine as nested boxes, with the owner of each CPU.

    Each CPU has the letter of its service, or the mark of its state. The pictures fold into the width of the terminal.

    Examples:
      epa-orchestrator map
      epa-orchestrator map --watch
      epa-orchestrator map --svg map.svg
      epa-orchestrator map --svg - --width 1200 > map.svg
    """
    if watch and (svg is not None or json_):
        raise Misuse("--watch draws on the terminal: leave out --svg and --json")
    if svg is not None and json_:
        raise Misuse("--svg and --json are two forms of one picture: choose one")
    with connect(socket) as client:
        if watch:
            _watch(client, width)
            return
        seen = _ask(client)
    if json_:
        from epa_orchestrator.picture.answers import document_of

        state = {} if seen.problem is None else {"state_error": seen.problem}
        print_json(document_of(seen.picture) | state)
    elif svg is not None:
        _write_svg(svg, seen.picture, width)
    else:
        from epa_orchestrator.cli.show import console

        _print(console(), seen.picture, width)
    warn(seen.warnings)
    end_if_read_only(seen.problem)


class Seen(NamedTuple):
    """What the daemon has answered: the picture, warnings, and why it is read-only."""

    picture: Picture
    warnings: tuple[str, ...]
    problem: str | None


def _ask(client: Client) -> Seen:
    from epa_orchestrator.picture.answers import picture_of

    listings = [client.list_allocations()]
    require_feature(client, "get-machine", "describe its machine", ", or use the commands list and machine")
    if general := client.general_listing():
        listings.append(general)
    picture = picture_of(client.machine(), listings, client.memory_info())
    warnings = tuple(dict.fromkeys(warning for listing in listings for warning in listing.warnings))
    return Seen(picture, warnings, listings[0].state_error)


def _write_svg(path: Path, picture: Picture, width: int | None) -> None:
    from epa_orchestrator.picture import svg

    text = svg.draw(picture, width or svg.WIDTH)
    write_file(path, text)
    if not is_stdout(path):
        say(f"wrote {path}", err=True)


def _print(console: Console, picture: Picture, width: int | None, most: int | None = None) -> None:
    """Print the picture, in at most so many lines."""
    from epa_orchestrator.picture import terminal

    plain = not (console.encoding or "").lower().startswith("utf")
    columns = console.width if console.is_terminal else shutil.get_terminal_size((_COLUMNS, 1)).columns
    across = width or columns
    if most is None:
        lines = terminal.draw(picture, across, plain=plain)
    else:
        lines = terminal.draw_on_screen(picture, across, most, plain=plain)
    for line in lines:
        console.print(line, soft_wrap=True)


# --- watching ---


def changes(client: Client) -> Iterator[Seen]:
    """What the daemon answers, at first and after each change. It asks when the daemon tells one, and once a second."""
    last: Picture | None = None
    for seen in answers(client, lambda: _ask(client), _EVERY):
        if seen.picture != last:
            last = seen.picture
            yield seen


def _watch(client: Client, width: int | None) -> None:
    """Draw each change, on a screen of its own if stdout is a terminal; Ctrl-C ends it."""
    from epa_orchestrator.cli.show import console

    screen = console()
    try:
        if screen.is_terminal:
            with screen.screen(hide_cursor=True):
                _draw_on_screen(client, screen, width)
        for seen in changes(client):
            _print(screen, seen.picture, width)
            screen.print()
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _draw_on_screen(client: Client, screen: Console, width: int | None) -> None:
    """Draw each change, and when the terminal gets another size."""
    shown: Picture | None = None

    def draw(*_: object) -> None:
        screen.clear()
        if shown is not None:
            _print(screen, shown, width, screen.height - 1)

    signal.signal(signal.SIGWINCH, draw)
    for seen in changes(client):
        shown = seen.picture
        draw()
