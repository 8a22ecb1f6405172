# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Logs: the lines of a turn are written together, warnings at once, and nothing waits for a reader."""

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
        """Read everything that has been written so far."""
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


def test_lines_of_a_turn_are_written_when_it_ends(sink: Sink) -> None:
    async def turn() -> None:
        sink.info("one")
        sink.info("two")
        assert sink.read() == ""
        await asyncio.sleep(0)
        assert sink.read() == "INFO one\nINFO two\n"

    asyncio.run(turn())


def test_an_error_is_written_at_once_after_earlier_lines(sink: Sink) -> None:
    async def turn() -> None:
        sink.info("one")
        sink.handler.handle(line(logging.ERROR, "two"))
        assert sink.read() == "INFO one\nERROR two\n"

    asyncio.run(turn())


def test_escapes_text_that_is_not_unicode(sink: Sink) -> None:
    sink.info("\udcff")
    assert sink.read() == "INFO \\udcff\n"


def test_a_closed_stderr_raises_nothing() -> None:
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


def read_late(sink: Sink) -> str:
    """The log of 20,000 lines that are read only after the last one, and of a later line with the number 20000."""
    for number in range(20_000):
        sink.info(f"line {number} " + "x" * 80)
    text = sink.read()
    for _ in range(10):
        sink.handler.flush()
        text += sink.read()
    sink.info("line 20000 after")
    return text + sink.read()


def test_keeps_the_oldest_lines_in_order_while_nobody_reads(sink: Sink) -> None:
    *kept, _ = numbers_in(read_late(sink))
    assert len(kept) > 2000
    assert kept == list(range(len(kept)))


def test_counts_the_lines_that_were_dropped(sink: Sink) -> None:
    text = read_late(sink)
    *kept, _ = numbers_in(text)
    assert len(kept) + lines_dropped(text) == 20_000


def test_writes_the_count_before_later_lines(sink: Sink) -> None:
    text = read_late(sink)
    assert numbers_in(text)[-1] == 20_000
    assert text.index("were dropped") < text.index("line 20000 after")


def test_the_count_is_written_without_another_line(sink: Sink) -> None:
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


def test_writes_all_lines_of_a_large_turn_that_fit(monkeypatch: pytest.MonkeyPatch, sink: Sink) -> None:
    monkeypatch.setattr(logs, "_MAX_KEPT", 10_000)

    async def turn() -> None:
        for number in range(500):
            sink.info(f"line {number} " + "x" * 80)
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert numbers_in(sink.read()) == list(range(500))


def test_lines_of_threads_are_neither_lost_nor_mixed(sink: Sink) -> None:
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


def test_refuses_an_unknown_level() -> None:
    with pytest.raises(ValueError, match="the log level 'loud' is not known: set it to one of debug, info, warning"):
        log_to_stderr("loud")


@pytest.mark.parametrize("level", LEVELS)
def test_writes_only_lines_of_the_level_and_above(level: str, monkeypatch: pytest.MonkeyPatch, sink: Sink) -> None:
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
