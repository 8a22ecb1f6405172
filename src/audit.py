# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The audit of the host's isolation: what is broken, for the unit's status, and all results, for the action."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import command_line
import daemon_health
from deadline import DeadlineError
from epa_orchestrator.cli import audit_screen
from epa_orchestrator.cli.audited_host import options_of, terms_of
from epa_orchestrator.cli.claim_owners import FEATURE, owners_of
from epa_orchestrator.client.client import Client, DaemonError
from epa_orchestrator.isolation.case import Case, Owner
from epa_orchestrator.isolation.elapsed import MEASURE
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.host_files import HostFiles, HostTree
from epa_orchestrator.isolation.judge import judge
from isolation import Isolation

log = logging.getLogger(__name__)

#: How much CPU time (seconds) the audit of an event may take. A host with 512 CPUs and 5,000 tasks takes under 1 s.
_MOST_CPU_TIME: Final = 2.0
#: How long (seconds) it waits for the daemon.
_PATIENCE: Final = 3.0
#: A status names so many checks, and shows so many characters of what the first one has seen.
_MOST_NAMED: Final = 5
_MOST_SEEN: Final = 90
#: The columns of the action's text, as in those of other actions.
_WIDTH: Final = 110
#: How to measure, in the words of the action.
_PARAMETER: Final = "run the action with measure=5"
_ACTION: Final = "run the action audit-isolation"


class _TooLongError(Exception):
    """The audit has taken the CPU time that it may take."""


def note(files: HostFiles | None = None) -> str:
    """What is broken in the isolation of this host, in one sentence; empty where no check fails.

    The audit is an extra: where it fails itself, the log says so, and the status goes without it.
    """
    try:
        return _sentence(_failed(files or HostTree()))
    except DeadlineError:
        raise
    except Exception as error:  # noqa: BLE001  # no fault of the audit may fail an event
        log.warning("the host's isolation could not be judged: %s: %s", type(error).__name__, error)
        return ""


def notes_about(host: Isolation) -> list[str]:
    """What an operator should know of this host, worst first. Where nothing is isolated, nothing is judged."""
    here = [text for text in (host.problem, host.container_note) if text]
    return here or [note()]


def document(measure: float, service: str) -> dict[str, Any]:
    """The results of all checks as JSON, with two readings `measure` seconds apart unless it is 0.

    Raises CharmError.
    """
    words = [*([f"--measure={measure:g}"] if measure else []), *([f"--service={service}"] if service else [])]
    return command_line.run_json("audit", *words, longer=measure)


def text(results: dict[str, Any]) -> str:
    """The same for people."""
    seen = (str(each["seen"]).replace(MEASURE, _PARAMETER) for each in results["checks"])
    findings = [
        Finding(each["id"], each["result"], text, each["remedy"])
        for each, text in zip(results["checks"], seen, strict=True)
    ]
    return audit_screen.plain_text(findings, _WIDTH)


def _failed(files: HostFiles) -> list[Finding]:
    start = time.process_time()

    def rest() -> None:
        if time.process_time() - start > _MOST_CPU_TIME:
            raise _TooLongError(f"it takes more than {_MOST_CPU_TIME:g} s of CPU time")

    terms = terms_of(options_of(daemon_health.settings_file()))
    case = Case(read_facts(files, time.time(), rest), None, _owners(), terms)
    return [finding for finding in judge(case) if finding.result == "fail"]


def _owners() -> tuple[Owner, ...] | None:
    """The owners of all claims; None where the daemon does not tell them."""
    client = Client(daemon_health.SOCKET, timeout=_PATIENCE)
    try:
        return owners_of(client.isolation().claims) if client.supports(FEATURE) else None
    except DaemonError:
        return None


def _sentence(failed: list[Finding]) -> str:
    if not failed:
        return ""
    named = [f"{failed[0].id} ({_shortened(failed[0].seen)})", *(finding.id for finding in failed[1:_MOST_NAMED])]
    if more := len(failed) - len(named):
        named.append(f"{more} more")
    return f"isolation is broken: {', '.join(named)}; {_ACTION}"


def _shortened(seen: str) -> str:
    return seen if len(seen) <= _MOST_SEEN else f"{seen[: _MOST_SEEN - 1].rstrip()}…"
