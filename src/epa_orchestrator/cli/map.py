# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `map`: the machine as nested boxes, with the owner and the state of each CPU."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from epa_orchestrator.cli.connect import connect, require_feature
from epa_orchestrator.cli.folding import fold_indented
from epa_orchestrator.cli.noise_text import ask_isolation, short_lines
from epa_orchestrator.cli.options import JsonOption, SocketOption, whole_number, within
from epa_orchestrator.cli.output import Misuse, end_if_read_only, print_json, say, warn
from epa_orchestrator.cli.recordings import is_stdout, write_file
from epa_orchestrator.cli.watching import WatchOption, answers
from epa_orchestrator.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from epa_orchestrator.client import Client
    from epa_orchestrator.picture.model import Picture
    from epa_orchestrator.protocol.isolation import IsolationAnswer

#: The columns for a file or another program, unless the variable COLUMNS says otherwise.
_COLUMNS: Final = 80
#: How often (seconds) the daemon is asked at least: it tells no change of the kernel's hugepages.
_EVERY: Final = 1.0
#: How often (seconds) it is asked for the noise, which it reads once a minute.
_NOISE_EVERY: Final = 10.0


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
        seen = _ask(client, ask_isolation)
    if json_:
        from epa_orchestrator.picture.answers import document_of

        state = {} if seen.problem is None else {"state_error": seen.problem}
        noise = {} if seen.noise is None else {"noise": [each.model_dump() for each in seen.noise.claims]}
        print_json(document_of(seen.picture) | noise | state)
    elif svg is not None:
        _write_svg(svg, seen.picture, width)
    else:
        from epa_orchestrator.cli.show import console

        _print(console(), seen, width)
    warn(seen.warnings)
    end_if_read_only(seen.problem)


class Seen(NamedTuple):
    """What the daemon has answered: the picture, warnings, why it is read-only, and the noise of claims if it tells."""

    picture: Picture
    warnings: tuple[str, ...]
    problem: str | None
    noise: IsolationAnswer | None = None


def _ask(client: Client, ask_noise: Callable[[Client], IsolationAnswer | None]) -> Seen:
    from epa_orchestrator.picture.answers import picture_of

    listings = [client.list_allocations()]
    require_feature(client, "get-machine", "describe its machine", ", or use the commands list and machine")
    if general := client.general_listing():
        listings.append(general)
    picture = picture_of(client.machine(), listings, client.memory_info())
    warnings = tuple(dict.fromkeys(warning for listing in listings for warning in listing.warnings))
    return Seen(picture, warnings, listings[0].state_error, ask_noise(client))


def _write_svg(path: Path, picture: Picture, width: int | None) -> None:
    from epa_orchestrator.picture import svg

    text = svg.draw(picture, width or svg.WIDTH)
    write_file(path, text)
    if not is_stdout(path):
        say(f"wrote {path}", err=True)


def _print(console: Console, seen: Seen, width: int | None, most: int | None = None) -> None:
    """Print the picture and the noise, in at most so many lines: the noise takes at most a quarter of them."""
    from epa_orchestrator.picture import terminal

    plain = not (console.encoding or "").lower().startswith("utf")
    columns = console.width if console.is_terminal else shutil.get_terminal_size((_COLUMNS, 1)).columns
    across = width or columns
    noise = _noise(seen, across)
    if most is None:
        lines = terminal.draw(seen.picture, across, plain=plain)
    else:
        noise = noise[: most // 4]
        lines = terminal.draw_on_screen(seen.picture, across, most - len(noise), plain=plain)
    for line in (*lines, *noise):
        console.print(line, soft_wrap=True)


def _noise(seen: Seen, columns: int) -> list[str]:
    """The lines about noise, folded into the columns."""
    if seen.noise is None:
        return []
    marks = {owner.name: owner.mark for owner in seen.picture.owners}
    return [line for text in short_lines(seen.noise, marks) for line in fold_indented(printable(text), columns)]


# --- watching ---


def changes(client: Client) -> Iterator[Seen]:
    """What the daemon answers, at first and after each change. It asks when the daemon tells one, and once a second."""
    last: Seen | None = None
    ask_noise = _now_and_then()
    for seen in answers(client, lambda: _ask(client, ask_noise), _EVERY):
        if last is None or (seen.picture, seen.noise) != (last.picture, last.noise):
            last = seen
            yield seen


def _now_and_then() -> Callable[[Client], IsolationAnswer | None]:
    """Asks for the noise, and gives the same answer again for a while."""
    known: IsolationAnswer | None = None
    asked_at = -_NOISE_EVERY

    def ask(client: Client) -> IsolationAnswer | None:
        nonlocal known, asked_at
        if time.monotonic() - asked_at >= _NOISE_EVERY:
            known, asked_at = ask_isolation(client), time.monotonic()
        return known

    return ask


def _watch(client: Client, width: int | None) -> None:
    """Draw each change, on a screen of its own if stdout is a terminal; Ctrl-C ends it."""
    from epa_orchestrator.cli.show import console

    screen = console()
    try:
        if screen.is_terminal:
            with screen.screen(hide_cursor=True):
                _draw_on_screen(client, screen, width)
        for seen in changes(client):
            _print(screen, seen, width)
            screen.print()
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _draw_on_screen(client: Client, screen: Console, width: int | None) -> None:
    """Draw each change, and when the terminal gets another size."""
    shown: Seen | None = None

    def draw(*_: object) -> None:
        screen.clear()
        if shown is not None:
            _print(screen, shown, width, screen.height - 1)

    signal.signal(signal.SIGWINCH, draw)
    for seen in changes(client):
        shown = seen
        draw()
