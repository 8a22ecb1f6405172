# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Times on the command line: in, as `journalctl --since` takes them, and out, in local time with the zone."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from typing import Final

_DATE: Final = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](.+))?", re.ASCII)
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_SPAN: Final = re.compile(r"(\d{1,9}) ?([a-z]+)", re.ASCII)
_SPANS: Final = re.compile(rf"(?:{_SPAN.pattern} ?)+", re.ASCII)
_UNIX: Final = re.compile(r"@(\d{1,12})(?:\.\d+)?", re.ASCII)
_DAYS: Final = {"yesterday": -1, "today": 0, "tomorrow": 1}
_SECONDS: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400),
}


def parse_time(text: str, now: float) -> int:
    """A time in seconds since 1970, in whole seconds; dates and clock times are local ones.

    Such as `2026-11-26`, `2026-11-26 14:30`, `14:30`, `yesterday`, `now`, `-2h`, `2h ago`, `1d 12h ago`, `@1795750000`.
    Raises ValueError with a sentence.
    """
    words = " ".join(text.split()).lower()
    try:
        found = _relative(words, now)
        found = found if found is not None else _absolute(words.upper(), now)
    except (ValueError, OverflowError, OSError):
        found = None
    if found is None or found < 0:
        raise ValueError(
            f"'{text[:40]}' is not a time: write it as 2026-11-26, '2026-11-26 14:30', 14:30, today, yesterday, -2h or"
            " '2h ago'"
        )
    return int(found)


def _relative(words: str, now: float) -> float | None:
    if words == "now":
        return now
    if words in _DAYS:
        return (_midnight(now) + timedelta(days=_DAYS[words])).timestamp()
    sign = 0
    if words.endswith(" ago"):
        words, sign = words.removesuffix(" ago"), -1
    elif words[:1] in ("-", "+"):
        words, sign = words[1:], -1 if words[0] == "-" else 1
    if not sign or _SPANS.fullmatch(words) is None:
        return None
    spans = _SPAN.findall(words)
    if any(unit not in _SECONDS for _, unit in spans):
        return None
    return now + sign * sum(int(number) * _SECONDS[unit] for number, unit in spans)


def _absolute(words: str, now: float) -> float | None:
    if (unix := _UNIX.fullmatch(words)) is not None:
        return int(unix[1])
    day, clock = _midnight(now), words
    if (date := _DATE.fullmatch(words)) is not None:
        day, clock = datetime(int(date[1]), int(date[2]), int(date[3])), date[4] or "00:00"  # noqa: DTZ001  # local
    found = _CLOCK.fullmatch(clock)
    if found is None:
        return None
    return day.replace(hour=int(found[1]), minute=int(found[2]), second=int(found[3] or 0)).timestamp()


def _midnight(now: float) -> datetime:
    """The beginning of the local day."""
    return datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006  # local


def format_time(at: float) -> str:
    """A time in local time, with the zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))
