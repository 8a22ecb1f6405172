# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Notes: what the history keeps of the request behind a change."""

from __future__ import annotations

from functools import cache
from typing import Final

from pydantic_core import to_json

from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.allocation.settings_text import settings_text
from epa_orchestrator.daemon.mutations import Decision
from epa_orchestrator.peer import PeerNames
from epa_orchestrator.protocol.requests import Mutation
from epa_orchestrator.state.events import Note

#: Fields that the event has itself, and those that decide nothing.
_LEFT_OUT: Final = frozenset(("version", "action", "service_name", "dry_run", "explain"))
#: A longer request is kept without `may_take`, which alone can be long.
_MOST_BYTES: Final = 4096


def note_of(decision: Decision, names: PeerNames, settings: Settings) -> Note:
    """What the events of a decision keep."""
    decided_by, lost_by = decision.reasons()
    return Note(_request_json(decision.request), settings_text(settings), decided_by, lost_by, names)


def _request_json(request: Mutation) -> str:
    """The fields that are not at their default, as a JSON object. The model's own way takes five times as long."""
    given = request.__dict__
    defaults = _defaults(type(request)).items()
    fields = {name: value for name, default in defaults if (value := given[name]) != default}
    encoded = to_json(fields)
    if len(encoded) > _MOST_BYTES:
        encoded = to_json({name: value for name, value in fields.items() if name != "may_take"})
    return encoded.decode()


@cache
def _defaults(model: type[Mutation]) -> dict[str, object]:
    """The fields that are kept, with their defaults."""
    return {name: field.default for name, field in model.model_fields.items() if name not in _LEFT_OUT}
