# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Wait for other processes, and run jobs in threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

#: The time (s) after which a test gives up on a hanging daemon.
PATIENCE: Final = 30.0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Wait for something that happens outside this process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


@contextlib.contextmanager
def in_threads(*jobs: Callable[[], object]) -> Generator[None]:
    """Run each job in a thread during the body; then wait for them, and raise the first failure."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        running = [pool.submit(job) for job in jobs]
        yield
    for job in running:
        job.result()


def run_all(jobs: Iterable[Callable[[], object]]) -> None:
    """Run jobs at once, each in a thread of its own, and wait for all."""
    with in_threads(*jobs):
        pass
