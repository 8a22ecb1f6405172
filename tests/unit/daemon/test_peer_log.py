# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Peer log: logs all lines of root, a few of each other user, and a count of the rest."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable

import pytest

from epa_orchestrator.daemon.peer_log import MAX_LINES, MAX_LINES_OF_A_USER, PeerLog

UID = 61234


def lines_of(body: Callable[[PeerLog], None], caplog: pytest.LogCaptureFixture, seconds: float = 0.0) -> list[str]:
    """The lines that are logged by the body and shortly after it."""

    async def run() -> None:
        body(PeerLog())
        await asyncio.sleep(seconds)

    caplog.set_level(logging.INFO)
    asyncio.run(run())
    return [record.getMessage() for record in caplog.records if record.name == "epa_orchestrator.daemon.logs"]


def noting(uid: int, count: int) -> Callable[[PeerLog], None]:
    def note(peer_log: PeerLog) -> None:
        for number in range(count):
            peer_log.note(1, uid, 3, "%s %r", "did", number)

    return note


@pytest.mark.parametrize("uid", {0, os.geteuid()})
def test_logs_all_lines_of_root_and_the_daemons_own_user(uid: int, caplog: pytest.LogCaptureFixture) -> None:
    lines = lines_of(noting(uid, 500), caplog, 1.2)
    assert lines == [f"pid=1 uid={uid} gid=3 did {number}" for number in range(500)]


def test_logs_all_lines_of_another_user_up_to_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    assert len(lines_of(noting(UID, MAX_LINES_OF_A_USER), caplog, 1.2)) == MAX_LINES_OF_A_USER


def test_counts_further_lines_of_another_user(caplog: pytest.LogCaptureFixture) -> None:
    *logged, count = lines_of(noting(UID, 500), caplog, 1.2)
    assert logged == [f"pid=1 uid={UID} gid=3 did {number}" for number in range(MAX_LINES_OF_A_USER)]
    assert count == f"lines about clients left out within a second: {500 - MAX_LINES_OF_A_USER} of uid={UID}"


def note_1000_users(peer_log: PeerLog) -> None:
    """Three lines of each user."""
    for uid in range(UID, UID + 1000):
        noting(uid, 3)(peer_log)


def test_limits_the_lines_of_all_users_together(caplog: pytest.LogCaptureFixture) -> None:
    *logged, _ = lines_of(note_1000_users, caplog, 1.2)
    assert len(logged) == MAX_LINES


def test_counts_every_line_that_was_left_out(caplog: pytest.LogCaptureFixture) -> None:
    *_, count = lines_of(note_1000_users, caplog, 1.2)
    assert sum(int(number) for number in re.findall(r"(\d+) of", count)) == 3000 - MAX_LINES


def test_counts_the_lines_of_many_users_as_one(caplog: pytest.LogCaptureFixture) -> None:
    *_, count = lines_of(note_1000_users, caplog, 1.2)
    assert count.endswith("of other users")
    assert len(count) < 300


def test_the_next_second_has_a_limit_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        peer_log = PeerLog()
        noting(UID, 50)(peer_log)
        await asyncio.sleep(1.2)
        noting(UID, 2)(peer_log)

    caplog.set_level(logging.INFO)
    asyncio.run(run())
    assert [record.getMessage()[-5:] for record in caplog.records[-2:]] == ["did 0", "did 1"]


def test_counts_nothing_when_the_level_is_higher(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    PeerLog().note(1, UID, 3, "x")  # works without an event loop, because it sets no timer
    assert not caplog.records
