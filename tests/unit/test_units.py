# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sizes are read and shown as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.units import (
    count_of,
    cpus_are,
    format_memory,
    format_size,
    joined,
    named_cpus,
    named_nodes,
    parse_size,
    utc,
)

SIZES = {
    "2048": 2048,
    "2M": 2048,
    "2m": 2048,
    "2MiB": 2048,
    "2Mi": 2048,
    "1gi": 1 << 20,
    "2 MB": 2048,
    "1G": 1 << 20,
    "64K": 64,
    "64KiB": 64,
    "1T": 1 << 30,
}


@pytest.mark.parametrize("text", SIZES)
def test_size_is_read(text: str) -> None:
    assert parse_size(text) == SIZES[text]


@pytest.mark.parametrize(
    "text", ["", "M", "2Q", "2.5M", "-2M", "+2M", "2MM", "2 2M", "0x2M", "2B", "2i", "2iB", "²M", "9" * 13]
)
def test_nonsense_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 2M or 1G"):
        parse_size(text)


def test_zero_is_no_size() -> None:
    with pytest.raises(ValueError, match="size 0"):
        parse_size("0G")


@pytest.mark.parametrize(
    ("size_kb", "text"),
    [(2048, "2M"), (1 << 20, "1G"), (16 << 20, "16G"), (64, "64K"), (2049, "2049K"), (512 << 10, "512M"), (0, "0")],
)
def test_size_is_shown(size_kb: int, text: str) -> None:
    assert format_size(size_kb) == text


@given(st.integers(1, 2**31 - 1))
def test_shown_size_is_read_again(size_kb: int) -> None:
    assert parse_size(format_size(size_kb)) == size_kb


@pytest.mark.parametrize(
    ("size_kb", "text"), [(16 << 20, "16G"), (65_731_234, "62.7G"), (3000, "2.9M"), (12, "12K"), (0, "0K")]
)
def test_memory_is_rounded(size_kb: int, text: str) -> None:
    assert format_memory(size_kb) == text


def test_one_has_no_plural() -> None:
    assert (count_of(1, "CPU"), count_of(0, "CPU"), count_of(2, "CPU")) == ("1 CPU", "0 CPUs", "2 CPUs")


def test_one_cpu_has_no_plural() -> None:
    assert (named_cpus("2"), named_cpus("2-3"), named_cpus("2,4")) == ("CPU 2", "CPUs 2-3", "CPUs 2,4")


def test_one_node_has_no_plural() -> None:
    assert (named_nodes("2"), named_nodes("0-1"), named_nodes("0,2")) == (
        "NUMA node 2",
        "NUMA nodes 0-1",
        "NUMA nodes 0,2",
    )


def test_verb_agrees_with_the_number_of_cpus() -> None:
    assert (cpus_are("2"), cpus_are("2-3")) == ("CPU 2 is", "CPUs 2-3 are")


def test_words_are_joined_by_commas_and_a_last_and() -> None:
    assert (joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])) == ("a", "a and b", "a, b and c")


def test_a_time_is_in_utc_without_a_fraction_of_a_second() -> None:
    assert utc(1_795_809_600.9) == "2026-11-27T20:00:00Z"
