# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The screen of `audit`: a summary, then each check that found a fault with what to do, the worst first.

The checks that were not made follow by what they need, and those that found nothing by their ids. Programs get one
table with a row for each check.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.folding import COMMANDS
from epa_orchestrator.cli.output import encodable, write
from epa_orchestrator.cli.show import console, folded, show, width_for_people
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.findings import CHECKS, Finding, Result
from epa_orchestrator.isolation.judge import worst_first
from epa_orchestrator.units import count_of, joined

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How a line shows each result that has lines of its own, and in which style on a terminal with colours.
SHOWN: Final[Mapping[Result, tuple[str, str]]] = {"fail": ("FAIL", "bold red"), "warn": ("WARN", "bold yellow")}
#: Checks that are not made for want of a file: the file, and how the sentence goes on.
_NEEDS_FILE: Final = re.compile(r"needs (/\S+), (.+)")
#: How the summary says each result: of one check, and of several.
_SAID: Final[Sequence[tuple[Result, str, str]]] = (
    ("fail", "fails", "fail"),
    ("warn", "warns", "warn"),
    ("not-checked", "not made", "not made"),
    ("pass", "passes", "pass"),
)
#: A command at the end of a remedy, or all of it: half of it must not run.
_COMMAND: Final = re.compile(rf"(?:^|(?<=: ))(?:{'|'.join(COMMANDS)}) .*$")
#: A sentence names so many files.
_MOST_FILES: Final = 3


def document(findings: Iterable[Finding]) -> dict[str, Any]:
    """All findings as JSON, in the order of the table of checks."""
    return {"checks": [finding.document() for finding in findings]}


def summary(findings: Iterable[Finding]) -> str:
    """How many checks have each result."""
    counts = Counter(finding.result for finding in findings)
    said = [f"{counts[result]} {one if counts[result] == 1 else more}" for result, one, more in _SAID if counts[result]]
    if said:
        count, _, rest = said[0].partition(" ")
        said[0] = f"{count_of(int(count), 'check')} {rest}"
    return ", ".join(said)


def show_screen(findings: Sequence[Finding]) -> None:
    """Print the findings: the screen for people, the table for another program."""
    width = width_for_people()
    if width is None:
        show(table(findings))
        return
    screen = console() if sys.stdout.isatty() else None
    for line in lines(findings):
        text = encodable(line.folded(width), sys.stdout)
        if screen is None:
            write(f"{text}\n")
        else:
            screen.print(text, style=line.style, soft_wrap=True)


def plain_text(findings: Sequence[Finding], width: int) -> str:
    """The screen as text without colours, in lines of this width."""
    return "\n".join(line.folded(width) for line in lines(findings))


class Line(NamedTuple):
    """A line of the screen, with its style on a terminal. A command to copy is never folded."""

    text: str
    style: str = ""
    is_command: bool = False

    def folded(self, width: int) -> str:
        """The line in lines of this width."""
        return printable(self.text) if self.is_command else folded(self.text, width)


def lines(findings: Sequence[Finding]) -> Iterator[Line]:
    """The lines of the screen."""
    ordered = worst_first(findings)
    yield Line(summary(ordered), "bold")
    for finding in ordered:
        if shown := SHOWN.get(finding.result):
            yield Line("")
            yield Line(f"{shown[0]} {finding.id} {CHECKS[finding.id].title}", shown[1])
            yield Line(f"  Seen: {finding.seen}")
            yield Line(f"  Why: {finding.why}")
            yield from _remedy(finding.remedy)
    if needs := list(_needs(ordered)):
        yield Line("")
        yield Line("Not made:", "bold")
        yield from (Line(f"  {line}") for line in needs)
    if passed := [finding.id for finding in ordered if finding.result == "pass"]:
        yield Line("")
        yield Line(f"Pass: {', '.join(passed)}", "green")


def _remedy(remedy: str) -> Iterator[Line]:
    """What to do; a command at its end has a line of its own."""
    command = _COMMAND.search(remedy)
    if command is None:
        if remedy:
            yield Line(f"  Remedy: {remedy}")
        return
    yield Line(f"  Remedy: {remedy[: command.start()]}".rstrip())
    yield Line(f"    {command[0]}", "", is_command=True)


def _needs(findings: Iterable[Finding]) -> Iterator[str]:
    """What the checks need that were not made, those that need the same together."""
    ids: dict[str, list[str]] = {}
    files: dict[str, list[str]] = {}
    for finding in findings:
        if finding.result != "not-checked":
            continue
        found = _NEEDS_FILE.fullmatch(finding.seen)
        need = found[2] if found else finding.seen
        if finding.remedy:
            need = f"{need}: {finding.remedy}"
        ids.setdefault(need, []).append(finding.id)
        if found and found[1] not in files.setdefault(need, []):
            files[need].append(found[1])
    for need, checks in ids.items():
        named = files.get(need)
        if named and len(named) > 1:
            need = need.replace("which is not there", "which are not there")
        what = f"needs {_listed(named)}, {need}" if named else need
        yield f"{', '.join(checks)}: {what}"


def _listed(files: Sequence[str]) -> str:
    shown = [printable(file) for file in files[:_MOST_FILES]]
    if more := len(files) - len(shown):
        shown.append(count_of(more, "more file"))
    return joined(shown)


def table(findings: Sequence[Finding]) -> FittedTable:
    """One row for each check, the worst first, for another program."""
    ordered = worst_first(findings)
    made = FittedTable(("Check", "Result", "Seen", "Why", "Remedy"), "Audit", summary(ordered))
    for finding in ordered:
        made.add_row(finding.id, finding.result, finding.seen, finding.why, finding.remedy)
    return made
