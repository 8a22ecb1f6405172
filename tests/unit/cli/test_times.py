# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Times: what people write, and what they see, in local time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from epa_orchestrator.cli.times import format_time, parse_time, short_times

#: 2026-11-27 14:30:05 UTC, which is 15:30:05 in the zone of the tests.
NOW = 1_795_789_805.75


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One hour east of Greenwich in winter, two in summer."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-26", "2026-11-26 00:00:00 CET"),
        ("2026-11-26 14:30", "2026-11-26 14:30:00 CET"),
        ("2026-11-26T14:30:09", "2026-11-26 14:30:09 CET"),
        ("  2026-7-1   4:05 ", "2026-07-01 04:05:00 CEST"),
        ("14:30", "2026-11-27 14:30:00 CET"),
        ("14:30:59", "2026-11-27 14:30:59 CET"),
        ("today", "2026-11-27 00:00:00 CET"),
        ("Yesterday", "2026-11-26 00:00:00 CET"),
        ("tomorrow", "2026-11-28 00:00:00 CET"),
        ("now", "2026-11-27 15:30:05 CET"),
        ("-2h", "2026-11-27 13:30:05 CET"),
        ("2h ago", "2026-11-27 13:30:05 CET"),
        ("2 hours ago", "2026-11-27 13:30:05 CET"),
        ("1d 12h ago", "2026-11-26 03:30:05 CET"),
        ("-1h30min", "2026-11-27 14:00:05 CET"),
        ("-5m", "2026-11-27 15:25:05 CET"),
        ("+1w", "2026-12-04 15:30:05 CET"),
        ("2h", "2026-11-27 13:30:05 CET"),
        ("1d 12h", "2026-11-26 03:30:05 CET"),
        ("@1795789630", "2026-11-27 15:27:10 CET"),
        ("11-26 14:30:09", "2026-11-26 14:30:09 CET"),
        ("2026-11-27 15:06:31 UTC", "2026-11-27 16:06:31 CET"),
        ("2026-11-27T15:06:31Z", "2026-11-27 16:06:31 CET"),
        ("2026-11-27T15:06:31.250Z", "2026-11-27 16:06:31 CET"),
        ("2026-11-27T15:06:31+01:00", "2026-11-27 15:06:31 CET"),
        ("2026-11-27 15:06:31 -0530", "2026-11-27 21:36:31 CET"),
        ("2026-11-27 15:06:31 CET", "2026-11-27 15:06:31 CET"),
        ("2026-10-25 02:30:00 CEST", "2026-10-25 02:30:00 CEST"),
        ("2026-10-25 02:30:00 CET", "2026-10-25 02:30:00 CET"),
    ],
)
def test_a_time_is_understood(text: str, expected: str) -> None:
    assert format_time(parse_time(text, NOW)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "noon", "ago", "-", "-h", "-2", "-2x", "2026", "2026-11", "2026-13-01", "2026-02-30", "25:00"),
        *(
            "14:60",
            "14",
            "2026-11-26 noon",
            "@",
            "@x",
            "-99999999w",
            "9999999999d ago",
            "1969-01-01",
            "٢h ago",
            "x" * 99,
        ),
    ],
)
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time: write it as 2026-11-26, ") as caught:
        parse_time(text, NOW)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["14:30", "15:00:01"], (["14:30:00", "15:00:01"], "CET")),
        (["2026-11-26 14:30", "15:00:01"], (["11-26 14:30:00", "11-27 15:00:01"], "CET")),
        (["2025-11-26 14:30"], (["2025-11-26 14:30:00"], "CET")),
        (["2026-7-1 14:30", "15:00"], (["2026-07-01 14:30:00 CEST", "2026-11-27 15:00:00 CET"], None)),
    ],
)
def test_short_times_have_what_tells_them_apart(texts: list[str], expected: tuple[list[str], str | None]) -> None:
    assert short_times([parse_time(text, NOW) for text in texts], NOW) == expected


def test_no_times_have_no_zone() -> None:
    assert short_times([], NOW) == ([], None)
