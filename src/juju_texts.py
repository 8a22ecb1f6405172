"""Texts for Juju, cut to what its hook tools take: each text is one argument, of at most 128 KiB (execve(2))."""

from __future__ import annotations

import json
from typing import Any, Final

_MOST_BYTES: Final = 131_000
_CUT: Final = " … (cut: too long for Juju)"
_NO_JSON: Final = "(no JSON: it is too long for Juju; on the machine, 'sudo epa-orchestrator list --json' has it)"


def fitting(text: str) -> str:
    """The text, cut if it is too long."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= _MOST_BYTES:
        return text
    return encoded[: _MOST_BYTES - len(_CUT.encode())].decode(errors="ignore") + _CUT


def results(text: str, document: dict[str, Any]) -> dict[str, str]:
    """An action's results: `text` for a person, and `json` for a program unless it is too long."""
    encoded = json.dumps(document)
    if len(encoded) > _MOST_BYTES:
        return {"text": fitting(f"{_NO_JSON}\n{text}")}
    return {"text": fitting(text), "json": encoded}
