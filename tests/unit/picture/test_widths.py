# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The room that texts take, in pixels and in columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.picture.widths import Measure, columns_of, fitting, pixels_of


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
