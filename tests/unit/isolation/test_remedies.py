# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPU lists and masks in remedies."""

from __future__ import annotations

import subprocess

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Terms
from epa_orchestrator.isolation.remedies import (
    braced,
    housekeeping_list,
    housekeeping_mask,
    isolated_list,
    kernel_mask,
    line_remedy,
    nohz_full_remedy,
)
from tests.unit.isolation.quiet_host import CPU, case, facts


@pytest.mark.parametrize(
    ("cpus", "mask"),
    [("", "0"), ("0-1", "3"), ("31", "80000000"), ("32", "1,00000000"), ("0,33,64", "1,00000002,00000001")],
)
def test_masks_have_words_of_32_bits(cpus: str, mask: str) -> None:
    assert kernel_mask(CpuSet.parse(cpus)) == mask
    assert CpuSet.parse_mask(mask) == CpuSet.parse(cpus)


@pytest.mark.parametrize(
    ("cpus", "pattern", "words"),
    [
        ("2", "2", "2"),
        ("2-4", "{2..4}", "2 3 4"),
        ("2,4", "{2,4}", "2 4"),
        ("2-3,8,10-11", "{{2..3},8,{10..11}}", "2 3 8 10 11"),
    ],
)
def test_bash_expands_lists_to_each_cpu(cpus: str, pattern: str, words: str) -> None:
    assert braced(CpuSet.parse(cpus)) == pattern
    expanded = subprocess.run(["bash", "-c", f"echo {pattern}"], capture_output=True, text=True, check=True)
    assert expanded.stdout.strip() == words


def test_lists_name_all_cpus_although_few_are_looked_at() -> None:
    looked_at = case(terms=Terms(only=CpuSet([3])))
    assert isolated_list(looked_at) == "2-3"
    assert housekeeping_list(looked_at) == "0-1"
    assert housekeeping_mask(looked_at) == "3"


def test_lists_name_all_cpus_that_were_meant_although_few_are_looked_at() -> None:
    nothing = {f"{CPU}/isolated": "\n", f"{CPU}/nohz_full": "(null)\n", "proc/cmdline": "isolcpus=managed_irq,2-3"}
    looked_at = case(nothing, terms=Terms(only=CpuSet([3])))
    assert isolated_list(looked_at) == "2-3"
    assert housekeeping_list(looked_at) == "0-1"


def test_unknown_housekeeping_cpus_have_a_placeholder() -> None:
    unknown = case({f"{CPU}/online": None})
    assert housekeeping_list(unknown) == housekeeping_mask(unknown) == "HOUSEKEEPING-CPUS"


@pytest.mark.parametrize(
    ("is_set", "remedy"),
    [
        (False, "add nohz_full=2-3 to the kernel line, then reboot"),
        (True, "change nohz_full= on the kernel line to nohz_full=2-3, then reboot"),
    ],
)
def test_parameter_is_added_or_changed(is_set: bool, remedy: str) -> None:
    assert line_remedy("nohz_full", "2-3", is_set) == remedy


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("isolcpus=2-3", "add nohz_full=2-3 to the kernel line, then reboot"),
        ("nohz_full=2", "change nohz_full= on the kernel line to nohz_full=2-3, then reboot"),
        ("nohz_full=1-3", "correct nohz_full= on the kernel line, as check A1 of the audit says, then reboot"),
        ("nohz_full=2-x", "change nohz_full= on the kernel line to nohz_full=2-3, then reboot"),
    ],
)
def test_nohz_full_that_the_kernel_dropped_is_corrected(line: str, remedy: str) -> None:
    host = facts({"proc/cmdline": line, "sys/devices/system/cpu/nohz_full": "(null)\n"})
    assert nohz_full_remedy(host.line, CpuSet.parse("2-3")) == remedy
