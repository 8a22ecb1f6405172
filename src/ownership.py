# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""One unit of this charm owns the snap of a machine: a second application would fight about it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from charm_record import Record

#: Juju's directory of each unit on this machine. It goes when the unit is removed.
_AGENTS: Final = Path("/var/lib/juju/agents")


def other_owner(record: Record, unit: str) -> str | None:
    """The other unit that owns the snap; None if it is this unit's, nobody's, or that of a unit that is gone.

    Units of two models on one machine cannot have the same name, because Juju gives both the same directory.
    """
    if record.unit in ("", unit) or not _is_here(record.unit):
        return None
    return record.unit


def refusal(owner: str, application: str) -> str:
    """The sentence for the unit that does not own the snap."""
    return (
        f"run 'juju remove-application {application}': the unit {owner} already runs the snap epa-orchestrator on this"
        " machine, and two orchestrators would grant the same CPUs"
    )


def _is_here(unit: str) -> bool:
    return (_AGENTS / f"unit-{unit.replace('/', '-')}").is_dir()
