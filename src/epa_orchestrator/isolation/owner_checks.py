# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Owner checks: whether strangers work on isolated CPUs (B3), and whether owners use theirs well (E1 to E3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.activity import NOTABLE
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.claim_troubles import JudgedClaim, Ownership
from epa_orchestrator.isolation.elapsed import TWO_READINGS
from epa_orchestrator.isolation.findings import AN_ISOLATED_CPU, CLAIMS, Finding, bad, not_checked, passed, warned
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.noise import PIN_EACH, QUIET_SWITCHES
from epa_orchestrator.isolation.owners import USER_HZ
from epa_orchestrator.isolation.remedies import housekeeping_list
from epa_orchestrator.isolation.task_facts import Task
from epa_orchestrator.isolation.task_names import commands, listed, moved_away, named
from epa_orchestrator.units import count_of, named_cpus

_NEEDS_CLAIMS: Final = f"{CLAIMS}: start the daemon, or run the audit as a user who may ask it"
#: A task younger than this (seconds) is starting up.
_START_UP: Final = 10.0


def owner_checks(case: Case) -> Iterator[Finding]:
    """The findings B3, E1, E2 and E3."""
    needs = _missing(case)
    if needs is not None:
        for check in ("B3", "E1", "E2", "E3"):
            yield not_checked(check, needs)
        return
    ownership = Ownership(case)
    yield _strangers(case, ownership)
    yield _of_owners("E1", ownership, _outside)
    yield _of_owners("E2", ownership, _stacked)
    if ownership.activity.seconds is None:
        yield not_checked("E3", TWO_READINGS)
    else:
        measured = {claim: _measurable(case, claim) for claim in ownership.claims}
        yield _of_owners("E3", ownership, lambda claim: _disturbed(ownership, claim, measured[claim]), measured)


def _missing(case: Case) -> str | None:
    if not case.isolated:
        return AN_ISOLATED_CPU
    if isinstance(case.now.tasks, Unread):
        return f"all tasks of the host: {case.now.tasks.needs}"
    return _NEEDS_CLAIMS if case.owners is None else None


# --- strangers ---


def _strangers(case: Case, ownership: Ownership) -> Finding:
    faults: list[tuple[Task, str]] = [
        (task, f"{named(task)} works on CPU {task.cpu}, which nobody has claimed") for task in ownership.squatters
    ]
    doubts: dict[str, list[Task]] = {}
    for claim in ownership.claims:
        service = claim.owner.service
        if claim.processes is None:
            doubts |= {service: claim.strangers} if claim.strangers else {}
        else:
            faults += [
                (task, f"{named(task)} works on CPU {task.cpu}, which '{service}' has claimed")
                for task in claim.strangers
            ]
    if faults:
        seen = listed([text for _, text in faults], "task", "; ")
        return bad("B3", seen, _removal(case, [task for task, _ in faults]))
    if doubts:
        seen = listed([_doubt(service, tasks) for service, tasks in doubts.items()], "service", "; ")
        return warned("B3", seen, f"{_naming_owners(list(doubts))}, or move the tasks away")
    return passed("B3", f"No user task of others works on {named_cpus(str(case.isolated))}")


def _doubt(service: str, tasks: list[Task]) -> str:
    """Tasks that are the owner's or strangers."""
    names = listed([f"{named(task)} on CPU {task.cpu}" for task in tasks], "task")
    return f"Tasks work on CPUs of '{service}', and its owner is not known: {names}"


def _naming_owners(services: list[str]) -> str:
    """How to make the owners of services known."""
    names = listed([f"'{service}'" for service in services], "service")
    return f"set the option owner-cgroups to the control groups of {names}, such as {services[0]}=machine.slice"


def _removal(case: Case, strangers: list[Task]) -> str:
    """How to get rid of strangers. Those that the scheduler moved here would only be followed by others."""
    if known(case.now.scheduler.balanced) & CpuSet(task.cpu for task in strangers):
        return "take these CPUs from the scheduler first, as B1 says"
    cpus, by_unit = housekeeping_list(case), case.can_limit_units
    return commands(list(dict.fromkeys(moved_away(task, cpus, by_unit=by_unit) for task in strangers)))


# --- owners ---

#: A fault of a claim: what is seen, and the remedy.
_Fault = tuple[str, str]


def _of_owners(
    check: str,
    ownership: Ownership,
    find: Callable[[JudgedClaim], _Fault | None],
    tasks: Mapping[JudgedClaim, list[Task]] | None = None,
) -> Finding:
    """The finding of a check that looks at each claim with a known owner that has tasks, or some of these."""
    judged = [claim for claim in ownership.claims if (claim.tasks if tasks is None else tasks[claim])]
    unknown = [claim.owner.service for claim in ownership.claims if claim.processes is None]
    owners, are = _owners_of(unknown)
    faults = [fault for claim in judged if (fault := find(claim)) is not None]
    if faults:
        seen = listed([seen for seen, _ in faults], "claim", "; ")
        seen += f"; {owners} {are} not known" if unknown else ""
        return bad(check, seen, listed([remedy for _, remedy in faults], "claim", "; "))
    if not ownership.claims:
        return not_checked(check, "a claim of isolated CPUs")
    if unknown:
        return not_checked(check, f"{owners}, which {are} not known", _naming_owners(unknown))
    if not judged:
        age = f" that is older than {_START_UP:.0f} s and ran on the claimed CPUs" if check == "E3" else ""
        return not_checked(check, f"a task of an owner{age}")
    return passed(check, _SEEN[check].format(owners=listed([f"'{claim.owner.service}'" for claim in judged], "owner")))


_SEEN: Final = {
    "E1": "{owners}: threads are limited to the claimed CPUs",
    "E2": "{owners}: no thread waits while another CPU of its claim idles",
    "E3": "{owners}: no thread waits or is interrupted by other tasks",
}


def _owners_of(services: list[str]) -> tuple[str, str]:
    """A subject, and its verb."""
    names = listed([f"'{service}'" for service in services], "service")
    return (f"the owner of {names}", "is") if len(services) == 1 else (f"the owners of {names}", "are")


def _outside(claim: JudgedClaim) -> _Fault | None:
    service, cpus = claim.owner.service, claim.owner.cpus
    if not claim.is_pinned:
        seen = f"No thread of '{service}' is limited to its {named_cpus(str(cpus))}"
        first = next((task for task in claim.tasks if task.allowed & cpus), claim.tasks[0])
        return (
            seen,
            f"limit the working threads of '{service}' to them, for example: sudo taskset -pc {cpus} {first.tid}",
        )
    if claim.outside:
        task = claim.outside[0]
        where = f"works on CPU {task.cpu}, outside {named_cpus(str(cpus))} of '{service}', where it may run too"
        return f"{named(task)} {where}{_and_more(claim.outside)}", f"sudo taskset -pc {cpus} {task.tid}"
    return None


def _and_more(tasks: list[Task]) -> str:
    return "" if len(tasks) == 1 else f", and so do {count_of(len(tasks) - 1, 'more thread')}"


def _stacked(claim: JudgedClaim) -> _Fault | None:
    if not claim.stacked:
        return None
    cpu = claim.stacked[0].cpu
    sharing = [task for task in claim.stacked if task.cpu == cpu]
    seen = (
        f"{count_of(len(sharing), 'thread')} of '{claim.owner.service}' share CPU {cpu} "
        f"({listed([named(task) for task in sharing], 'thread')}) while {named_cpus(str(claim.idle))} of its claim"
        f" {'idles' if len(claim.idle) == 1 else 'idle'}"
    )
    return seen, pinning(claim)


def pinning(claim: JudgedClaim) -> str:
    """How to give stacked threads CPUs of their own."""
    sharing = [task for task in claim.stacked if task.cpu == claim.stacked[0].cpu]
    pins = [f"sudo taskset -pc {cpu} {task.tid}" for cpu, task in zip(claim.idle, sharing[1:], strict=False)]
    return f"{PIN_EACH}: {commands(pins)}"


def _measurable(case: Case, claim: JudgedClaim) -> list[Task]:
    """The owner's tasks that ran on the claim's CPUs last, and that are not starting up."""
    cpus = claim.owner.cpus
    return [
        task for task in claim.tasks if task.cpu in cpus and task.cpu in task.allowed and not _is_starting(case, task)
    ]


def _disturbed(ownership: Ownership, claim: JudgedClaim, tasks: list[Task]) -> _Fault | None:
    activity = ownership.activity
    worst: tuple[float, Task] | None = None
    for task in tasks:
        harm = max(activity.involuntary_rate(task) / QUIET_SWITCHES, (activity.waited_share(task) or 0.0) / NOTABLE)
        if harm > 1 and (worst is None or harm > worst[0]):
            worst = harm, task
    if worst is None:
        return None
    task = worst[1]
    switches, waited = activity.involuntary_rate(task), activity.waited_share(task)
    parts = [f"was interrupted by other tasks {switches:.0f} times a second"] if switches >= 1 else []
    parts += [f"waited {waited:.0%} of the time"] if waited is not None and waited >= NOTABLE else []
    seen = f"{named(task)} of '{claim.owner.service}' on CPU {task.cpu} {' and '.join(parts)}"
    return seen, _culprit(claim, CpuSet((task.cpu,)))


def _culprit(claim: JudgedClaim, cpu: CpuSet) -> str:
    if any(task.cpu in cpu for task in claim.strangers):
        return "move the strangers away, as B3 says"
    if any(task.cpu in cpu for task in claim.stacked):
        return f"{PIN_EACH}, as E2 says"
    return f"give each working thread of '{claim.owner.service}' a CPU of its own, and see what B4, B5 and D2 say"


def _is_starting(case: Case, task: Task) -> bool:
    uptime = case.now.uptime
    return not isinstance(uptime, Unread) and uptime - task.started / USER_HZ < _START_UP
