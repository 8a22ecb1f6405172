"""Errors: what others wrote cannot act on the terminal that shows a sentence."""

from __future__ import annotations

import pytest

from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import SettingsError
from epa_orchestrator.errors import EpaError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain sentence, 服务 too", "plain sentence, 服务 too"),
        ("two\nlines", "two\N{REPLACEMENT CHARACTER}lines"),
        ("\x1b[2Jgone", "\N{REPLACEMENT CHARACTER}[2Jgone"),
        ("right\u202eto left", "right\N{REPLACEMENT CHARACTER}to left"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(EpaError(text)) == shown


def test_every_error_is_printable() -> None:
    assert str(Refused("a\x00b")) == str(SettingsError("a\x00b")) == "a\N{REPLACEMENT CHARACTER}b"
