# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Force check (A1): whether the CPUs that the kernel line asks to isolate are isolated, and why not."""

from __future__ import annotations

from collections.abc import Iterator

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.findings import Finding, bad, not_checked, passed, warned
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.housekeeping import UNSUPPORTED, Outcome, all_cpus, first_of, outcomes
from epa_orchestrator.isolation.kernel_line import Flag
from epa_orchestrator.units import cpus_are, named_cpus

_ALL_PARAMETERS = (
    "add isolcpus=domain,managed_irq,LIST nohz_full=LIST rcu_nocbs=LIST irqaffinity=REST to the kernel line and reboot;"
    " LIST are the CPUs to isolate, such as 4-15, and REST are all others, such as 0-3"
)
_SOURCES = {
    "isolcpus": "The kernel's list of isolated CPUs",
    "nohz_full": "nohz_full",
    "cpuset": "The root's cpuset.cpus.isolated",
}


def check_in_force(case: Case) -> Finding:
    """A1: compares isolcpus= and nohz_full= with the lists in force, and looks at the list that the option reads."""
    if isinstance(case.now.line.cmdline, Unread):
        return not_checked("A1", case.now.line.cmdline.needs)
    faults = list(_faults(case))
    if faults:
        seen, remedies = zip(*faults, strict=True)
        return bad("A1", "; ".join(seen), "; ".join(dict.fromkeys(remedies)))
    unread = _unread(case)
    if unread is not None:
        return not_checked("A1", unread.needs)
    if not case.in_force:
        return _nothing_isolated(case)
    option = case.terms.isolated_cpus_from
    if option != "isolcpus":
        return passed("A1", f"{_SOURCES[option]} has {case.in_force}, and isolated-cpus-from={option} reads it")
    return passed("A1", f"{cpus_are(str(case.in_force))} isolated{_comparison(case)}")


def _comparison(case: Case) -> str:
    """How the CPUs in force, which are all that the line asks for, compare with the line."""
    line = case.now.line
    taken = outcomes(case.line, line.cpu_ids, known(line.present))
    asked = all_cpus(outcome.named for outcome in taken if "domain" in outcome.request.flags)
    if known(line.isolated) <= asked:
        return ", as the kernel line asks"
    return ", more than the kernel line names" if asked else ", although the kernel line names none"


def _unread(case: Case) -> Unread | None:
    """A list that could not be read, and that the line or the option asks for."""
    line = case.now.line
    flags = {flag for request in case.line.requests for flag in request.flags}
    lists = [line.source(case.terms.isolated_cpus_from)]
    if "domain" in flags:
        lists.append(line.isolated)
    if "nohz" in flags:
        lists.append(line.nohz_full)
    return next((each for each in lists if isinstance(each, Unread)), None)


def _faults(case: Case) -> Iterator[tuple[str, str]]:
    """Each parameter that is not in force, with the remedy."""
    line = case.now.line
    nohz_full = EMPTY if line.lacks_nohz_full else line.nohz_full
    in_force: dict[Flag, CpuSet | Unread] = {"domain": line.isolated, "nohz": nohz_full}
    for outcome in outcomes(case.line, line.cpu_ids, known(line.present)):
        for flag, cpus in in_force.items():
            if flag in outcome.request.flags and not isinstance(cpus, Unread):
                fault = _fault(case, outcome, cpus, flag)
                if fault is not None:
                    yield fault
                    break  # the kernel takes or drops a parameter as a whole


def _fault(case: Case, outcome: Outcome, in_force: CpuSet, flag: Flag) -> tuple[str, str] | None:
    """What is wrong with one parameter, if the list in force lacks CPUs that it names, and the remedy."""
    ids = case.now.line.cpu_ids
    usable = outcome.named & ids if ids else outcome.named
    missing = usable - in_force
    if flag == "nohz":
        # The kernel's documentation says that nohz_full= never takes the boot CPU.
        missing -= _boot_cpu(case)
    if not missing and (usable or not outcome.mistake):
        return None
    subject = cpus_are(str(in_force)) if in_force else "no CPU is"
    effect = "isolated" if flag == "domain" else "in nohz_full"
    seen = f"{printable(outcome.request.text[:80])} is on the kernel line, and {subject} {effect}"
    return f"{seen}: {_reason(case, outcome, missing)}", _remedy(case, outcome)


def _boot_cpu(case: Case) -> CpuSet:
    return first_of(known(case.now.line.present))


def _cannot(case: Case, outcome: Outcome) -> bool:
    """Whether the parameter asks for nohz_full, and the kernel drops it because it was built without."""
    return "nohz" in outcome.request.flags and case.now.line.lacks_nohz_full


def _reason(case: Case, outcome: Outcome, missing: CpuSet) -> str:
    """Why the kernel did not do what the parameter asks for."""
    if _cannot(case, outcome):
        return f'this kernel was built without CONFIG_NO_HZ_FULL (dmesg shows "{UNSUPPORTED}")'
    if outcome.mistake:
        return f'{outcome.mistake} (dmesg shows "{outcome.log}")'
    present = known(case.now.line.present)
    if present and present <= outcome.named and missing <= _boot_cpu(case):
        return f"the kernel needs a CPU for itself and keeps {named_cpus(str(missing))}"
    letters = [letter for letter in ("N", "all", ":") if letter in outcome.request.listed]
    if letters:
        return f"this kernel may not know '{letters[0]}' in a list of CPUs"
    if outcome.request.name == "nohz_full" and case.line.isolcpus:
        return "before Linux 5.18, nohz_full= has to name the same CPUs as isolcpus="
    return "the kernel dropped the parameter; dmesg may say why"


def _remedy(case: Case, outcome: Outcome) -> str:
    """The parameter with CPUs that the kernel takes."""
    if _cannot(case, outcome):
        word = "nohz_full=" if outcome.request.name == "nohz_full" else "the flag nohz"
        return f"boot a kernel with CONFIG_NO_HZ_FULL=y, or set the option nohz-full=none and delete {word}"
    present = known(case.now.line.present)
    cpus = outcome.named & present if present else outcome.named
    if present and present <= cpus:
        cpus -= _boot_cpu(case)
    request = outcome.request
    same_name = {known_request.text for known_request in case.line.requests if known_request.name == request.name}
    if len(same_name) > 1:
        return f"keep only one {request.name}= on the kernel line, and reboot"
    if not cpus:
        return f"write {request.with_cpus('LIST')} on the kernel line, with the CPUs to isolate as LIST, and reboot"
    corrected = request.with_cpus(cpus)
    if corrected == request.text and request.name == "nohz_full" and case.line.isolcpus:
        return "name the same CPUs in isolcpus= and nohz_full=, and reboot"
    if corrected == request.text:
        return "look into dmesg for the reason, correct the kernel line and reboot"
    return f"write {corrected} on the kernel line instead and reboot"


def _nothing_isolated(case: Case) -> Finding:
    """Nothing is asked for in vain, and the option's list is empty."""
    line = case.now.line
    option = case.terms.isolated_cpus_from
    partition = known(line.cpuset_isolated)
    if option != "isolcpus":
        return _empty_source(case)
    if partition:
        # A partition never appears in the kernel's own list, so that list is right.
        seen = f"The kernel line asks for no isolated CPU, and a cpuset partition isolates {named_cpus(str(partition))}"
        return passed("A1", f"{seen}; the option isolated-cpus-from=cpuset makes use of them")
    seen = "No CPU is isolated from the scheduler, and the kernel line asks for none"
    nohz_full = known(line.nohz_full)
    if nohz_full:
        remedy = f"set the option isolated-cpus-from=nohz_full, or {_add_isolcpus(nohz_full)}"
        return warned("A1", f"{seen}; nohz_full has {nohz_full}", remedy)
    meant = case.line.named_cpus & known(line.present)
    return warned("A1", seen, _add_isolcpus(meant) if meant else _ALL_PARAMETERS)


def _add_isolcpus(cpus: CpuSet) -> str:
    return f"add isolcpus=domain,managed_irq,{cpus} to the kernel line and reboot"


def _empty_source(case: Case) -> Finding:
    """The option reads nohz_full or the cpuset, and finds no CPU there."""
    line = case.now.line
    option = case.terms.isolated_cpus_from
    seen = f"{_SOURCES[option]} is empty, and the option isolated-cpus-from={option} reads it"
    isolated = known(line.isolated)
    if isolated:
        return warned(
            "A1", f"{seen}; isolcpus= isolates {named_cpus(str(isolated))}", "set isolated-cpus-from=isolcpus"
        )
    if option == "nohz_full":
        return warned("A1", seen, _ALL_PARAMETERS)
    remedy = "write isolated to cpuset.cpus.partition of a cgroup that has the CPUs to isolate"
    return warned("A1", seen, remedy)
