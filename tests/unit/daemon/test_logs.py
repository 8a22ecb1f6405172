"""Logs: lines of one turn leave together, warnings at once, and nothing waits for a reader."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import Iterator

import pytest

from epa_orchestrator.daemon import logs
from epa_orchestrator.daemon.logs import LEVELS, TurnHandler, log_to_stderr, set_level


def line(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("x", level, "", 0, "%s", (text,), None)


class Sink:
    """A pipe, and a handler that writes to it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.handler = TurnHandler(self.writer)

    def info(self, text: str) -> None:
        self.handler.handle(line(logging.INFO, text))

    def read(self) -> str:
        """What has been written so far."""
        chunks: list[bytes] = []
        while True:
            try:
                chunks.append(os.read(self.reader, 65536))
            except BlockingIOError:
                return b"".join(chunks).decode()

    def close(self) -> None:
        self.handler.close()
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


def test_without_a_loop_a_line_is_written_at_once(sink: Sink) -> None:
    sink.info("one")
    assert sink.read() == "INFO one\n"


def test_lines_of_a_turn_leave_when_it_ends(sink: Sink) -> None:
    async def turn() -> None:
        sink.info("one")
        sink.info("two")
        assert sink.read() == ""
        await asyncio.sleep(0)
        assert sink.read() == "INFO one\nINFO two\n"
        sink.info("three")
        sink.handler.handle(line(logging.ERROR, "four"))
        assert sink.read() == "INFO three\nERROR four\n"

    asyncio.run(turn())


def test_text_that_is_no_unicode_is_escaped(sink: Sink) -> None:
    sink.info("\udcff")
    assert sink.read() == "INFO \\udcff\n"


def test_a_closed_stderr_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    handler = TurnHandler(writer)
    handler.handle(line(logging.ERROR, "lost"))
    handler.close()


def numbers_in(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^INFO line (\d+) ", text, re.MULTILINE)]


def lines_dropped(text: str) -> int:
    (number,) = re.findall(
        r"^WARNING (\d+) lines of this log were dropped, because nobody read it$", text, re.MULTILINE
    )
    return int(number)


def test_lines_that_nobody_reads_are_kept_then_dropped_and_counted(sink: Sink) -> None:
    total = 20_000
    for number in range(total):
        sink.info(f"line {number} " + "x" * 80)
    text = sink.read()
    for _ in range(10):
        sink.handler.flush()
        text += sink.read()
    sink.info("line 20000 after")
    text += sink.read()
    *kept, last = numbers_in(text)
    assert kept == list(range(len(kept))), "the oldest lines, in order"
    assert len(kept) > 2000
    assert last == total
    assert len(kept) + lines_dropped(text) == total
    assert text.index("were dropped") < text.index("line 20000 after")


def test_the_count_comes_without_another_line(sink: Sink) -> None:
    async def run() -> str:
        for number in range(20_000):
            sink.info(f"line {number} " + "x" * 80)
        await asyncio.sleep(0)
        text = ""
        for _ in range(100):
            text += sink.read()
            if "dropped" in text:
                return text
            await asyncio.sleep(0.05)
        return text

    text = asyncio.run(run())
    assert len(numbers_in(text)) + lines_dropped(text) == 20_000


def test_all_lines_of_a_large_turn_are_written_where_they_fit(monkeypatch: pytest.MonkeyPatch, sink: Sink) -> None:
    monkeypatch.setattr(logs, "_MOST_KEPT", 10_000)

    async def turn() -> None:
        for number in range(500):
            sink.info(f"line {number} " + "x" * 80)
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert numbers_in(sink.read()) == list(range(500))


def test_threads_lose_and_mix_no_line(sink: Sink) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 200):
            sink.info(f"line {number} x")

    async def run() -> str:
        threads = [threading.Thread(target=write, args=(1000 * n,)) for n in range(1, 4)]
        for thread in threads:
            thread.start()
        text = ""
        for number in range(200):
            sink.info(f"line {number} x")
            await asyncio.sleep(0)
            text += sink.read()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)
        return text + sink.read()

    found = numbers_in(asyncio.run(run()))
    assert sorted(found) == [first + number for first in (0, 1000, 2000, 3000) for number in range(200)]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="the log level 'loud' is not known: set it to one of debug, info, warning"):
        log_to_stderr("loud")


@pytest.mark.parametrize("level", LEVELS)
def test_from_now_on_only_what_is_at_least_so_grave_is_written(
    level: str, monkeypatch: pytest.MonkeyPatch, sink: Sink
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [sink.handler])
    before = root.level
    try:
        for kept in ("error", level):
            set_level(kept)
            for each in LEVELS:
                logging.getLogger("x").log(logging.getLevelNamesMapping()[each.upper()], "line")
            expected = [f"{each.upper()} line" for each in LEVELS[LEVELS.index(kept) :]]
            assert sink.read().splitlines() == expected
    finally:
        root.setLevel(before)
