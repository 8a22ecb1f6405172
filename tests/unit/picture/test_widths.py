# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The room that texts take, in pixels and in columns, and texts cut to the room that there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.picture.widths import Measure, columns_of, fitting, pixels_of, shorten, shorten_list, split


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("ovs", 3), ("k\u00e4se", 4), ("\u865a\u62df", 4), ("\N{GRINNING FACE}", 2)]
)
def test_columns(text: str, columns: int) -> None:
    assert columns_of(text) == columns


@pytest.mark.parametrize(
    ("text", "pixels"),
    [
        ("WWW", 35.6),
        ("mmm", 35.1),
        ("MMM", 31.1),
        ("iii", 10.0),
        ("0123456789", 76.3),
        ("instance-0001", 80.4),
        ("\u0416\u0416\u0416", 38.8),
        ("\u00e9\u00e9\u00e9", 22.2),
        ("\u865a\u62df\u673a", 36.0),
        ("\N{GRINNING FACE}" * 3, 45.0),
    ],
)
def test_a_text_takes_no_more_than_its_pixels(text: str, pixels: float) -> None:
    """What Chromium measures with DejaVu Sans, or a Chinese or emoji font, of 12 pixels; at most a quarter more."""
    assert pixels <= pixels_of(text) + 0.1 <= 1.25 * pixels + 0.2


def test_pixels_grow_with_the_font() -> None:
    assert pixels_of("nova", 24) == 2 * pixels_of("nova")


def test_an_accent_of_its_own_takes_no_room() -> None:
    assert pixels_of("e\u0301") == pixels_of("\u00e9") == pixels_of("e")


@given(st.text(), st.floats(0, 400), st.sampled_from([columns_of, pixels_of]))
def test_as_many_characters_fit_as_have_room(text: str, room: float, measure: Measure) -> None:
    number = fitting(text, room, measure)
    assert measure(text[:number]) <= room + 1e-6
    assert number == len(text) or measure(text[: number + 1]) > room - 1e-6


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
