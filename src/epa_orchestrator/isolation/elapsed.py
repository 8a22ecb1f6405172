# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Elapsed: how far two readings of a host are apart, and whether their counters can be compared."""

from __future__ import annotations

from typing import Final

from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.facts import Facts
from epa_orchestrator.isolation.host_files import Unread

#: How an operator measures.
MEASURE: Final = "run it with --measure 5"
#: What a measured check needs and does not have.
TWO_READINGS: Final = f"two readings: {MEASURE}"


def seconds_since(earlier: Facts, now: Facts) -> float | None:
    """The seconds between two readings; None if the host was booted in between, or the second is not the later one.

    The uptime counts, because the time of day may be set.
    """
    if earlier.boot_id != now.boot_id and not isinstance(now.boot_id, Unread):
        return None
    if isinstance(earlier.uptime, Unread) or isinstance(now.uptime, Unread):
        seconds = now.at - earlier.at
    else:
        seconds = now.uptime - earlier.uptime
    return seconds if seconds > 0 else None


def measured(case: Case) -> tuple[Facts, float] | None:
    """The earlier reading and the seconds since then, None where there is none to compare with."""
    if case.earlier is None:
        return None
    seconds = seconds_since(case.earlier, case.now)
    return None if seconds is None else (case.earlier, seconds)


def added_to(before: int, after: int) -> int:
    """What a counter gained; one that went down has started again."""
    return after - before if after >= before else after


def rate(per_second: float) -> str:
    """A rate as people read it: `1,250`, `3.4`, `0.2`."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{max(per_second, 0.1):.1f}".removesuffix(".0")
