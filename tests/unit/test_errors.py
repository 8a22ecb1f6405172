# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Errors are one line that no terminal acts on, and the tree in the docstring of EpaError lists all of them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import pytest

import epa_orchestrator
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import SettingsError
from epa_orchestrator.errors import EpaError, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain sentence, 服务 too", "plain sentence, 服务 too"),
        ("two\nlines", "two\N{REPLACEMENT CHARACTER}lines"),
        ("\x1b[2Jgone", "\N{REPLACEMENT CHARACTER}[2Jgone"),
        ("right\u202eto left", "right\N{REPLACEMENT CHARACTER}to left"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert str(EpaError(text)) == expected


def test_every_error_is_printable() -> None:
    assert str(Refused("a\x00b")) == str(SettingsError("a\x00b")) == "a\N{REPLACEMENT CHARACTER}b"


def documented_parents() -> dict[str, str]:
    """Each error in the tree of the docstring, with the error above it."""
    lines = (inspect.getdoc(EpaError) or "").splitlines()
    branches = [match for line in lines if (match := re.match(r"([│ ]*)[├└]── (\w+) {2,}\w", line))]
    path = ["EpaError"]
    parents: dict[str, str] = {}
    for branch in branches:
        depth = len(branch[1]) // 4 + 1
        path[depth:] = [branch[2]]
        parents[branch[2]] = path[depth - 1]
    return parents


def subclasses(parent: type[EpaError]) -> Iterator[tuple[str, str]]:
    """Each error of the package below another, with the error above it."""
    for child in parent.__subclasses__():
        if child.__module__.startswith("epa_orchestrator."):
            yield child.__name__, parent.__name__
            yield from subclasses(child)


def test_docstring_lists_every_error_of_the_package() -> None:
    for module in pkgutil.walk_packages(epa_orchestrator.__path__, "epa_orchestrator."):
        if not module.name.endswith(".__main__"):  # those run when they are imported
            importlib.import_module(module.name)
    assert documented_parents() == dict(subclasses(EpaError))
