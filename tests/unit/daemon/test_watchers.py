# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Watchers: what is told reaches every receiver once and in order, and is encoded once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from epa_orchestrator.daemon import watchers
from epa_orchestrator.daemon.watchers import Watchers


class Fake:
    """A receiver that keeps what it is told."""

    def __init__(self, pause: float = 0.0, cpu: float = 0.0) -> None:
        self.pieces: list[bytes] = []
        self.sent = 0
        self.dropped = ""
        self._pause = pause
        self._cpu = cpu

    def tell(self, lines: bytes) -> None:
        self.pieces.append(lines)

    def send(self) -> None:
        self.sent += 1
        time.sleep(self._pause)
        ends = time.thread_time() + self._cpu
        while time.thread_time() < ends:
            pass

    def drop(self, reason: str) -> None:
        self.dropped = reason


def run(body: Callable[[Watchers], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await body(Watchers())

    asyncio.run(main())


async def settle() -> None:
    await asyncio.sleep(0.3)


def test_a_receiver_gets_what_is_told_after_it_came() -> None:
    async def body(all_: Watchers) -> None:
        first, second = Fake(), Fake()
        all_.add(first)
        all_.tell(lambda: b"1")
        all_.add(second)
        all_.tell(lambda: b"2")
        await settle()
        assert (b"".join(first.pieces), b"".join(second.pieces)) == (b"12", b"2")

    run(body)


def test_all_receivers_share_the_bytes() -> None:
    async def body(all_: Watchers) -> None:
        encoded: list[int] = []

        def line() -> bytes:
            encoded.append(1)
            return b"line"

        receivers = [Fake() for _ in range(3)]
        for receiver in receivers:
            all_.add(receiver)
        all_.tell(line)
        await settle()
        assert encoded == [1]
        assert receivers[0].pieces[0] is receivers[1].pieces[0] is receivers[2].pieces[0]

    run(body)


def test_lines_that_come_together_are_sent_together() -> None:
    async def body(all_: Watchers) -> None:
        receiver = Fake()
        all_.add(receiver)
        await settle()
        for number in range(10):
            all_.tell(lambda number=number: b"%d" % number)
        await settle()
        assert receiver.pieces == [b"0123456789"]
        assert receiver.sent == 1

    run(body)


def test_rounds_keep_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "_SHORTEST_PAUSE", 60)
    monkeypatch.setattr(watchers, "_LONGEST_PAUSE", 60)

    async def body(all_: Watchers) -> None:
        receiver = Fake()
        all_.add(receiver)
        all_.tell(lambda: b"1")
        await settle()
        all_.tell(lambda: b"2")
        await settle()
        assert receiver.pieces == [b"1"]
        all_.send_all()
        assert receiver.pieces == [b"1", b"2"]

    run(body)


@pytest.mark.parametrize(
    ("cpu_seconds", "told"), [(0.0, [b"1", b"2"]), (0.05, [b"1"])], ids=["quick round", "long round"]
)
def test_pause_is_as_long_as_the_round_was_expensive(cpu_seconds: float, told: list[bytes]) -> None:
    async def body(all_: Watchers) -> None:
        receiver = Fake(cpu=cpu_seconds)
        all_.add(receiver)
        all_.tell(lambda: b"1")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        all_.tell(lambda: b"2")
        await settle()
        assert receiver.pieces == told

    run(body)


def test_a_receiver_that_has_left_gets_nothing() -> None:
    async def body(all_: Watchers) -> None:
        stays, leaves = Fake(), Fake()
        for receiver in (stays, leaves):
            all_.add(receiver)
        all_.tell(lambda: b"1")
        all_.remove(leaves)
        assert len(all_) == 1
        await settle()
        assert (stays.pieces, leaves.pieces, leaves.sent) == ([b"1"], [], 0)

    run(body)


def test_nothing_is_encoded_without_receivers() -> None:
    async def body(all_: Watchers) -> None:
        def fail() -> bytes:
            raise AssertionError

        all_.tell(fail)
        await settle()
        assert not all_

    run(body)


def test_a_round_through_many_receivers_leaves_the_loop_to_others() -> None:
    """Each receiver has its turn, also while new lines come all the time."""

    async def body(all_: Watchers) -> None:
        receivers = [Fake(pause=0.002) for _ in range(20)]
        for receiver in receivers:
            all_.add(receiver)
        turns = 0
        while not all(receiver.sent for receiver in receivers):
            all_.tell(lambda: b"x")
            turns += 1
            await asyncio.sleep(0)
        assert turns > 5
        assert len({b"".join(receiver.pieces) for receiver in receivers}) == 1

    run(body)


def test_after_a_line_that_cannot_be_made_a_new_receiver_is_told_the_next_one() -> None:
    def broken() -> bytes:
        raise RuntimeError("a bug")

    async def body(all_: Watchers) -> None:
        first, second = Fake(), Fake()
        all_.add(first)
        all_.tell(broken)
        await settle()
        assert first.dropped
        all_.remove(first)
        all_.add(second)
        all_.tell(lambda: b"2")
        await settle()
        assert b"".join(second.pieces) == b"2"

    run(body)
