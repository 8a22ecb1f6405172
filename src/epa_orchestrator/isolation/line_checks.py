# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Line checks (A1 to A6): whether the kernel line asks for isolation in a way that works, and is up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.boot_lists import read_boot_list
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.findings import AN_ISOLATED_CPU, Finding, bad, not_checked, passed, warned
from epa_orchestrator.isolation.force_check import check_in_force
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.housekeeping import NO_MATCH, all_cpus, first_of, outcomes
from epa_orchestrator.isolation.kernel_line import Parameter
from epa_orchestrator.isolation.pending_check import check_pending
from epa_orchestrator.units import cpus_are, named_cpus

#: Parameters that isolate CPUs, and others with similar names.
_ISOLATING: Final = ("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity")
_SIMILAR: Final = ("rcu_nocb_poll", "nohz", "maxcpus", "nr_cpus", "possible_cpus")
#: How alike a misspelt name is, as difflib measures it: isolated_cpus and isolcpus are 0.76 alike.
_ALIKE: Final = 0.75
_LONGEST_NAME: Final = 32
#: The kernel takes isolcpus= and the others only with a value.
_NEED_VALUE: Final = ("isolcpus", "nohz_full", "irqaffinity")


def line_checks(case: Case) -> Iterator[Finding]:
    """The findings A1 to A6."""
    yield check_in_force(case)
    yield _check_one_isolcpus(case)
    yield _check_domain_flag(case)
    yield _check_unknown_parameters(case)
    yield _check_kernel_features(case)
    yield check_pending(case)


def _check_one_isolcpus(case: Case) -> Finding:
    """A2: isolcpus= parameters with different lists."""
    line = case.now.line
    if isinstance(line.cmdline, Unread):
        return not_checked("A2", line.cmdline.needs)
    requests = case.line.isolcpus
    if len(requests) < 2:
        return passed("A2", f"The kernel line has {'one' if requests else 'no'} isolcpus=")
    results = [
        outcome
        for outcome in outcomes(case.line, line.cpu_ids, known(line.present))
        if outcome.request.name == "isolcpus"
    ]
    if len({(outcome.named, bool(outcome.mistake)) for outcome in results}) == 1:
        return passed("A2", f"The kernel line has {len(requests)} isolcpus= with the same CPUs")
    places = " and ".join(f"{printable(each.text[:80])} (word {each.position})" for each in requests)
    present = known(line.present)
    cpus = all_cpus(outcome.named for outcome in results)
    cpus = cpus & present if present else cpus
    wanted = cpus if cpus and cpus != present else "LIST"
    remedy = f"keep one of them, or write isolcpus=domain,managed_irq,{wanted} for the CPUs of all, and reboot"
    if any(outcome.log == NO_MATCH or outcome.mistake for outcome in results):
        return bad("A2", f"The kernel line has different ones: {places}", remedy)
    seen = f"The kernel line has different ones: {places}; this kernel takes both, and kernels before 5.18 do not"
    return warned("A2", seen, remedy)


def _check_domain_flag(case: Case) -> Finding:
    """A3: isolcpus= without the flag domain, or nohz_full= alone, and no partition that isolates these CPUs."""
    line = case.now.line
    if isinstance(line.cmdline, Unread):
        return not_checked("A3", line.cmdline.needs)
    present = known(line.present)
    asked = {
        outcome.request: outcome.named & present if present else outcome.named
        for outcome in outcomes(case.line, line.cpu_ids, present)
    }
    asked = {request: cpus for request, cpus in asked.items() if cpus}
    if any("domain" in request.flags for request in asked):
        return passed("A3", "isolcpus= has the flag domain, which is also the default")
    partition = case.partitioned
    by_partition = passed("A3", f"A cpuset partition isolates {named_cpus(str(partition))}")
    if not asked:
        return by_partition if partition else not_checked("A3", AN_ISOLATED_CPU)
    cpus = all_cpus(asked.values())
    if present and present <= cpus:
        cpus -= first_of(present)  # the kernel keeps one CPU
    left = cpus - partition - known(line.isolated)
    if partition and (not left or case.terms.isolated_cpus_from == "cpuset"):
        return by_partition
    if not left:
        return passed("A3", f"{cpus_are(str(cpus))} isolated from the scheduler")
    return _balanced(case, " and ".join(printable(request.text[:80]) for request in asked), left)


def _balanced(case: Case, texts: str, cpus: CpuSet) -> Finding:
    """A3 for CPUs that parameters without domain name, and that no known partition isolates."""
    balanced = case.now.scheduler.balanced
    if not cpus & known(balanced):
        if known(balanced):
            return passed("A3", f"{cpus_are(str(cpus))} out of the scheduler's domains, by a cpuset partition")
        hidden = next((fact for fact in _places_of_partitions(case) if fact.reason == "denied"), None)
        if hidden is not None:
            return not_checked("A3", hidden.needs)
    seen = f"Without the flag domain in {texts}, the scheduler moves tasks to {named_cpus(str(cpus))}"
    return bad("A3", seen, f"write isolcpus=domain,managed_irq,{cpus} on the kernel line and reboot")


def _places_of_partitions(case: Case) -> Iterator[Unread]:
    """What tells about isolated partitions and could not be read; the root's list is enough where it is there."""
    listed = case.now.line.cpuset_isolated
    if isinstance(listed, Unread):
        yield listed
        if isinstance(case.now.scheduler.partitions, Unread):
            yield case.now.scheduler.partitions


def _check_unknown_parameters(case: Case) -> Finding:
    """A4: parameters that the mainline kernel does not know, and misspelt ones."""
    line = case.now.line
    if isinstance(line.cmdline, Unread):
        return not_checked("A4", line.cmdline.needs)
    seen: list[str] = []
    remedies: list[str] = []
    for word in case.line.parameters:
        text = printable(word.text[:80])
        if word.name == "kthread_cpus" and not _kthreads_obey(case, word):
            seen.append(f"{text} is no parameter of this kernel")
            remedies.append(f"delete {text}: nohz_full= keeps kernel threads off its CPUs")
        elif word.name in _NEED_VALUE and word.value is None:
            seen.append(f"{text} has no list of CPUs, so the kernel ignores it")
            remedies.append(f"write {word.name}=LIST instead, or delete it")
        elif meant := _misspelt(word):
            seen.append(f"{text} is no parameter of the kernel")
            remedies.append(f"write {meant}={printable((word.value or 'LIST')[:80])} instead")
    if seen:
        return warned("A4", "; ".join(seen[:5]), f"{'; '.join(remedies[:5])}; then reboot")
    return passed("A4", "No parameter for isolation is misspelt or unknown to the kernel")


def _kthreads_obey(case: Case, word: Parameter) -> bool:
    """Whether kernel threads have the CPUs of kthread_cpus=, as with the kernels of some vendors."""
    line = case.now.line
    if isinstance(line.kthreadd_allowed, Unread):
        return False
    ids = line.cpu_ids
    asked = read_boot_list(word.value or "", ids.mask.bit_length() or None)
    return bool(asked.cpus) and (asked.cpus & ids if ids else asked.cpus) == line.kthreadd_allowed & ids


def _misspelt(word: Parameter) -> str | None:
    """The parameter that was probably meant."""
    import difflib

    name = word.name.casefold()
    if "." in name or len(name) > _LONGEST_NAME or word.name in _ISOLATING or word.name in _SIMILAR:
        return None
    nearest = difflib.get_close_matches(name, (*_ISOLATING, *_SIMILAR), n=1, cutoff=_ALIKE)
    return nearest[0] if nearest and nearest[0] in _ISOLATING else None


def _check_kernel_features(case: Case) -> Finding:
    """A5: whether the kernel was built with what isolation needs."""
    line = case.now.line
    if not case.in_force and not case.isolated and not case.line.requests:
        return not_checked("A5", AN_ISOLATED_CPU)
    config: Mapping[str, bool] = {} if isinstance(line.kernel_config, Unread) else line.kernel_config
    wants_nohz = case.terms.nohz_full == "same" or any("nohz" in request.flags for request in case.line.requests)
    needed = ["CONFIG_CPU_ISOLATION"]
    if wants_nohz:
        needed += ["CONFIG_NO_HZ_FULL", "CONFIG_RCU_NOCB_CPU"]
    lacks = [feature for feature in needed if config.get(feature) is False]
    if wants_nohz and line.lacks_nohz_full and "CONFIG_NO_HZ_FULL" not in lacks and "CONFIG_NO_HZ_FULL" not in config:
        lacks.append("CONFIG_NO_HZ_FULL")
    if lacks:
        return bad(
            "A5",
            f"This kernel was built without {' and '.join(lacks)}",
            f"boot a kernel that was built with {' and '.join(f'{feature}=y' for feature in lacks)};"
            " the files /boot/config-* say which one was",
        )
    if isinstance(line.kernel_config, Unread) and isinstance(line.nohz_full, Unread):
        return not_checked("A5", line.kernel_config.needs)
    built = "The kernel was built with" if config else "The kernel has nohz_full, so it was built with"
    return passed("A5", f"{built} {', '.join(needed)}" if config else f"{built} CONFIG_NO_HZ_FULL")
