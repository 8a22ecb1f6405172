# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The status says where CPUs are isolated when the option's own list is empty."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.elsewhere import found_elsewhere
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.line_facts import read_line_facts
from epa_orchestrator.names import IsolatedCpusFrom
from tests.unit.isolation.line_hosts import host_files

CORRECT = "correct the kernel line and reboot"


@pytest.mark.parametrize(
    ("option", "files", "sentence"),
    [
        ("isolcpus", host_files("isolcpus=2-3", "2-3", "2-3"), ""),
        ("isolcpus", host_files("quiet"), ""),
        ("isolcpus", host_files("isolcpus="), ""),
        ("isolcpus", {}, ""),
        ("nohz_full", host_files("nohz_full=2-3", "", "2-3"), ""),
        ("cpuset", host_files("quiet", partition="2-3"), ""),
        (
            "isolcpus",
            host_files("isolcpus=managed_irq,2-3 nohz_full=2-3", "", "2-3"),
            "nohz_full has 2-3, isolcpus= has only managed_irq: set isolated-cpus-from=nohz_full or add domain",
        ),
        (
            "isolcpus",
            host_files("isolcpus=managed_irq,nohz,2-3", "", ""),
            "isolcpus= has only managed_irq and nohz: add domain",
        ),
        (
            "isolcpus",
            host_files("nohz_full=2-3", "", "2-3"),
            (
                "nohz_full has 2-3: set isolated-cpus-from=nohz_full"
                " or add isolcpus=domain,managed_irq,2-3 to the kernel line and reboot"
            ),
        ),
        (
            "isolcpus",
            host_files("quiet", partition="2-3"),
            "the root's cpuset.cpus.isolated has 2-3: set isolated-cpus-from=cpuset",
        ),
        (
            "isolcpus",
            host_files("nohz_full=2-3", "", "2-3", "2-3"),
            "the root's cpuset.cpus.isolated has 2-3, nohz_full has 2-3: set isolated-cpus-from=cpuset",
        ),
        ("isolcpus", host_files("isolcpus=2-99"), f"isolcpus= has 2-99, but this host has no CPU 99: {CORRECT}"),
        ("isolcpus", host_files("isolcpus=3-2"), f"isolcpus= has 3-2, but the range '3-2' runs backwards: {CORRECT}"),
        (
            "isolcpus",
            host_files("isolcpus=all"),
            f"isolcpus= has all, but the kernel reads 'all' as a flag and finds no list of CPUs: {CORRECT}",
        ),
        (
            "nohz_full",
            host_files("isolcpus=2-3", "2-3"),
            "the kernel's isolated has 2-3: set isolated-cpus-from=isolcpus",
        ),
        (
            "nohz_full",
            host_files("isolcpus=2-3 nohz_full=2-99", "2-3", "", "2-3"),
            (
                "the kernel's isolated has 2-3, nohz_full= has 2-99, but this host has no CPU 99:"
                f" set isolated-cpus-from=isolcpus or {CORRECT}"
            ),
        ),
        ("nohz_full", host_files("nohz_full=2-99"), f"nohz_full= has 2-99, but this host has no CPU 99: {CORRECT}"),
        (
            "cpuset",
            host_files("isolcpus=2-3", "2-3"),
            "the kernel's isolated has 2-3: set isolated-cpus-from=isolcpus",
        ),
    ],
)
def test_what_is_found_elsewhere(option: IsolatedCpusFrom, files: dict[str, str], sentence: str) -> None:
    assert found_elsewhere(read_line_facts(RecordedHost(files)), option) == sentence


def test_text_of_the_line_cannot_act_on_a_terminal() -> None:
    facts = read_line_facts(RecordedHost(host_files("isolcpus=2\x1b[2J")))
    assert "\x1b" not in found_elsewhere(facts, "isolcpus")
