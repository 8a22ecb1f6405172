# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Shows the results: tables for people, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.placement.allocators import COMPARED, DEFAULT
from benchmarks.placement.results import AIMED, MEASURES, Results
from benchmarks.report import Run

#: Wide enough for the tables where the output is a file.
_WIDTH: Final = 132


def show(results: Results, run: Run) -> None:
    """Print the tables."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    if results.replayed:
        console.print(_means(results.of(AIMED), "whole cores mostly: the daemon's policies, and others"))
        console.print(_means(results.of(["any"]), "sizes at random, odd ones too"))
        console.print(_by_machine(results.of(AIMED)))
    if results.accepted:
        console.print(_acceptance(results))
    if results.times:
        console.print(_times(results))
    console.print(_aims(results))
    console.print(
        f"{len(os.sched_getaffinity(0))} processors, {_interpreter()}; the run took {run.seconds:.0f} s, and other work"
        f" took {run.other_work:.0%} of the processors in that time. A request is an allocation or a resize; shares are"
        " of the requests that got their CPUs, means are over the setups with equal weights."
        " benchmarks/placement/judge.py defines each number."
    )


def write_json(results: Results, path: Path, run: Run) -> None:
    """Write everything that was measured."""
    aimed = results.of(AIMED)
    document = {
        "format": "epa-orchestrator-placement-benchmarks/1",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 1),
        "other_work": round(run.other_work, 3),
        "interpreter": _interpreter(),
        "means": {
            name: {_flat(title): round(aimed.mean(name, measure), 6) for title, measure in MEASURES.items()}
            for name in aimed.allocators()
        },
        "replayed": [
            {"allocator": each.allocator} | dataclasses.asdict(each.setup) | dataclasses.asdict(each.tally)
            for each in results.replayed
        ],
        "single_numa_node": [
            dataclasses.asdict(each.setup)
            | {"requests": each.requests, "bound": dataclasses.asdict(each.bound)}
            | {"accepted": each.accepted}
            for each in results.accepted
        ],
        "times": [dataclasses.asdict(each) for each in results.times],
        "aims": [dataclasses.asdict(aim) for aim in results.aims()],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _means(results: Results, what: str) -> Table:
    setups = {each.setup for each in results.replayed}
    requests = sum(each.tally.requests for each in results.replayed) // len(results.allocators())
    table = _table(f"Means over {len(setups)} setups, {requests:,} requests, {what}", ["allocator"], MEASURES)
    for name in results.allocators():
        if name == COMPARED[0].name:
            table.add_section()
        table.add_row(name, *(f"{results.mean(name, measure):.4f}" for measure in MEASURES.values()))
    return table


def _by_machine(results: Results) -> Table:
    """Only the default policy and those it is compared with; the rest is in the JSON."""
    table = _table("By machine", ["machine", "allocator"], MEASURES)
    shown = [name for name in results.allocators() if name in (DEFAULT.name, *(each.name for each in COMPARED))]
    for host in dict.fromkeys(each.setup.host for each in results.replayed):
        table.add_section()
        for name in shown:
            numbers = (f"{results.of(AIMED, host).mean(name, measure):.4f}" for measure in MEASURES.values())
            table.add_row(host if name == shown[0] else "", name, *numbers)
    return table


def _acceptance(results: Results) -> Table:
    names = list(results.accepted[0].accepted)
    table = _table(
        "Accepted share of the clairvoyant bound, single-numa-node (*: proved, perhaps not reached; !: out of time)",
        ["machine", "sizes", "load"], ["requests", "bound", *(name.replace(" ", "\n", 1) for name in names)],
    )  # fmt: skip
    before = None
    for each in results.accepted:
        if before not in (None, each.setup.host):
            table.add_section()
        setup, mark = each.setup, ("" if each.bound.solved else "*") + ("" if each.bound.in_time else "!")
        shares = (f"{each.share(name):.3f}" for name in names)
        shown = "" if setup.host == before else setup.host
        table.add_row(
            shown, setup.profile, f"{setup.load:g}", str(each.requests), f"{each.bound.accepted}{mark}", *shares
        )
        before = setup.host
    table.add_section()
    table.add_row("mean", "", "", "", "", *(f"{results.mean_share(name):.3f}" for name in names))
    return table


def _times(results: Results) -> Table:
    table = _table(
        "Processor time of a decision, sizes 1 to 32, load 0.95", ["policy"],
        ["CPUs", "decisions", "p50, ms", "p99, ms", "p50 / lowest\nid first", "p99 / lowest\nid first"],
    )  # fmt: skip
    for name in dict.fromkeys(each.allocator for each in results.times):
        for each in results.times:
            if each.allocator == name:
                numbers = f"{each.p50_ms:.3f}", f"{each.p99_ms:.3f}", f"{each.p50_ratio:,.0f}", f"{each.p99_ratio:,.0f}"
                table.add_row(name, str(each.cpus), str(each.decisions), *numbers)
    return table


def _aims(results: Results) -> Table:
    table = _table("Aims, for the default policy on the mean of the setups", ["what"], ["aim", "measured", ""])
    for aim in results.aims():
        verdict = "[green]reached[/]" if aim.reached else "[red]missed[/]"
        table.add_row(aim.name, aim.aim, f"{aim.measured:.4f}", verdict)
    return table


def _table(title: str, names: Sequence[str], numbers: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in names:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _flat(title: str) -> str:
    return title.replace("\n", " ")


def _interpreter() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"
