# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Takeover: what the older daemon left behind, which the first start imports, and what it wrote later.

After the first start this daemon goes by its database alone: every connected snap can write the older daemon's file.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import opening
from epa_orchestrator.state.errors import LegacyStateError
from epa_orchestrator.units import count_of

log = logging.getLogger(__name__)

#: The most left-out records that warnings name.
_MOST_NAMED: Final = 8


def first_start(database: Path, older_state: Path) -> tuple[str, ...]:
    """Create the database with the older daemon's claims; returns warnings about the records that are left out.

    Raises LegacyStateError, StateError.
    """
    # Imported here, because its models take 3 ms and no other start needs them.
    from epa_orchestrator.state.legacy_state import read_legacy_state

    left_out: list[str] = []
    try:
        imported = read_legacy_state(older_state, left_out.append)
    except LegacyStateError as error:
        raise LegacyStateError(
            f"The older daemon's state {older_state} was not imported, because {error}: repair or remove that file,"
            " then restart this daemon"
        ) from None
    opening.create(database, imported or Ledger(), Peer(os.getpid(), os.getuid(), os.getgid()), time.time())
    if imported is not None:
        log.info(
            "imported %s, and the hugepage records of %s, from the older daemon's %s",
            count_of(len(imported.claims), "claim"),
            count_of(len(imported.pages), "service"),
            older_state,
        )
    return _logged([f"{older_state}: not imported: {record}" for record in _shortened(left_out)])


def later_state(older_state: Path, taken_over: float, claims: Mapping[str, Claim]) -> tuple[str, ...]:
    """A warning when the older daemon's file was written after this daemon took over, at `taken_over` (Unix time).

    `claims` are this daemon's own.
    """
    try:
        written = os.lstat(older_state).st_mtime
    except OSError:
        return ()
    if written <= taken_over:
        return ()
    from epa_orchestrator.state.legacy_state import services_without

    names = services_without(older_state, claims)
    named = f" It names services that hold no CPUs here: {names}." if names else ""
    warning = (
        f"The older daemon's state {older_state} was written after this daemon took over: the older daemon ran in"
        " between, or another program wrote the file. This daemon ignores the file and goes by its database, so CPUs"
        f" that the older daemon granted may be granted again.{named} Restart the services that asked the older daemon"
        " for CPUs, so that they ask this one, then remove the file"
    )
    return _logged([warning])


def _shortened(left_out: list[str]) -> list[str]:
    more = len(left_out) - _MOST_NAMED
    return [*left_out[:_MOST_NAMED], f"{more} more records"] if more > 0 else left_out


def _logged(warnings: list[str]) -> tuple[str, ...]:
    for warning in warnings:
        log.warning("%s", warning)
    return tuple(warnings)
