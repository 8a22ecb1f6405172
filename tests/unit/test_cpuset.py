# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CpuSet reads and writes the kernel's list and mask formats, refuses other texts, and agrees with Python's sets."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.cpuset import EMPTY, MAX_CPU_ID, CpuSet, iter_bits, lowest, lowest_bits, union

#: Ids near each other, so that runs form, around the boundaries of mask words and of big machines.
IDS = st.sets(st.one_of(st.integers(0, 70), st.integers(1000, 1100), st.sampled_from([8191, MAX_CPU_ID])))


def kernel_list(cpus: set[int]) -> str:
    """The list format, worked out item by item: `%*pbl` of lib/vsprintf.c."""
    items: list[str] = []
    for cpu in sorted(cpus):
        if cpu - 1 not in cpus:
            last = cpu
            while last + 1 in cpus:
                last += 1
            items.append(str(cpu) if cpu == last else f"{cpu}-{last}")
    return ",".join(items)


def kernel_mask(cpus: set[int], words: int) -> str:
    """The mask format: `words` words of 32 bits, highest first: `%*pb` of lib/vsprintf.c."""
    values = [sum(1 << (cpu % 32) for cpu in cpus if cpu // 32 == word) for word in range(words)]
    return ",".join(f"{value:08x}" for value in reversed(values))


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", []),
        ("   \n", []),
        ("0", [0]),
        ("0-3", [0, 1, 2, 3]),
        ("5-5", [5]),
        ("0-3,8,10-11", [0, 1, 2, 3, 8, 10, 11]),
        ("10-11,0-3,8", [0, 1, 2, 3, 8, 10, 11]),
        ("0-3,2-5", [0, 1, 2, 3, 4, 5]),
        ("7,7,7", [7]),
        ("007", [7]),
        (" 1-2 , 4\n", [1, 2, 4]),
        ("31-33", [31, 32, 33]),
        ("1023,1024", [1023, 1024]),
        ("65535", [65535]),
    ],
)
def test_reads_lists(text: str, cpus: list[int]) -> None:
    assert list(CpuSet.parse(text)) == cpus


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "1,",
        ",1",
        "1,,2",
        "-",
        "-1",
        "1-",
        "1-2-3",
        "0--1",
        "+1",
        "1-+2",
        "1.0",
        "1e1",
        "1_0",
        "0x10",
        "a",
        "1;2",
        "1 2",
        "0 - 3",
        "0-10:2/4",
        "all",
        "N",
        "\N{ARABIC-INDIC DIGIT THREE}",
        "\N{SUPERSCRIPT TWO}",
        "\N{FULLWIDTH DIGIT ONE}",
        "1\N{EN DASH}2",
        "1\0",
        "{}",
    ],
)
def test_refuses_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="is not a CPU or a range of CPUs such as 4-7"):
        CpuSet.parse(text)


@pytest.mark.parametrize("text", ["3-0", "1,9-8", "65535-0", "2,5-4,7"])
def test_refuses_reversed_ranges(text: str) -> None:
    with pytest.raises(ValueError, match="runs backwards"):
        CpuSet.parse(text)


@pytest.mark.parametrize("text", ["65536", "0-65536", "999999", "0-999999", "1000000", "9" * 20, "9" * 5000])
def test_refuses_huge_ids(text: str) -> None:
    with pytest.raises(ValueError, match=r"is over the highest possible id, 65535|is not a CPU or a range"):
        CpuSet.parse(text)


def test_a_refusal_of_a_long_text_is_short() -> None:
    with pytest.raises(ValueError, match="is not a CPU") as caught:
        CpuSet.parse("x" * 100_000)
    assert len(str(caught.value)) < 200


@settings(deadline=None)
@given(IDS)
def test_list_format_round_trip(cpus: set[int]) -> None:
    text = kernel_list(cpus)
    assert str(CpuSet(cpus)) == text
    assert CpuSet.parse(text) == CpuSet(cpus)
    assert CpuSet.parse(f" {text}\n") == CpuSet(cpus)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=8))
def test_order_and_overlap_of_items_do_not_matter(ranges: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + length}" for first, length in ranges)
    expected = {cpu for first, length in ranges for cpu in range(first, first + length + 1)}
    assert set(CpuSet.parse(text)) == expected


@settings(deadline=None)
@given(st.one_of(st.text(max_size=20), st.text(alphabet="0123456789-, x+", max_size=12)))
def test_any_text_is_read_or_refused(text: str) -> None:
    """An oracle of its own says which texts are lists; nothing else than ValueError is raised for the others."""
    items = [re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", item.strip(), re.ASCII) for item in text.split(",")]
    ends = [(int(item[1]), int(item[2] or item[1])) for item in items if item is not None]
    if not text.strip():
        assert CpuSet.parse(text) == EMPTY
    elif len(ends) == len(items) and all(first <= last <= MAX_CPU_ID for first, last in ends):
        assert set(CpuSet.parse(text)) == {cpu for first, last in ends for cpu in range(first, last + 1)}
    else:
        with pytest.raises(ValueError, match="CPU"):
            CpuSet.parse(text)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", []),
        ("00000000", []),
        ("1", [0]),
        ("f", [0, 1, 2, 3]),
        ("000000FF", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("ff,00000000", [32, 33, 34, 35, 36, 37, 38, 39]),
        ("000000ff,00000000", [32, 33, 34, 35, 36, 37, 38, 39]),
        ("1,00000000,80000000", [31, 64]),
        ("00000000,00000000,00000001", [0]),
        ("80000001\n", [0, 31]),
    ],
)
def test_reads_masks(text: str, cpus: list[int]) -> None:
    assert list(CpuSet.parse_mask(text)) == cpus


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "ff,",
        ",ff",
        "ff,,ff",
        "g",
        "0x1",
        "-1",
        "+1",
        "1_0",
        "ff ff",
        "f, f",
        "1" * 17,
        "\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_refuses_what_is_no_mask(text: str) -> None:
    with pytest.raises(ValueError, match="is not a word of a CPU mask"):
        CpuSet.parse_mask(text)


@pytest.mark.parametrize("text", ["f,123456789", "1,00000000,100000000"])
def test_refuses_mask_words_that_do_not_fit_their_place(text: str) -> None:
    with pytest.raises(ValueError, match="is not a word of a CPU mask"):
        CpuSet.parse_mask(text)


@settings(deadline=None)
@given(st.sets(st.integers(0, 1055)), st.integers(33, 40))
def test_mask_format_round_trip(cpus: set[int], words: int) -> None:
    assert set(CpuSet.parse_mask(kernel_mask(cpus, words))) == cpus


@settings(deadline=None)
@given(st.text(alphabet="0123456789abcdefABCDEFgx,-+ _", max_size=30))
def test_any_mask_is_read_or_refused(text: str) -> None:
    words = text.strip().split(",")
    readable = all(word and set(word) <= set("0123456789abcdefABCDEF") for word in words)
    fits = all(len(word) <= 8 for word in words)
    if readable and fits:
        value = int("".join(word.rjust(8, "0") for word in words), 16)
        assert set(CpuSet.parse_mask(text)) == {bit for bit in range(value.bit_length()) if value >> bit & 1}
    elif not readable:
        with pytest.raises(ValueError, match="is not a word of a CPU mask"):
            CpuSet.parse_mask(text)


@settings(deadline=None)
@given(IDS, IDS)
def test_set_algebra_agrees_with_python_sets(left: set[int], right: set[int]) -> None:
    a, b = CpuSet(left), CpuSet(right)
    assert set(a | b) == left | right
    assert set(a & b) == left & right
    assert set(a - b) == left - right
    assert (a <= b) == (left <= right)
    assert (a & b) <= a
    assert (a == b) == (left == right)
    assert len(a) == len(left)
    assert bool(a) == bool(left)
    assert list(a) == sorted(left)
    assert all((cpu in a) == (cpu in left) for cpu in left | right)
    assert CpuSet.from_mask(a.mask) == a


@settings(deadline=None)
@given(IDS)
def test_equal_sets_hash_alike(cpus: set[int]) -> None:
    assert len({CpuSet(cpus), CpuSet(sorted(cpus, reverse=True)), CpuSet.parse(kernel_list(cpus))}) == 1


@settings(deadline=None)
@given(IDS, IDS)
def test_operators_leave_their_operands_as_they_are(left: set[int], right: set[int]) -> None:
    a, b = CpuSet(left), CpuSet(right)
    texts = str(a), str(b)
    c = a
    c |= b
    c -= a
    c &= b
    assert (set(a), set(b)) == (left, right)
    assert (str(a), str(b)) == texts
    assert str(c) == kernel_list((left | right) - left & right)


def test_membership_takes_ids_only() -> None:
    cpus = CpuSet([0, 1, 5])
    assert 5 in cpus
    assert -1 not in cpus
    assert "5" not in cpus
    assert 5.0 not in cpus
    assert 10**6 not in cpus


def test_a_set_differs_from_what_is_no_set_of_cpus() -> None:
    assert CpuSet([1]) != {1}
    assert CpuSet([1]) != "1"
    assert EMPTY != 0


def test_empty() -> None:
    assert not EMPTY
    assert str(EMPTY) == ""
    assert list(EMPTY) == []
    assert CpuSet() == EMPTY
    assert CpuSet([0, 1]) & CpuSet([2]) == EMPTY


def test_repr_names_the_cpus() -> None:
    assert repr(CpuSet([0, 1, 2, 9])) == "CpuSet('0-2,9')"


def test_negative_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        CpuSet([-1])


def test_iter_bits() -> None:
    assert list(iter_bits(0)) == []
    assert list(iter_bits(0b101001)) == [0, 3, 5]
    assert list(iter_bits(1 << 4096 | 1)) == [0, 4096]


@pytest.mark.parametrize(("masks", "expected"), [([0b001, 0b100], 0b101), ([], 0)])
def test_union_of_masks(masks: list[int], expected: int) -> None:
    assert union(masks) == expected


@pytest.mark.parametrize(("mask", "cpu"), [(0b1100, 2), (0, -1)])
def test_lowest(mask: int, cpu: int) -> None:
    assert lowest(mask) == cpu


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (2, 0b101), (9, 0b1101)])
def test_lowest_bits(count: int, expected: int) -> None:
    assert lowest_bits(0b1101, count) == expected
