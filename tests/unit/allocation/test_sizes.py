# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sizes: percentages and the default size as tables; node 0 has 2 cores in the pool, node 1 has 4."""

from __future__ import annotations

import pytest

from epa_orchestrator.allocation.sizes import default_size, percent_of
from epa_orchestrator.placement.policy import PlacementPolicy
from tests.builders import cpus, pools


@pytest.mark.parametrize(
    ("eligible", "percent", "count"), [("0-11", 50, 6), ("0-10", 50, 6), ("0-10", 100, 11), ("0-9", 1, 1), ("", 50, 1)]
)
def test_percent_rounds_up(eligible: str, percent: int, count: int) -> None:
    assert percent_of(cpus(eligible), percent) == count


@pytest.mark.parametrize(
    ("free", "held", "threads", "size"),
    [
        ("2-7,10-15", "", "prefer", 9),  # floor(0.8 * 12)
        ("2-7,10-15", "", "require", 8),  # whole cores
        ("2-7,10-15", "", "isolate", 4),  # floor(0.8 * 6)
        ("5-7", "2-4", "prefer", 4),  # floor(0.8 * 6)
        ("7", "2-6", "prefer", 5),  # floor(0.8 * 6) is fewer than it holds
        ("", "2-7,10-15", "isolate", 12),
        ("", "2", "prefer", 1),
    ],
)
def test_default_size_is_at_least_what_is_held(free: str, held: str, threads: str, size: int) -> None:
    pool = pools(cpu_thread_policy=threads).isolated
    policy = pool.settings.placement
    assert default_size(pool.settings, pool.topology(), cpus(free), cpus(held), policy) == size


def test_default_size_stays_when_the_thread_policy_changes() -> None:
    pool = pools().isolated
    isolate = PlacementPolicy(cpu_thread_policy="isolate")
    available = cpus("4-7,12-15") | cpus("3,10-11")
    held = cpus("2,4-6")  # floor(0.8 * 6 cores)
    assert default_size(pool.settings, pool.topology(), available, held, pool.settings.placement, isolate) == 4
    assert default_size(pool.settings, pool.topology(), available, held, pool.settings.placement) > 4
