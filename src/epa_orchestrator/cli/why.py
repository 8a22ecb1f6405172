# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `why`: which CPUs a service has, since when and why, or who has a CPU, in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from epa_orchestrator.cli.command_text import command_text
from epa_orchestrator.cli.completion import complete_services
from epa_orchestrator.cli.connect import connect, require_feature
from epa_orchestrator.cli.noise_text import claim_noise, sentences
from epa_orchestrator.cli.options import JsonOption, SocketOption, check_number, check_service, whole_number
from epa_orchestrator.cli.output import Misuse, end_if_read_only, fail, print_json, say, warn
from epa_orchestrator.cli.times import format_time
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.nearest import did_you_mean
from epa_orchestrator.units import count_of, cpus_are, format_size, named_cpus, named_nodes

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.history import ClaimAnswer, HistoryEvent
    from epa_orchestrator.protocol.isolation import ClaimIsolation

#: What the state of a CPU means, after "CPU 5 is …".
_STATES: Final = {
    "free": "free: it is in a pool, and no service owns it",
    "reserved": "reserved: the option reserved-cpus keeps it out of every pool",
    "offline": "offline, and no service owns it",
    "not-isolated": "in no pool: it is not isolated, and the option cpu-pool does not name it",
}
#: Why CPUs are unavailable, or withheld no longer, after "CPU 5 is unavailable: ".
_ABSENCES: Final = {
    "unknown": "the machine cannot be read",
    "missing": "this host no longer has {it}",
    "offline": "{it_is} offline",
    "reserved": "the option reserved-cpus names {it} now",
    "not-isolated": "{it_is} no longer isolated",
    "not-in-cpu-pool": "the option cpu-pool does not name {it} any longer",
    "pool": "pool {pool} grants nothing now, and 'epa-orchestrator status' says why",
}
_DAMAGED_OR_GONE: Final = "The history does not tell why: its event was dropped, or cannot be read."


def why(
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="SERVICE", help="The service.", callback=check_service, autocompletion=complete_services
        ),
    ] = None,
    cpu: Annotated[
        int | None, typer.Option(help="A CPU, instead of a service.", parser=whole_number, callback=check_number)
    ] = None,
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Say why a service has its CPUs, or who has a CPU.

    It names the request, the process that asked, what decided, and what has changed since. Of a service it also says
    what disturbs it: interrupts on its CPUs, other threads there, and what to do.

    Examples:
      epa-orchestrator why vm-1
      epa-orchestrator why --cpu 5
      epa-orchestrator why vm-1 --json
    """
    if (service is None) == (cpu is None):
        raise Misuse("Give either SERVICE or --cpu: 'epa-orchestrator why vm-1', or 'epa-orchestrator why --cpu 5'")
    with connect(socket) as client:
        require_feature(client, "get-claim", "say why", ". 'epa-orchestrator list' shows what it granted")
        answer = client.claim(service, cpu)
        if cpu is None and answer.claim is None and not answer.hugepages:
            _fail_without_claim(client, service or "", answer)
        noise = claim_noise(client, answer.service_name) if cpu is None and answer.claim is not None else None
    if json_:
        more = {} if noise is None else {"isolation": noise.model_dump()}
        print_json(json.loads(answer.encode()) | more)
    else:
        from epa_orchestrator.cli.show import show

        show(*_story(answer, noise))
        if answer.withheld_by is not None:
            say(f"To see why, run: {command_text('why', answer.withheld_by)}")
    warn(answer.warnings)
    end_if_read_only(answer.state_error)


def _fail_without_claim(client: Client, service: str, answer: ClaimAnswer) -> NoReturn:
    """Say that a service holds nothing, and when it lost it, or which service was probably meant."""
    end_if_read_only(answer.state_error)
    last = answer.changes[-1] if answer.changes else None
    if last is None:
        names = [claim.service_name for listing in client.listings() for claim in listing.allocations]
        hint = did_you_mean(service, names) or "; 'epa-orchestrator list' shows which services hold CPUs"
        fail(f"Service '{service}' holds nothing, and the history does not know it{hint}")
    from epa_orchestrator.cli import changes

    sentence = f"Service '{service}' holds nothing. It held {changes.held(last.before)} until {changes.when(last)}"
    takers = [f"'{taker}' took {named_cpus(cpus)}" for taker, cpus in last.taken_by.items()]
    how = f"when {', '.join(takers)}" if takers else f"and gave it back ({changes.asked_by(last)})"
    fail(f"{sentence}, {how}", last_change=last.document())


def _story(answer: ClaimAnswer, noise: ClaimIsolation | None = None) -> Iterator[str]:
    """The answer in plain words, a line at a time."""
    if answer.cpu is not None:
        yield from _about_cpu(answer)
        if answer.service_name is None:
            return
        yield ""
    yield from _holdings(answer)
    yield from sentences(noise) if noise is not None else ()
    yield ""
    if answer.granted is not None:
        yield from _origins(answer)
        yield from _reasons(answer, answer.granted)
        yield from _since(answer)
    elif answer.history_error is not None:
        yield f"The history cannot be read: {answer.history_error}."
    else:
        yield _DAMAGED_OR_GONE


def _about_cpu(answer: ClaimAnswer) -> Iterator[str]:
    cpu, owner = answer.cpu, answer.service_name
    match answer.state:
        case "claimed":
            yield f"CPU {cpu} belongs to '{owner}'."
        case "unavailable":
            yield f"CPU {cpu} belongs to '{owner}', but it is unavailable: {_absence_of_cpu(answer)}."
        case "withheld":
            yield f"CPU {cpu} is withheld: '{answer.withheld_by}' has the core {answer.core} to itself."
        case state:
            yield f"CPU {cpu} is {_STATES.get(state or '', 'in an unknown state')}."
    yield from _neighbours(answer, f"core {answer.core}")


def _neighbours(answer: ClaimAnswer, where: str) -> Iterator[str]:
    """Which other services have CPUs on the same cores."""
    others = [f"'{service}' has {named_cpus(cpus)}" for service, cpus in answer.core_neighbours.items()]
    if others:
        yield f"On its {where}: {', '.join(others)}."
    elif answer.core is None or "," in answer.core or "-" in answer.core:
        yield f"No other service is on its {where}." if answer.service_name else f"No service is on its {where}."


def _holdings(answer: ClaimAnswer) -> Iterator[str]:
    """What the service holds."""
    claim = answer.claim
    if claim is not None:
        marks = [f"pool {claim.pool}", claim.preemption_policy]
        marks += [named_nodes(answer.numa_nodes)] if answer.numa_nodes else []
        marks += [count_of(answer.l3_domains, "L3 domain")] if answer.l3_domains else []
        count = count_of(claim.cores_count, "CPU")
        yield f"'{answer.service_name}' holds {count}: {claim.allocated_cores} ({', '.join(marks)})."
        if claim.withheld_cpus:
            verb = "is" if claim.withheld_cpus.isdecimal() else "are"
            yield f"{named_cpus(claim.withheld_cpus)} {verb} withheld from all services for it."
        if answer.cpu is None:
            yield from _absent(answer)
            yield from _neighbours(answer, "cores")
    else:
        yield f"'{answer.service_name}' holds no CPUs."
    for pages in answer.hugepages:
        yield (
            f"It has {count_of(pages.hugepages, 'hugepage')} of {format_size(pages.size_kb)} on NUMA node"
            f" {pages.node_id}."
        )


def _absent(answer: ClaimAnswer) -> Iterator[str]:
    """Which CPUs the service cannot use now, and which cores are no longer its own, and why."""
    for reason, cpus in answer.unavailable.items():
        yield f"{cpus_are(cpus)} unavailable: {_absence(answer, reason, cpus)}."
    for reason, cpus in answer.no_longer_withheld.items():
        cores = "this core" if cpus.isdecimal() else "these cores"
        yield (
            f"{cpus_are(cpus)} no longer withheld for it, so others may run on {cores} too:"
            f" {_absence(answer, reason, cpus)}."
        )


def _absence_of_cpu(answer: ClaimAnswer) -> str:
    """Why the CPU that was asked about is unavailable."""
    reasons = [reason for reason, cpus in answer.unavailable.items() if answer.cpu in CpuSet.parse(cpus)]
    return _absence(answer, reasons[0], str(answer.cpu)) if reasons else "the daemon does not say why"


def _absence(answer: ClaimAnswer, reason: str, cpus: str) -> str:
    """A reason in words."""
    it, it_is = ("it", "it is") if cpus.isdecimal() else ("them", "they are")
    pool = answer.claim.pool if answer.claim else ""
    return _ABSENCES.get(reason, reason).format(it=it, it_is=it_is, pool=pool)


def _origins(answer: ClaimAnswer) -> Iterator[str]:
    """Since when the service has its CPUs."""
    for origin in reversed(answer.origins):
        since = format_time(origin.at) if origin.at is not None else "a time that is damaged"
        yield f"It has {named_cpus(origin.cpus)} since {since} (event {origin.id})."


def _reasons(answer: ClaimAnswer, granted: HistoryEvent) -> Iterator[str]:
    from epa_orchestrator.cli import changes

    yield f"Event {granted.id}, {changes.when(granted)}: {changes.change(granted)}"
    yield from (f"  {text}" for text in changes.reasons(granted))
    yield f"  {_settings(answer)}"


def _settings(answer: ClaimAnswer) -> str:
    """The settings in force then, and how they differ from those of now."""
    then, now = answer.settings_then, answer.settings_now
    if then is None:
        return "settings then: not known"
    shown = " ".join(f"{option}={_value(value)}" for option, value in then.items()) or "the defaults"
    if then == now:
        return f"settings then: {shown}; they are the same now"
    differ = sorted(option for option in then.keys() | now.keys() if then.get(option) != now.get(option))
    changed = ", ".join(f"{option} is {_value(now.get(option, 'the default'))}" for option in differ)
    return f"settings then: {shown}; now {changed}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, list) else str(value)


def _since(answer: ClaimAnswer) -> Iterator[str]:
    """What has changed since the CPUs were granted."""
    from epa_orchestrator.cli import changes

    if not answer.changes:
        same = answer.settings_then == answer.settings_now and not (answer.unavailable or answer.no_longer_withheld)
        yield "Nothing has changed since then." if same else "What it holds has not changed since then."
        return
    yield "Since then:"
    if answer.more_changes:
        yield "  … earlier changes are left out: 'epa-orchestrator history' has them"
    for event in answer.changes:
        yield f"  {changes.line(event)}"
        if event.decided_by is not None:
            yield f"    {event.decided_by}"
