# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Names in a legend: cut only where all agree, folded if they are long, and never two alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.picture.legend import Names, folded, lay_out
from epa_orchestrator.picture.widths import columns_of, pixels_of

INSTANCES = [f"instance-{number:04x}-compute.example" for number in range(312)]


def laid_out(names: list[str], width: int) -> Names:
    """The names in a legend of this width, with two columns between them."""
    return lay_out(names, [" 1"] * len(names), lambda across: width // across - 2)


def test_names_lose_what_all_have_in_common() -> None:
    found = laid_out(INSTANCES, 80)
    assert found.common == "instance-…-compute.example"
    assert found.lines[0xA0] == ("…00a0… 1",)
    assert found.across == 8


def test_short_names_are_whole() -> None:
    assert laid_out(["ovs", "vm-2"], 80) == Names(2, (("ovs 1",), ("vm-2 1",)))


def test_long_names_are_whole_if_cutting_them_saves_no_line() -> None:
    names = ["vm-of-customer-1-production", "vm-of-customer-2-production"]
    assert laid_out(names, 40) == Names(1, ((f"{names[0]} 1",), (f"{names[1]} 1",)))


@pytest.mark.parametrize(
    ("names", "common"),
    [
        ([f"instance-{number:08x}" for number in range(40)], "instance-…"),
        ([f"virtual-machine{number:04}" for number in range(40)], "virtual-machine…"),
        ([f"{number}.compute.example" for number in range(40)], "….compute.example"),
        (["router.of.the.region", *[f"instance-of-{number:08}" for number in range(39)]], ""),
    ],
)
def test_names_are_cut_between_words_and_numbers(names: list[str], common: str) -> None:
    assert laid_out(names, 60).common == common


def test_a_name_that_starts_another_one_is_not_cut_to_nothing() -> None:
    names = ["instance-", *[f"instance-{number}" for number in range(40)]]
    found = laid_out(names, 40)
    assert all(line != "… 1" for lines in found.lines for line in lines)


def test_long_names_fold_after_words() -> None:
    assert [*folded(["instance-00a0-compute.example"], [" 1"], 22)] == [("instance-00a0-compute.", "example 1")]


def test_very_long_names_lose_their_middle() -> None:
    assert [*folded(["a" * 50 + "b" * 50], [" 1"], 20)] == [("a" * 19 + "…", "b" * 18 + " 1")]


def test_the_last_line_of_a_very_long_name_is_no_number_alone() -> None:
    """The first line cannot be filled to its last pixel."""
    (lines,) = folded(["W" * 255], [" 1"], 250, measure=pixels_of)
    assert len(lines) == 2


def test_names_that_differ_only_in_their_middle_are_whole() -> None:
    names = ["a" * 50 + middle + "b" * 50 for middle in "12"]
    first, second = folded(names, [" 1", " 1"], 20)
    assert ["".join(first), "".join(second)] == [f"{name} 1" for name in names]


NAME = st.text("ab1-. …虚", min_size=1, max_size=60)


@given(st.lists(NAME, min_size=1, max_size=12, unique=True), st.integers(10, 90))
def test_two_names_never_look_alike(names: list[str], width: int) -> None:
    found = laid_out(names, width)
    assert len({tuple(line.rstrip() for line in lines) for lines in found.lines}) == len(
        {f"{name} 1" for name in names}
    )


@given(st.lists(NAME, min_size=1, max_size=12, unique=True), st.integers(10, 90))
def test_no_line_is_wider_than_its_column(names: list[str], width: int) -> None:
    found = laid_out(names, width)
    assert all(columns_of(line) <= width // found.across - 2 for lines in found.lines for line in lines)
