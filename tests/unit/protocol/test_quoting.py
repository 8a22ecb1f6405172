# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A client's own values and names in sentences: JSON, printable and short."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.protocol.quoting import about_unknown_fields, cut, quote


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (4, "4"),
        (1.5, "1.5"),
        (float("inf"), "1e999"),
        (float("-inf"), "-1e999"),
        ("", '""'),
        ("4", '"4"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("Infinity", '"Infinity"'),
        ("\u00e9", '"\u00e9"'),
        ("a\nb\x1b\u202e\x9b", '"a\ufffdb\ufffd\ufffd\ufffd"'),
        (["a\nb\x9b"], '["a\\nb\ufffd"]'),
        ([], "[]"),
        ([None, True, ["x", float("inf")]], '[null, true, ["x", 1e999]]'),
        ({"a": None, "Infinity": 1}, '{"a": null, "Infinity": 1}'),
    ],
)
def test_values_are_quoted_as_json(value: object, quoted: str) -> None:
    assert quote(value) == quoted
    json.loads(quoted)


@pytest.mark.parametrize("value", ["x" * 65_000, ["y"] * 10_000, {"z" * 100: 1}, 10**4000], ids=type)
def test_a_long_value_is_cut(value: object) -> None:
    assert len(quote(value)) == 81
    assert quote(value).endswith("…")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(JSON)
def test_every_value_is_printable(value: object) -> None:
    assert quote(value).isprintable()


def test_a_text_is_cut_without_quotes() -> None:
    assert (cut("free_cores"), cut("a\0"), cut("x" * 81)) == ("free_cores", "a\ufffd", "x" * 80 + "…")


def test_unknown_fields_are_named() -> None:
    assert about_unknown_fields(["dryrun", "x"]) == ("unknown field 'dryrun'", "unknown field 'x'")


def test_no_unknown_field_is_no_warning() -> None:
    assert about_unknown_fields([]) == ()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", ""),
        ("a" * 40, "a" * 40),
        ("a" * 41, "a" * 40 + "…"),
        ("a\x1b[31m\n", "a\ufffd[31m\ufffd"),
        ("it's", "it's"),
        ("\u202e" * 60_000, "\ufffd" * 40 + "…"),
    ],
    ids=["empty", "short", "long", "control", "quote", "invisible"],
)
def test_the_name_of_an_unknown_field_is_printable_and_short(name: str, shown: str) -> None:
    assert about_unknown_fields([name]) == (f"unknown field '{shown}'",)


def test_further_unknown_fields_are_counted() -> None:
    warnings = about_unknown_fields(f"field{number:04}" for number in range(5000))
    assert warnings[0] == "unknown field 'field0000'"
    assert warnings[-1] == f"{5000 - len(warnings) + 1} more unknown fields"


def test_one_further_unknown_field_is_counted() -> None:
    names = [letter * 100 for letter in "abcdefghijklmn"]
    named = len(about_unknown_fields(names)) - 1
    assert about_unknown_fields(names[: named + 1])[-1] == "1 more unknown field"


@given(st.lists(st.text(), max_size=50))
def test_warnings_about_unknown_fields_are_bounded(names: list[str]) -> None:
    assert len(json.dumps(about_unknown_fields(names), ensure_ascii=False).encode()) < 500
