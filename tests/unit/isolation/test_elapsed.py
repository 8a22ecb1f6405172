# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""How far two readings are apart."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.elapsed import added_to, measured, rate, seconds_since
from tests.unit.isolation.quiet_host import case, facts


def test_uptime_counts_although_the_clock_was_set() -> None:
    assert seconds_since(facts(at=5000.0), facts({"proc/uptime": "104.50 1"}, at=10.0)) == 4.5


def test_time_of_day_counts_without_an_uptime() -> None:
    assert seconds_since(facts({"proc/uptime": None}, at=10.0), facts(at=13.0)) == 3.0


@pytest.mark.parametrize(
    "later",
    [
        pytest.param({"proc/uptime": "110.0 1", "proc/sys/kernel/random/boot_id": "b"}, id="another boot"),
        pytest.param({"proc/uptime": "100.0 1"}, id="the same moment"),
        pytest.param({"proc/uptime": "99.0 1"}, id="the wrong order"),
    ],
)
def test_some_readings_cannot_be_compared(later: dict[str, str]) -> None:
    assert seconds_since(facts(), facts(later)) is None


def test_one_reading_measures_nothing() -> None:
    assert measured(case()) is None


def test_two_readings_give_the_earlier_one_and_the_seconds() -> None:
    earlier = facts()
    assert measured(case({"proc/uptime": "110.0 1"}, earlier=earlier)) == (earlier, 10.0)


@pytest.mark.parametrize(("before", "after", "added"), [(5, 12, 7), (5, 5, 0), (5, 3, 3)])
def test_counter_that_went_down_has_started_again(before: int, after: int, added: int) -> None:
    assert added_to(before, after) == added


@pytest.mark.parametrize(
    ("per_second", "text"), [(1250.4, "1,250"), (10, "10"), (3.42, "3.4"), (3, "3"), (0.02, "0.1")]
)
def test_rates_read_like_numbers_of_people(per_second: float, text: str) -> None:
    assert rate(per_second) == text
