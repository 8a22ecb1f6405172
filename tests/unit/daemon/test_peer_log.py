"""Peer log: all lines of root, a few of each other user, and a count of the rest."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable

import pytest

from epa_orchestrator.daemon.peer_log import BURST, BURST_OF_ALL, PeerLog

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
def test_lines_of_root_and_our_own_user_are_logged_one_by_one(uid: int, caplog: pytest.LogCaptureFixture) -> None:
    lines = lines_of(noting(uid, 500), caplog, 1.2)
    assert lines == [f"pid=1 uid={uid} gid=3 did {number}" for number in range(500)]


def test_few_lines_of_another_user_are_all_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert len(lines_of(noting(UID, BURST), caplog, 1.2)) == BURST


def test_more_lines_of_another_user_are_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    *burst, last = lines_of(noting(UID, 500), caplog, 1.2)
    assert burst == [f"pid=1 uid={UID} gid=3 did {number}" for number in range(BURST)]
    assert last == f"lines about clients left out within a second: {500 - BURST} of uid={UID}"


def test_many_users_are_limited_together_and_no_line_is_uncounted(caplog: pytest.LogCaptureFixture) -> None:
    def note(peer_log: PeerLog) -> None:
        for uid in range(UID, UID + 1000):
            noting(uid, 3)(peer_log)

    *burst, last = lines_of(note, caplog, 1.2)
    assert len(burst) == BURST_OF_ALL
    assert "of other users" in last
    assert len(last) < 300
    counted = sum(int(number) for number in re.findall(r"(\d+) of", last))
    assert counted == 3000 - BURST_OF_ALL


def test_next_second_has_a_burst_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        peer_log = PeerLog()
        noting(UID, 50)(peer_log)
        await asyncio.sleep(1.2)
        noting(UID, 2)(peer_log)

    caplog.set_level(logging.INFO)
    asyncio.run(run())
    assert [record.getMessage()[-5:] for record in caplog.records[-2:]] == ["did 0", "did 1"]


def test_nothing_is_counted_below_the_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    PeerLog().note(1, UID, 3, "x")  # works without an event loop, because it sets no timer
    assert not caplog.records
