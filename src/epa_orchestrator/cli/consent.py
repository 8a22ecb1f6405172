# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Consent: who loses which CPUs to a service, as text, and the question whether they may be taken."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Final

from epa_orchestrator.cli.output import fail, say
from epa_orchestrator.units import named_cpus

#: The most characters of the services that a question or an error names: a server may send names without end.
_MOST_SHOWN: Final = 12_000


def show_taken(service: str, taken: Mapping[str, str], verb: str = "lost") -> None:
    """Print on stderr who loses CPUs to the service."""
    for line in _losses(service, taken, verb):
        say(line, err=True)


def require_consent(service: str, taken: Mapping[str, str]) -> None:
    """Ask on the terminal whether the service may take these CPUs of others, and end the command if it may not.

    Without a terminal nobody can answer, so the command ends.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        losses = "; ".join(_losses(service, taken, "would lose"))
        fail(f"Nothing was changed, because other services would lose CPUs: {losses}. Add --take to allow it")
    show_taken(service, taken, "would lose")
    sys.stderr.write("Take these CPUs? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail("Nothing was changed")


def _losses(service: str, taken: Mapping[str, str], verb: str) -> Iterator[str]:
    """Who loses what: one text for each service, and the number of those that are too many to name."""
    room = _MOST_SHOWN
    for number, (loser, cpus) in enumerate(taken.items()):
        text = f"'{loser}' {verb} {named_cpus(cpus)} to '{service}'"
        room -= len(text)
        if room < 0:
            yield f"{len(taken) - number} more {verb} CPUs, which --dry-run --json names"
            return
        yield text
