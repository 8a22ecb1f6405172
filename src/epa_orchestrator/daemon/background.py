# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Background: runs jobs as long as the daemon runs, and starts them again when they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

log = logging.getLogger(__name__)

#: The pause (seconds) before an ended job is started again.
RESTART_AFTER: Final = 1.0


async def keep_running(name: str, job: Callable[[], Awaitable[None]], restart_after: float = RESTART_AFTER) -> None:
    """Run a job that should never end. Each end is logged with its reason, and the job is started again."""
    while True:
        try:
            await job()
            reason = "it returned"
        except Exception as error:  # noqa: BLE001  # no error may stop the job for good
            reason = f"{type(error).__name__}: {error}"
        log.error("%s ended unexpectedly (%s): starting it again", name, reason)
        await asyncio.sleep(restart_after)
