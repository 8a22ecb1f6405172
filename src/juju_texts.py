# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Texts for Juju, cut to what its hook tools take: each text is one argument of at most 128 KiB (execve(2))."""

from __future__ import annotations

import json
from typing import Any, Final

_MAX_BYTES: Final = 131_000
_CUT: Final = " … (cut: too long for Juju)"
_NO_JSON: Final = "(no JSON: too long for Juju; run 'sudo epa-orchestrator list --json' on the machine)"


def truncate(text: str) -> str:
    """The text, cut and marked as cut if it is too long."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= _MAX_BYTES:
        return text
    return encoded[: _MAX_BYTES - len(_CUT.encode())].decode(errors="ignore") + _CUT


def action_results(text: str, document: dict[str, Any]) -> dict[str, str]:
    """An action's results: `text` for a person, and `json` for a program unless it is too long."""
    encoded = json.dumps(document)
    if len(encoded) > _MAX_BYTES:
        return {"text": truncate(f"{_NO_JSON}\n{text}")}
    return {"text": truncate(text), "json": encoded}


def fits(text: str) -> bool:
    """Whether Juju takes the text whole."""
    return len(text.encode(errors="replace")) <= _MAX_BYTES
