# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The screen of `audit`: a summary, then each check that found a fault with what to do, the worst first.

The checks that were not made follow by what they need, and those that found nothing by their ids. Programs get one
table with a row for each check.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.output import encodable, write
from epa_orchestrator.cli.show import console, folded, show, width_for_people
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.findings import CHECKS, Finding, Result
from epa_orchestrator.isolation.judge import worst_first
from epa_orchestrator.units import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How a line shows each result that has lines of its own, and in which style on a terminal with colours.
SHOWN: Final[Mapping[Result, tuple[str, str]]] = {"fail": ("FAIL", "bold red"), "warn": ("WARN", "bold yellow")}
#: Checks that are not made for want of a file: the file, and how the sentence goes on.
_NEEDS_FILE: Final = re.compile(r"needs (/\S+), (.+)")
#: How the summary says the results after the first: of one check, and of several.
_SAID: Final[Sequence[tuple[Result, str, str]]] = (
    ("warn", "warns", "warn"),
    ("not-checked", "not checked", "not checked"),
    ("pass", "passes", "pass"),
)
#: A sentence names so many files.
_MOST_FILES: Final = 3


def document(findings: Iterable[Finding]) -> dict[str, Any]:
    """All findings as JSON, in the order of the table of checks."""
    return {"checks": [finding.document(utc(finding.since)) for finding in findings]}


def utc(at: float) -> str:
    """A time in seconds since 1970 as text, by ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def summary(findings: Iterable[Finding]) -> str:
    """How many checks have each result."""
    counts = Counter(finding.result for finding in findings)
    said = (
        [count_of(counts["fail"], "check") + (" fails" if counts["fail"] == 1 else " fail")] if counts["fail"] else []
    )
    for result, one, more in _SAID:
        if count := counts[result]:
            said.append(f"{count} {one if count == 1 else more}")
    return ", ".join(said)


def show_screen(findings: Sequence[Finding]) -> None:
    """Print the findings: the screen for people, the table for another program."""
    width = width_for_people()
    if width is None:
        show(table(findings))
        return
    screen = console() if sys.stdout.isatty() else None
    for line, style in lines(findings):
        text = encodable(folded(line, width), sys.stdout)
        if screen is None:
            write(f"{text}\n")
        else:
            screen.print(text, style=style, soft_wrap=True)


def lines(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """The lines of the screen, unfolded, each with its style."""
    ordered = worst_first(findings)
    yield summary(ordered), "bold"
    for finding in ordered:
        if shown := SHOWN.get(finding.result):
            yield "", ""
            yield f"{shown[0]} {finding.id} {CHECKS[finding.id].title}", shown[1]
            yield f"  Seen: {finding.seen}", ""
            yield f"  Why: {finding.why}", ""
            if finding.remedy:
                yield f"  Remedy: {finding.remedy}", ""
    if needs := list(_needs(ordered)):
        yield "", ""
        yield "Not checked:", "bold"
        yield from ((f"  {line}", "") for line in needs)
    if passed := [finding.id for finding in ordered if finding.result == "pass"]:
        yield "", ""
        yield f"Pass: {', '.join(passed)}", "green"


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
        what = f"needs {_listed(named)}, {need}" if named else need
        yield f"{', '.join(checks)}: {what}"


def _listed(files: Sequence[str]) -> str:
    shown = [printable(file) for file in files[:_MOST_FILES]]
    if more := len(files) - len(shown):
        shown.append(count_of(more, "more file"))
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def table(findings: Sequence[Finding]) -> FittedTable:
    """One row for each check, the worst first, for another program."""
    ordered = worst_first(findings)
    made = FittedTable(("Check", "Result", "Seen", "Why", "Remedy"), "Audit", summary(ordered))
    for finding in ordered:
        made.add_row(finding.id, finding.result, finding.seen, finding.why, finding.remedy)
    return made
