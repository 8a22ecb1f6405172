# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPU lists on the kernel line are read in the kernel's full grammar, and mistakes are named."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.boot_lists import read_boot_list


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", ""),
        (",", ""),
        ("2", "2"),
        ("2-3", "2-3"),
        ("3,2", "2-3"),
        ("2,,3", "2-3"),
        ("2 3", "2-3"),
        ("all", "0-15"),
        ("ALL", "0-15"),
        ("N", "15"),
        ("2-N", "2-15"),
        ("0-15:1/2", "0,2,4,6,8,10,12,14"),
        ("1-15:1/2", "1,3,5,7,9,11,13,15"),
        ("0-15:2/4", "0-1,4-5,8-9,12-13"),
        ("4-10:4/16", "4-7"),
        ("4-6:4/16", "4-6"),
        ("0-9:0/2", ""),
        ("all:1/8", "0,8"),
        ("0-1,4-8:1/4,15", "0-1,4,8,15"),
        ("007", "7"),
    ],
)
def test_kernel_grammar_on_a_host_with_16_ids(text: str, cpus: str) -> None:
    read = read_boot_list(text, 16)
    assert (str(read.cpus), read.mistake) == (cpus, "")


@pytest.mark.parametrize(
    ("text", "cpus", "mistake"),
    [
        ("2-99", "2-99", "this host has no CPU 99"),
        ("16", "16", "this host has no CPU 16"),
        ("3-2", "2-3", "the range '3-2' runs backwards"),
        ("2-", "", "'2-' is not a CPU or a range of CPUs such as 4-7"),
        ("-3", "", "'-3' is not a CPU or a range of CPUs such as 4-7"),
        ("2-n", "", "'2-n' is not a CPU or a range of CPUs such as 4-7"),
        ("2-3n", "", "'2-3n' is not a CPU or a range of CPUs such as 4-7"),
        ("0x2", "", "'0x2' is not a CPU or a range of CPUs such as 4-7"),
        ("4:1/2", "", "'4:1/2' is not a CPU or a range of CPUs such as 4-7"),
        ("0-3:3/2", "0-3", "'0-3:3/2' takes 3 CPUs of each 2"),
        ("0-3:0/0", "0-3", "'0-3:0/0' takes 0 CPUs of each 0"),
        ("1,x,2-99", "1-99", "'x' is not a CPU or a range of CPUs such as 4-7"),
    ],
)
def test_mistakes_are_named_and_the_rest_is_read(text: str, cpus: str, mistake: str) -> None:
    read = read_boot_list(text, 16)
    assert (str(read.cpus), read.mistake) == (cpus, mistake)


def test_without_a_count_no_cpu_is_too_high_and_n_names_none() -> None:
    assert [str(read_boot_list(text, None).cpus) for text in ("2-99", "2-N,7", "all,7")] == ["2-99", "7", "7"]
    assert not any(read_boot_list(text, None).mistake for text in ("2-99", "2-N,7", "all,7"))


def test_huge_ranges_stop_at_the_highest_id() -> None:
    assert str(read_boot_list("65534-4000000000", None).cpus) == "65534-65535"
    assert len(read_boot_list("0-4000000000:1/2", None).cpus) == 32768
    assert str(read_boot_list("5-4000000000:1/4000000000", None).cpus) == "5"
    assert str(read_boot_list("70000-80000:1/2", None).cpus) == ""
