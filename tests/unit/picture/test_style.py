# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The style sheet: every class that is drawn has a style, in dark pages too where its colours would not fit."""

from __future__ import annotations

import re

import pytest

from epa_orchestrator.picture import svg
from epa_orchestrator.picture.palette import COLOURS
from epa_orchestrator.picture.style import PATTERNS, STYLE
from tests.unit.picture.scenes import scene, sized

LIGHT, DARK = STYLE.split("@media (prefers-color-scheme: dark) {")


@pytest.mark.parametrize("number", range(len(COLOURS)))
def test_owners_have_the_colours_of_the_palette(number: int) -> None:
    paper, ink = COLOURS[number]
    assert f".thread.o{number} {{ fill: {paper}; }} .t.o{number} {{ fill: {ink}; }}" in LIGHT


@pytest.mark.parametrize("name", ["text", ".paper", ".package", ".node", ".l3", ".core", ".thread", ".behind"])
def test_what_is_white_or_black_changes_on_dark_pages(name: str) -> None:
    for sheet in (LIGHT, DARK):
        assert re.search(rf"^{re.escape(name)}\b|, {re.escape(name)}\b", sheet, re.MULTILINE), name


def test_patterns_are_those_that_the_style_names() -> None:
    assert set(re.findall(r"url\(#(\w+)\)", STYLE)) == set(re.findall(r'id="(\w+)"', PATTERNS))


def test_every_rectangle_has_a_style() -> None:
    drawn = set(re.findall(r'<rect class="([^"]+)"', svg.draw(scene(sized(48)))))
    for classes in drawn:
        assert any(f".{name}" in LIGHT for name in classes.split()), classes
