# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Times on the command line: in, as `journalctl --since` takes them, and out, in local time with the zone."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_DATE: Final = re.compile(r"(?:(\d{4})-)?(\d{1,2})-(\d{1,2})(?:[ T](.+))?", re.ASCII)
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d{1,9})?)?(?: ?([+-]?[A-Z0-9:+-]+))?", re.ASCII)
#: A zone as a distance from UTC.
_OFFSET: Final = re.compile(r"([+-])(\d{2}):?(\d{2})?", re.ASCII)
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
    """A time in seconds since 1970, in whole seconds; dates and clock times without a zone are local ones.

    Such as `2026-11-26`, `2026-11-26 14:30`, `11-26 14:30`, `14:30`, `2026-11-26T14:30:00Z`, `yesterday`, `now`, `2h`,
    `2h ago` or `-2h`, `1d 12h ago`, `@1795750000`. A zone is `UTC`, `Z`, `+01:00`, or a name of the local zone. Raises
    ValueError with a sentence.
    """
    words = " ".join(text.split()).lower()
    try:
        found = _relative(words, now)
        found = found if found is not None else _absolute(words.upper(), now)
    except (ValueError, OverflowError, OSError):
        found = None
    if found is None or found < 0:
        raise ValueError(
            f"'{text[:40]}' is not a time: write it as 2026-11-26, '2026-11-26 14:30', 14:30, 2026-11-26T14:30:00Z,"
            " today, yesterday, 2h or '2h ago'"
        )
    return int(found)


def _relative(words: str, now: float) -> float | None:
    if words == "now":
        return now
    if words in _DAYS:
        return (_midnight(now) + timedelta(days=_DAYS[words])).timestamp()
    sign = -1
    if words.endswith(" ago"):
        words = words.removesuffix(" ago")
    elif words[:1] in ("-", "+"):
        words, sign = words[1:], -1 if words[0] == "-" else 1
    if _SPANS.fullmatch(words) is None:
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
        day = datetime(int(date[1] or day.year), int(date[2]), int(date[3]))  # noqa: DTZ001  # local
        clock = date[4] or "00:00"
    found = _CLOCK.fullmatch(clock)
    if found is None:
        return None
    local = day.replace(hour=int(found[1]), minute=int(found[2]), second=int(found[3] or 0))
    return local.timestamp() if found[4] is None else _in_zone(local, found[4])


def _in_zone(clock: datetime, zone: str) -> float | None:
    """The time at which clocks of the zone show `clock`; None for a zone that is not known."""
    for local in (clock, clock.replace(fold=1)):  # an hour in autumn comes twice
        if local.astimezone().strftime("%Z").upper() == zone:
            return local.timestamp()
    if zone in ("Z", "UTC", "GMT"):
        return clock.replace(tzinfo=UTC).timestamp()
    offset = _OFFSET.fullmatch(zone)
    if offset is None:
        return None
    distance = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
    return clock.replace(tzinfo=timezone(distance if offset[1] == "+" else -distance)).timestamp()


def _midnight(now: float) -> datetime:
    """The beginning of the local day."""
    return datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006  # local


def format_time(at: float) -> str:
    """A time in local time, with the zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))


def short_times(times: list[float], now: float) -> tuple[list[str], str | None]:
    """Times in local time, as short as they can be, and the zone of them all.

    Times of today have no date, and times of this year no year. Where the zones differ, each time has its own.
    """
    local = [time.localtime(at) for at in times]
    zones = {each.tm_zone for each in local}
    if len(zones) > 1:
        return [format_time(at) for at in times], None
    today = time.localtime(now)
    form = "%H:%M:%S"
    if any((each.tm_year, each.tm_yday) != (today.tm_year, today.tm_yday) for each in local):
        form = f"%m-%d {form}" if all(each.tm_year == today.tm_year for each in local) else f"%Y-%m-%d {form}"
    return [time.strftime(form, each) for each in local], next(iter(zones), None)
