# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Documents: JSON is parsed unchanged, and duplicate keys are refused."""

from __future__ import annotations

import pytest

from epa_orchestrator.documents import DuplicateKeyError, parse_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"null", None),
        (b"{}", {}),
        (b'{"a": [1, {"a": "\\u00e4"}], "b": {"a": 1.5}}', {"a": [1, {"a": "ä"}], "b": {"a": 1.5}}),
    ],
)
def test_json_is_parsed(text: bytes, value: object) -> None:
    assert parse_document(text) == value


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b'{"a": 1, "a": 1}', "a"),
        (b'{"a": 1, "b": 1, "c": 1, "b": 2, "a": 2}', "b"),
        (b'[{"x": {"": 1, "": 2}}]', ""),
        (b'{"a": 1, "\\u0061": 2}', "a"),
        (b'{"' + b"k" * 1000 + b'": 1, "' + b"k" * 1000 + b'": 1}', "k" * 60),
    ],
)
def test_a_duplicate_key_is_named(text: bytes, key: str) -> None:
    with pytest.raises(DuplicateKeyError) as caught:
        parse_document(text)
    assert str(caught.value) == f"it has the key '{key}' twice in one object"


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 1_000_000, b'{"a":' * 100_000, b"1" * 5000])
def test_invalid_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_document(text)
