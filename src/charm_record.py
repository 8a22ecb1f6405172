# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The charm's record in the snap's own configuration, under the key `charm`: who owns the snap, and what it did to it.

It is there because it belongs to the installed snap: it goes when the snap goes, and another application of this charm
on the same machine finds it. snapd lets only root write it, and the snap's configure hook ignores it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from store_offer import Offer

KEY: Final = "charm"


@dataclass(frozen=True)
class Record:
    """What the charm has recorded; an empty record stands for a snap that no charm has set up yet."""

    #: The unit that owns the snap, as `app/0`, and the UUID of its model.
    unit: str = ""
    model: str = ""
    #: The daemon's options that the charm has set, with the values that it set.
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    #: The revision in the store that was looked at last, and whether it is ours; 0 for none.
    offered: int = 0
    accepted: bool = False
    #: The older revision that ran although ours held claims, and when (seconds since 1970); empty if none did.
    intruder: str = ""
    intruded: float = 0.0
    #: Until when (seconds since 1970) the operator has settled which claims count.
    settled: float = 0.0

    @property
    def offer(self) -> Offer | None:
        """What was found in the store."""
        return Offer(self.offered, self.accepted) if self.offered else None

    def document(self) -> dict[str, Any]:
        """The record as the snap's configuration holds it."""
        return dataclasses.asdict(self) | {"options": dict(self.options)}


def parse(options: Mapping[str, Any]) -> Record:
    """The record in the snap's configuration; members of another type count as missing."""
    found = options.get(KEY)
    document = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    empty = Record()
    members: dict[str, Any] = {}
    for each in dataclasses.fields(Record):
        value, default = document.get(each.name), getattr(empty, each.name)
        if isinstance(default, float) and isinstance(value, int):
            value = float(value)
        if type(value) is type(default):
            members[each.name] = value
    return Record(**members)
