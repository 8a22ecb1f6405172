# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Colours that readers can distinguish."""

from __future__ import annotations

import pytest

from epa_orchestrator.picture.palette import COLOURS


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
