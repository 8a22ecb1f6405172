# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Elsewhere: where CPUs are isolated, or meant to be, when the option isolated-cpus-from reads an empty list."""

from __future__ import annotations

from collections.abc import Iterator

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.case import known
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.housekeeping import outcomes
from epa_orchestrator.isolation.kernel_line import KernelLine
from epa_orchestrator.isolation.line_facts import LineFacts
from epa_orchestrator.names import IsolatedCpusFrom


def found_elsewhere(line: LineFacts, option: IsolatedCpusFrom) -> str:
    """One sentence about CPUs that are isolated, or meant to be, in another way than the option says.

    It says what was found and what to do, without a final full stop; it is empty where the option's own list has CPUs,
    and where nothing else was found.
    """
    if known(line.source(option)):
        return ""
    usable = list(_other_sources(line, option))
    requests = list(_unmet_requests(line))
    found = [f"{name} has {cpus}" for _, name, cpus in usable] + [sentence for sentence, _ in requests]
    if not found:
        return ""
    remedies = [f"set isolated-cpus-from={source}" for source, _, _ in usable[:1]]
    remedies += list(dict.fromkeys(remedy for _, remedy in requests if remedy))[:1]
    if usable and not requests and option == "isolcpus":
        source, _, cpus = usable[0]
        if source == "nohz_full":
            remedies.append(f"add isolcpus=domain,managed_irq,{cpus} to the kernel line and reboot")
    return f"{', '.join(found)}: {' or '.join(remedies)}" if remedies else ", ".join(found)


def _other_sources(line: LineFacts, option: IsolatedCpusFrom) -> Iterator[tuple[IsolatedCpusFrom, str, CpuSet]]:
    """The other values of the option that would find CPUs, each with the name of its list and the CPUs."""
    sources: tuple[tuple[IsolatedCpusFrom, str, CpuSet], ...] = (
        ("isolcpus", "the kernel's isolated", known(line.isolated)),
        ("cpuset", "the root's cpuset.cpus.isolated", known(line.cpuset_isolated) - known(line.isolated)),
        ("nohz_full", "nohz_full", known(line.nohz_full)),
    )
    return (source for source in sources if source[0] != option and source[2])


def _unmet_requests(line: LineFacts) -> Iterator[tuple[str, str]]:
    """What isolcpus= and nohz_full= on the kernel line ask for in vain, each with the remedy."""
    if isinstance(line.cmdline, Unread):
        return
    for outcome in outcomes(KernelLine(line.cmdline), line.cpu_ids, known(line.present)):
        request = outcome.request
        if known(line.isolated if request.name == "isolcpus" else line.nohz_full):
            continue
        if outcome.mistake:
            listed = printable((request.listed or request.text.partition("=")[2])[:80])
            yield f"{request.name}= has {listed}, but {outcome.mistake}", "correct the kernel line and reboot"
        elif request.name == "isolcpus" and outcome.named and "domain" not in request.flags:
            yield f"isolcpus= has only {' and '.join(sorted(request.flags))}", "add domain"
