# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `audit`: judges whether isolated CPUs are really quiet, on this host or on a recorded one."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from epa_orchestrator.cli.completion import complete_services
from epa_orchestrator.cli.options import JsonOption, SocketOption, check_service, decimal_number, within
from epa_orchestrator.cli.output import EXIT_REFUSED, Misuse, print_json, say
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.units import cpus_are, named_cpus

if TYPE_CHECKING:
    from epa_orchestrator.cli.audited_host import AuditedHost
    from epa_orchestrator.isolation.case import Case
    from epa_orchestrator.isolation.facts import Facts
    from epa_orchestrator.isolation.findings import Finding


def _cpus(text: object) -> CpuSet:
    """Read the CPUs to judge."""
    try:
        cpus = CpuSet.parse(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"must be a list of CPUs such as 2-5,8: {error}") from None
    if not cpus:
        raise typer.BadParameter("names no CPUs: give a list such as 2-5,8")
    return cpus


def audit(
    measure: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Read the host twice, so many seconds apart, for the checks that measure.",
            parser=decimal_number,
            callback=within(1, 3600),
        ),
    ] = None,
    cpu: Annotated[
        CpuSet | None, typer.Option(metavar="LIST", help="Judge these CPUs only, such as 2-5,8.", parser=_cpus)
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            metavar="SERVICE",
            help="Judge the CPUs of this service only.",
            callback=check_service,
            autocompletion=complete_services,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Judge a recorded host: a directory that holds proc and sys, or a file that report or machine"
            " --record wrote.",
        ),
    ] = None,
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Judge whether the isolated CPUs are really quiet, and say what to do where they are not.

    It reads counters and settings of the kernel, changes nothing, and runs nothing on the CPUs that it judges. The
    daemon tells who owns which CPUs; without it, the checks of owners are not made. Run it as root to read everything.
    It ends with 1 if a check fails, and with 0 otherwise.

    Examples:
      sudo epa-orchestrator audit
      sudo epa-orchestrator audit --measure 5
      epa-orchestrator audit --root report.json --json
    """
    from epa_orchestrator.cli.audit_screen import document, show_screen
    from epa_orchestrator.cli.audited_host import recorded_host, this_host
    from epa_orchestrator.isolation.judge import has_failed

    if cpu is not None and service is not None:
        raise Misuse("--cpu and --service both choose CPUs: give one of them")
    if root is not None and measure is not None:
        raise Misuse("--measure reads a host twice, and a recorded host holds one reading: leave one of them out")
    host = this_host(socket, needs_claims=service is not None) if root is None else recorded_host(root)
    if service is not None:
        cpu = host.claims.cpus_of(service)
    findings = _judge(host, cpu, measure)
    if json_:
        print_json(document(findings))
    else:
        show_screen(findings)
    if has_failed(findings):
        raise typer.Exit(EXIT_REFUSED)


def _judge(host: AuditedHost, only: CpuSet | None, seconds: float | None) -> list[Finding]:
    """The findings, of two readings so many seconds apart if a time is given."""
    from epa_orchestrator.isolation.case import Case
    from epa_orchestrator.isolation.facts import read_facts
    from epa_orchestrator.isolation.judge import judge

    earlier, now = None, read_facts(host.files, host.clock())
    _check_present(only, now)
    if seconds is not None:
        if sys.stderr.isatty():
            say(f"measuring: the second reading follows in {seconds:g} s", err=True)
        time.sleep(seconds)
        earlier, now = now, read_facts(host.files, host.clock())
    case = Case(now, earlier, host.claims.owners, replace(host.terms, only=only))
    return [_with_way_out(finding, host, case) for finding in judge(case)]


def _check_present(only: CpuSet | None, facts: Facts) -> None:
    """Refuse CPUs that the host does not have."""
    from epa_orchestrator.isolation.host_files import Unread

    present = facts.line.present
    if only is None or isinstance(present, Unread) or not present or only <= present:
        return
    raise Misuse(f"This host has no {named_cpus(str(only - present))}. It has {named_cpus(str(present))}")


def _with_way_out(finding: Finding, host: AuditedHost, case: Case) -> Finding:
    """A finding whose check was not made, with how to get what it needs."""
    from epa_orchestrator.isolation.elapsed import TWO_READINGS
    from epa_orchestrator.isolation.findings import AN_ISOLATED_CPU, CLAIMS, DEVICE_OWNERS

    if finding.result != "not-checked":
        return finding
    seen = finding.seen
    needs = seen.removeprefix("needs ")
    if needs.startswith(AN_ISOLATED_CPU) and case.terms.only is not None and case.all_isolated:
        seen += f": {cpus_are(str(case.terms.only))} not among {named_cpus(str(case.all_isolated))}"
    elif needs == TWO_READINGS and not host.is_live:
        seen = "needs two readings: a recording has one"
    elif host.claims.reason and needs.startswith(CLAIMS):
        seen = f"needs {CLAIMS}: {host.claims.reason}"
    elif host.claims.reason and needs.startswith(DEVICE_OWNERS):
        seen += f": {host.claims.reason}"
    return replace(finding, seen=seen)
