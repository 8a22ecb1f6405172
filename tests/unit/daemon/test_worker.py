"""Worker: calls run one after the other in another thread, and the event loop hears of each end."""

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


def test_calls_run_in_order_in_another_thread_and_end_in_the_loops() -> None:
    called: list[tuple[int, int]] = []
    ended: list[tuple[int, int]] = []

    def body(worker: Worker, finished: asyncio.Future[None]) -> None:
        for number in range(5):

            def done(error: Exception | None, number: int = number) -> None:
                assert error is None
                ended.append((number, threading.get_ident()))
                if number == 4:
                    finished.set_result(None)

            def call(number: int = number) -> None:
                called.append((number, threading.get_ident()))

            worker.run(call, done)

    run(body)
    assert [number for number, _ in called] == [number for number, _ in ended] == list(range(5))
    assert {thread for _, thread in ended} == {threading.get_ident()}
    assert len({thread for _, thread in called} - {threading.get_ident()}) == 1


def test_an_error_is_handed_to_its_own_end_only() -> None:
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


def test_a_bug_in_one_end_is_logged_and_the_next_one_still_called(caplog: pytest.LogCaptureFixture) -> None:
    def body(worker: Worker, finished: asyncio.Future[None]) -> None:
        def broken(_: Exception | None) -> None:
            raise KeyError("x")

        worker.run(lambda: None, broken)
        worker.run(lambda: None, lambda _: finished.set_result(None))

    run(body)
    told = [record.getMessage() for record in caplog.records if record.name == "epa_orchestrator.daemon.worker"]
    assert told == ["the end of a call was not handled"]
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
