# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Patterns: which services a word on the command line means, as a name or as a pattern such as 'vm-*'."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

_WILDCARDS: Final = "*?["


def can_be_pattern(word: str) -> bool:
    """Whether the word can mean other names than itself."""
    return any(wildcard in word for wildcard in _WILDCARDS)


def names_meant(word: str, names: Iterable[str]) -> list[str]:
    """The name that is the word; if there is none, those that match it as a pattern."""
    names = list(names)
    exact = [name for name in names if _normal(name) == _normal(word)]
    return exact or [name for name in names if matches(word, name)]


def names_beginning(word: str, names: Iterable[str]) -> list[str]:
    """The names that an unfinished word can become."""
    return [name for name in names if _normal(name).startswith(_normal(word))]


def matches(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern."""
    from fnmatch import fnmatchcase

    return can_be_pattern(pattern) and fnmatchcase(_normal(name), _normal(pattern))


def _normal(name: str) -> str:
    """The form in which the daemon compares names."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
