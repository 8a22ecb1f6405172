# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Background: each end of a job is logged with its reason, and the job is started again."""

from __future__ import annotations

import asyncio

import pytest

from epa_orchestrator.daemon.background import keep_running


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (OSError(24, "Too many open files"), "OSError: [Errno 24] Too many open files"),
        (MemoryError(), "MemoryError"),
        (KeyError("x"), "KeyError: 'x'"),
        (None, "it returned"),
    ],
)
def test_an_ended_job_is_logged_and_started_again(
    end: Exception | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    starts = 0

    async def job() -> None:
        nonlocal starts
        starts += 1
        if starts < 3:
            if end is not None:
                raise end
            return
        await asyncio.Event().wait()

    async def body() -> None:
        task = asyncio.ensure_future(keep_running("the job", job, restart_after=0))
        while starts < 3:
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(body())
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2
    assert all(f"the job ended unexpectedly ({reason}" in record.getMessage() for record in caplog.records)
