# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Checks of the events of a watch that their models do not make."""

from __future__ import annotations

from epa_orchestrator.protocol.watching import ClaimEvent, StateEvent, WatchEvent


def mistake_in_state(pool: str, state: StateEvent) -> str | None:
    """What is wrong with the first event of a watch, if it does not show this pool, and at most one other."""
    other = state.other_pool
    if state.pool != pool:
        return f"it is about pool {state.pool}, not {pool}"
    if other is not None and other.pool == pool:
        return f"it is about pool {pool} twice"
    listings = [state, other] if other is not None else [state]
    if any(claim.pool != listing.pool for listing in listings for claim in listing.allocations):
        return "a listing holds a claim in another pool"
    return None


def mistake_in_event(event: WatchEvent) -> str | None:
    """What is wrong with a later event, if it does not say of one service what changes."""
    if not isinstance(event, ClaimEvent):
        return None
    claims = [claim for claim in (event.before, event.after) if claim is not None]
    if not claims:
        return "a claim has changed that is neither there before nor after"
    if any(claim.service_name != event.service_name for claim in claims):
        return "it holds a claim of another service"
    if event.taken_from_others and not event.taken_from:
        return "other services lose CPUs, and it names none of them"
    return None
