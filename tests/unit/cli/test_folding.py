# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Text is folded between words and after the commas of CPU lists, and a number keeps its noun."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.cli.folding import fold, fold_indented, fold_sentence, width_of
from epa_orchestrator.cpuset import CpuSet

CPUS = st.sets(st.integers(0, 65_535), max_size=300).map(CpuSet)


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("2,4,10-12", 9, ["2,4,10-12"]),
        ("2,4,10-12", 8, ["2,4,", "10-12"]),
        ("CPUs 2,4,10-12", 10, ["CPUs 2,4,", "10-12"]),
        ("lost 2-3 to ovs", 8, ["lost 2-3", "to ovs"]),
        ("openstack-hypervisor", 12, ["openstack-", "hypervisor"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("日本語", 4, ["日本", "語"]),
        ("100 to 1,000 times", 12, ["100 to 1,000", "times"]),
        ("100 to 1,000 times", 10, ["100 to", "1,000", "times"]),
        ("", 5, [""]),
    ],
)
def test_fold(text: str, width: int, lines: list[str]) -> None:
    assert fold(text, width) == lines


@given(CPUS, st.integers(12, 200))
def test_no_item_of_a_cpu_list_is_broken(cpus: CpuSet, width: int) -> None:
    lines = fold(str(cpus), width)
    assert "".join(lines) == str(cpus)
    assert all(line.endswith(",") for line in lines[:-1])
    assert all(len(line) <= width for line in lines)


@given(st.text(max_size=300), st.integers(2, 60))
def test_no_line_is_wider_and_nothing_is_lost(text: str, width: int) -> None:
    lines = fold(text, width)
    assert all(width_of(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize("width", range(30, 100))
def test_number_stays_with_its_noun(width: int) -> None:
    text = "NUMA node 1 fits tighter for its CPUs left over in its L3 domains: 4 against 8 CPUs, and 12 CPUs are free"
    lines = fold_sentence(text, width)
    assert " ".join(lines) == text
    assert all(len(line) <= width for line in lines)
    assert not any(line.split()[-1].isdecimal() for line in lines[:-1])


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("  asked by: pid 7", 40, ["  asked by: pid 7"]),
        ("  asked by: python of uid 0", 16, ["  asked by:", "    python of", "    uid 0"]),
        ("asked by: python", 12, ["asked by:", "  python"]),
        ("    CPUs 2,4,10-12", 16, ["    CPUs 2,4,", "      10-12"]),
        ("        too deep", 10, ["too deep"]),
        ("", 10, [""]),
        ("vm  1 ", 10, ["vm  1 "]),
        ("To see it, run: epa-orchestrator why 'a b'", 30, ["To see it, run:", "  epa-orchestrator why 'a b'"]),
        ("To see it, run: epa-orchestrator why a", 12, ["To see it,", "  run:", "  epa-orchestrator why a"]),
        ("To stop it: sudo taskset -pc 0-1 7", 20, ["To stop it:", "  sudo taskset -pc 0-1 7"]),
        ("the service vm  1", 16, ["the service vm", "  1"]),
        ("a  b of the service", 14, ["a  b of the", "  service"]),
    ],
)
def test_indented_line_hangs(text: str, width: int, lines: list[str]) -> None:
    assert fold_indented(text, width) == lines
