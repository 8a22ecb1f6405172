# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Names: two spellings are one service, and invisible characters are refused."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.allocation.service_names import DEFAULT_IGNORABLE, is_default_ignorable, problem, resolve
from epa_orchestrator.names import MAX_NAME_LENGTH

COMPOSED, DECOMPOSED = "\u00e9tude", "e\u0301tude"


@pytest.mark.parametrize(
    ("name", "existing", "meant"),
    [
        ("nova", set[str](), "nova"),
        ("nova", {"nova"}, "nova"),
        (COMPOSED, set[str](), COMPOSED),
        (DECOMPOSED, set[str](), COMPOSED),
        (DECOMPOSED, {COMPOSED}, COMPOSED),
        (DECOMPOSED, {DECOMPOSED}, DECOMPOSED),
        (DECOMPOSED, {DECOMPOSED, COMPOSED}, DECOMPOSED),
        (COMPOSED, {DECOMPOSED}, COMPOSED),
        ("\N{ANGSTROM SIGN}", set[str](), "\u00c5"),
        (" \u3164", {" \u3164"}, " \u3164"),
    ],
)
def test_a_name_means(name: str, existing: set[str], meant: str) -> None:
    assert resolve(name, existing.__contains__) == meant


@pytest.mark.parametrize(
    "name",
    ["a", "nova compute", "a  b", "ceph.osd-3/x", COMPOSED, "\N{GRINNING FACE}", "名前", "क्षि", "a\u2800b", "x" * 255],
)
def test_a_new_service_may_be_called(name: str) -> None:
    assert problem(name) is None


@pytest.mark.parametrize("name", [" ", "   ", " a", "a ", "\u2800", "\u2800a", "a \u2800", " \u2800 ", "\U0001d159"])
def test_blanks_at_the_ends_are_refused(name: str) -> None:
    assert problem(name) == "must not begin or end with a blank"


@pytest.mark.parametrize(
    ("name", "code_point"),
    [
        ("\u3164", "U+3164"),
        ("nova\u034f", "U+034F"),
        ("\u115f", "U+115F"),
        ("no\u1160va", "U+1160"),
        ("nova\ufe0f", "U+FE0F"),
        ("nova\U000e0100", "U+E0100"),
        ("\uffa0", "U+FFA0"),
        ("a\u17b4", "U+17B4"),
    ],
)
def test_invisible_characters_are_refused_and_named(name: str, code_point: str) -> None:
    assert problem(name) == f"must not hold the invisible character {code_point}"


def test_a_name_that_normalising_makes_too_long_is_refused() -> None:
    """U+0958 stands for two characters in NFC."""
    name = resolve("\u0958" * 200, set[str]().__contains__)
    assert len(name) == 400
    assert problem(name) == f"must have at most {MAX_NAME_LENGTH} characters in Unicode's form NFC, not 400"


def test_the_ranges_are_in_order_and_have_unicodes_number_of_code_points() -> None:
    """DerivedCoreProperties.txt: "Total code points: 4174"."""
    edges = [edge for pair in DEFAULT_IGNORABLE for edge in pair]
    assert edges == sorted(edges)
    assert sum(last - first + 1 for first, last in DEFAULT_IGNORABLE) == 4174
    assert sum(is_default_ignorable(code_point) for code_point in range(sys.maxunicode + 1)) == 4174


def test_printable_names_stay_printable_when_normalised() -> None:
    for code_point in range(sys.maxunicode + 1):
        char = chr(code_point)
        assert not char.isprintable() or unicodedata.normalize("NFC", char).isprintable()


@given(st.text(min_size=1, max_size=20))
def test_resolving_twice_is_resolving_once(name: str) -> None:
    known = set[str]()
    once = resolve(name, known.__contains__)
    assert resolve(once, known.__contains__) == once
    assert unicodedata.is_normalized("NFC", once)
