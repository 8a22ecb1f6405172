# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Deferred: calls run in their order, and only as many in each turn as fit into its part."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from epa_orchestrator.daemon.deferred import DeferredCalls


def run(body: Callable[[DeferredCalls], None]) -> None:
    """Run the body, then two turns of the event loop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)
        body(DeferredCalls(loop))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())


def test_short_calls_run_in_order_in_the_next_turn() -> None:
    numbers: list[int] = []

    def body(deferred: DeferredCalls) -> None:
        for number in range(3):
            deferred.add(lambda number=number: numbers.append(number))
        assert numbers == []

    run(body)
    assert numbers == [0, 1, 2]


def test_a_long_call_leaves_the_next_one_to_another_turn() -> None:
    numbers: list[int] = []

    async def main() -> None:
        deferred = DeferredCalls(asyncio.get_running_loop())
        deferred.add(lambda: time.sleep(0.002))
        deferred.add(lambda: numbers.append(1))
        await asyncio.sleep(0)
        assert numbers == []
        await asyncio.sleep(0)
        assert numbers == [1]

    asyncio.run(main())


def test_a_call_may_add_another_one() -> None:
    numbers: list[int] = []

    def body(deferred: DeferredCalls) -> None:
        deferred.add(lambda: deferred.add(lambda: numbers.append(1)))

    run(body)
    assert numbers == [1]


def test_a_call_that_waits_is_not_added_again() -> None:
    numbers: list[int] = []

    def call() -> None:
        numbers.append(1)

    def body(deferred: DeferredCalls) -> None:
        deferred.add(call)
        deferred.add(call)

    run(body)
    assert numbers == [1]


def test_a_call_that_has_run_may_be_added_again() -> None:
    numbers: list[int] = []

    async def main() -> None:
        deferred = DeferredCalls(asyncio.get_running_loop())
        for _ in range(2):
            deferred.add(numbers.clear)
            await asyncio.sleep(0)
            numbers.append(1)
        deferred.add(numbers.clear)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert numbers == []


def test_a_call_that_raises_does_not_stop_the_next_one() -> None:
    numbers: list[int] = []

    def body(deferred: DeferredCalls) -> None:
        deferred.add(lambda: numbers.append(1 // 0))
        deferred.add(lambda: numbers.append(1))

    run(body)
    assert numbers == [1]
