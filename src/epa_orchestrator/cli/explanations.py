# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""An explanation as a sentence, a table of the compared choices, and the settings in force."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.placement.cost import LABELS
from epa_orchestrator.protocol.answers import Explanation

#: A level that only compares choices says nothing about a single one.
_COMPARING: Final = "(sum of squares)"
#: The number of choices that fit next to each other on a terminal of 80 columns.
_CHOICES: Final = 3


def explanation(found: Explanation, *, refused: bool) -> Iterable[FittedTable | str]:
    """The reason for the choice, and the compared choices as columns, with the level that is compared first on top."""
    if not refused:  # the refusal's own sentence gives the reason
        yield found.decided_by
    if found.scopes:
        yield _choices(found, refused=refused)
    room = ", ".join(f"{node}: {count}" for node, count in found.room.items())
    yield f"CPUs available to the service, by NUMA node: {room}"
    yield "Placed by: " + ", ".join(f"{name}={_option_value(value)}" for name, value in found.policy.items())


def _choices(found: Explanation, *, refused: bool) -> FittedTable:
    """One column for each choice, one row for each level at which some choice costs something."""
    candidates = found.scopes[:_CHOICES]
    first, *others = candidates
    all_equal = all(each.cost == first.cost for each in others)
    title = "The best choices; the first difference decides"
    if refused:
        title = "The best choice without that rule"
    elif all_equal:
        title = "The best choices, which are equally good" if others else "The choice"
    columns = ("Level", "best" if refused else "chosen", *("next best" for _ in others))
    table = FittedTable(columns, title)
    table.add_row("on NUMA nodes", *(each.numa_nodes or "none" for each in candidates))
    table.add_row("CPUs", *(each.cpus for each in candidates), end_section=True)
    levels = {name: [each.cost.get(name, 0) for each in candidates] for name in first.cost}
    deciding = next((name for name, values in levels.items() if others and values[0] != values[1]), None)
    for name, values in levels.items():
        label = LABELS.get(name, name)
        if any(values) and (others or _COMPARING not in label):
            table.add_row(f"{label} <" if name == deciding else label, *values)
    return table


def _option_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
