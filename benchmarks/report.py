# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Shows the results: tables for people, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from benchmarks.load import Load
from benchmarks.requests import TITLES
from benchmarks.results import Cell, Results, Size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Wide enough for the tables where the output is a file.
_WIDTH: Final = 132


@dataclass(frozen=True)
class Run:
    """The circumstances of a run."""

    seconds: float
    #: The share of all processor time that other processes took during the run.
    other_work: float


def show(results: Results, run: Run) -> None:
    """Print the tables."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    clients = sorted({cell.load.clients for cell in results.requests.values()})
    console.print(_daemon(results, clients))
    console.print(_echoes(results, clients))
    console.print(_once_per_size(results))
    console.print(_aims(results))
    console.print(
        f"{_processors()} processors, {_interpreter()}; the run took {run.seconds:.0f} s, and other work took"
        f" {run.other_work:.0%} of the processors in that time. Times of requests are in µs."
        " An allocation and its release count as two requests. A lone client's time is its median, many clients' is"
        " the inverse of their rate."
    )


def write_json(results: Results, path: Path, run: Run) -> None:
    """Write everything that was measured."""
    document = {
        "format": "epa-orchestrator-benchmarks/1",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 1),
        "other_work": round(run.other_work, 3),
        "processors": _processors(),
        "kernel": platform.release(),
        "interpreter": _interpreter(),
        "requests": [_flat(cell) for cell in results.requests.values()],
        "echoes": [_flat(echo) for echo in results.echoes.values()],
        "synced_commits": [_flat(size) | _flat(commits) for size, commits in results.commits.items()],
        "start_to_first_answer": [_flat(start) for start in results.starts],
        "resident_memory": [_flat(memory) for memory in results.memory],
        "aims": [dataclasses.asdict(aim) for aim in results.aims()],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _daemon(results: Results, clients: list[int]) -> Table:
    table = _table("The daemon", ["CPUs", "services", "request"], clients)
    rows: dict[tuple[Size, str], dict[int, Cell]] = {}
    for cell in results.requests.values():
        rows.setdefault((cell.size, TITLES[cell.kind]), {})[cell.load.clients] = cell
    before = None
    for (size, title), cells in rows.items():
        if before not in (None, size):
            table.add_section()
        shown = ("", "") if size == before else (str(size.cpus), str(size.services))
        loads = {count: cell.load for count, cell in cells.items()}
        table.add_row(*shown, title, *_numbers(loads, clients))
        before = size
    return table


def _echoes(results: Results, clients: list[int]) -> Table:
    table = _table("Floors: echoes of as many bytes as the listing", ["CPUs", "services", "bytes"], clients)
    rows: dict[tuple[Size, int], dict[int, Load]] = {}
    for echo in results.echoes.values():
        rows.setdefault((echo.size, echo.payload), {})[echo.load.clients] = echo.load
    for (size, payload), loads in rows.items():
        table.add_row(str(size.cpus), str(size.services), str(payload), *_numbers(loads, clients))
    return table


def _once_per_size(results: Results) -> Table:
    table = Table(title="Once per size", title_justify="left")
    for column in ("CPUs", "services", "start to first answer, s", "resident, MiB", "floor: synced commits/s", "p50"):
        table.add_column(column, justify="right")
    for start, memory in zip(results.starts, results.memory, strict=True):
        size = start.size
        table.add_row(
            str(size.cpus),
            str(size.services),
            f"{start.seconds:.3f}",
            f"{memory.mib:.1f}",
            f"{results.commits[size].rate:,.0f}",
            f"{results.commits[size].p50_us:,.0f}",
        )
    return table


def _aims(results: Results) -> Table:
    table = Table(title="Aims, each at the size where it is worst", title_justify="left")
    table.add_column("what")
    table.add_column("aim", justify="right", no_wrap=True)
    table.add_column("measured", justify="right")
    table.add_column("", no_wrap=True)
    table.add_column("where")
    for aim in results.aims():
        verdict = "[green]reached[/]" if aim.reached else "[red]missed[/]"
        table.add_row(aim.name, aim.aim, f"{aim.measured:.2f}", verdict, aim.where)
    return table


def _table(title: str, columns: Iterable[str], clients: list[int]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "request" else "right", no_wrap=True)
    for count in clients:
        table.add_column(f"{count} client{'s' * (count != 1)}\nreq/s", justify="right", no_wrap=True)
        table.add_column("\np50", justify="right", no_wrap=True)
        table.add_column("\np99", justify="right", no_wrap=True)
    return table


def _numbers(loads: dict[int, Load], clients: list[int]) -> list[str]:
    numbers: list[str] = []
    for count in clients:
        load = loads.get(count)
        if load is None:
            numbers += ["-", "-", "-"]  # too few CPUs for that many clients
        else:
            numbers += [f"{load.rate:,.0f}", f"{load.p50_us:,.0f}", f"{load.p99_us:,.0f}"]
    return numbers


def _flat(record: DataclassInstance) -> dict[str, object]:
    """A record without nesting, its numbers rounded to the precision of the measurement."""
    flat: dict[str, object] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Load):
            flat |= _flat(value) | {"rate": round(value.rate, 1)}
        elif isinstance(value, Size):
            flat |= _flat(value)
        else:
            flat[field.name] = round(value, 3) if isinstance(value, float) else value
    return flat


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _interpreter() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"
