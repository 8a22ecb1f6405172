# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Colours that readers can distinguish, and texts cut to the room that there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.picture.palette import COLOURS, columns_of, shorten, shorten_list, split


def luminance(colour: str) -> float:
    """The relative luminance by WCAG 2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", COLOURS)
def test_letters_stand_out_from_their_background(colour: tuple[str, str]) -> None:
    """4.5 is what WCAG 2 asks for."""
    light, dark = sorted(map(luminance, colour), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [
        ("ovs", 3, "ovs"),
        ("instance-0001", 9, "inst…0001"),
        ("instance-0001", 8, "inst…001"),
        ("a\x1b[2Jb", 9, "a\N{REPLACEMENT CHARACTER}[2Jb"),
        ("虚拟机一", 8, "虚拟机一"),
        ("虚拟机一二", 8, "虚拟…二"),
    ],
)
def test_long_names_lose_their_middle(text: str, most: int, short: str) -> None:
    assert shorten(text, most) == short


@given(st.text(), st.integers(1, 40))
def test_a_short_text_is_printable_and_no_wider(text: str, most: int) -> None:
    short = shorten(text, most)
    assert short.isprintable()
    assert columns_of(short) <= most


@pytest.mark.parametrize(
    ("cpus", "most", "short"),
    [("0-3,8", 5, "0-3,8"), ("0-3,8,10", 7, "0-3,8,…"), ("0-3,8,10", 6, "0-3,…"), ("0,2,4,6", 6, "0,2,…")],
)
def test_a_list_is_cut_at_a_comma(cpus: str, most: int, short: str) -> None:
    assert shorten_list(cpus, most) == short


@pytest.mark.parametrize(
    ("width", "counts", "parts"),
    [(10, (1, 1, 2), [2, 2, 6]), (10, (0, 0, 0), [0, 0, 0]), (10, (1, 0, 1000), [1, 0, 9]), (8, (8, 0, 0), [8, 0, 0])],
)
def test_a_bar_is_divided_in_proportion(width: int, counts: tuple[int, ...], parts: list[int]) -> None:
    assert split(width, counts) == parts


@given(st.integers(8, 400), st.lists(st.integers(0, 2**31), min_size=3, max_size=3).filter(any))
def test_a_bar_is_full_and_shows_every_part(width: int, counts: list[int]) -> None:
    parts = split(width, counts)
    assert sum(parts) == width
    assert [part > 0 for part in parts] == [count > 0 for count in counts]
