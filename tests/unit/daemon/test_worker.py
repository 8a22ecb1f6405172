# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Worker: calls run one after the other in another thread, and the event loop handles the end of each."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest

from epa_orchestrator.daemon.worker import Worker


def run(body: Callable[[Worker, asyncio.Future[None]], None]) -> None:
    """Run the body with a worker, until it sets the result of the future."""

    async def main() -> None:
        worker = Worker()
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            body(worker, finished)
            await asyncio.wait_for(finished, 10)
        finally:
            worker.close()

    asyncio.run(main())


def five_calls() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Run five calls. Returns the number and the thread of each call, and of each end."""
    called: list[tuple[int, int]] = []
    ended: list[tuple[int, int]] = []

    def body(worker: Worker, finished: asyncio.Future[None]) -> None:
        for number in range(5):

            def call(number: int = number) -> None:
                called.append((number, threading.get_ident()))

            def done(error: Exception | None, number: int = number) -> None:
                assert error is None
                ended.append((number, threading.get_ident()))
                if number == 4:
                    finished.set_result(None)

            worker.run(call, done)

    run(body)
    return called, ended


def test_calls_run_and_end_in_order() -> None:
    called, ended = five_calls()
    assert [number for number, _ in called] == list(range(5))
    assert [number for number, _ in ended] == list(range(5))


def test_all_calls_run_in_one_other_thread() -> None:
    called, _ = five_calls()
    (thread,) = {thread for _, thread in called}
    assert thread != threading.get_ident()


def test_calls_end_in_the_thread_of_the_loop() -> None:
    _, ended = five_calls()
    assert {thread for _, thread in ended} == {threading.get_ident()}


def test_done_gets_the_exception_of_its_own_call_only() -> None:
    errors: list[Exception | None] = []
    failure = OSError(28, "No space left on device")

    def body(worker: Worker, finished: asyncio.Future[None]) -> None:
        def fail() -> None:
            raise failure

        def last(error: Exception | None) -> None:
            errors.append(error)
            finished.set_result(None)

        worker.run(fail, errors.append)
        worker.run(lambda: None, last)

    run(body)
    assert errors == [failure, None]


def test_an_exception_of_one_done_is_logged_and_the_next_done_is_called(caplog: pytest.LogCaptureFixture) -> None:
    def body(worker: Worker, finished: asyncio.Future[None]) -> None:
        def broken(_: Exception | None) -> None:
            raise KeyError("x")

        worker.run(lambda: None, broken)
        worker.run(lambda: None, lambda _: finished.set_result(None))

    run(body)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "KeyError: 'x'" in caplog.text


def test_closing_waits_for_all_calls_and_leaves_no_thread_and_no_file() -> None:
    called: list[int] = []

    async def main() -> None:
        before = threading.active_count(), len(os.listdir("/proc/self/fd"))
        worker = Worker()
        for number in range(100):
            worker.run(lambda number=number: called.append(number), lambda _: pytest.fail("called after the close"))
        worker.close()
        assert called == list(range(100))
        await asyncio.sleep(0)
        assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before

    asyncio.run(main())
