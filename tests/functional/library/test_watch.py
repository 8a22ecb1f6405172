# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The library's watch: every change, across restarts of the daemon."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from charms.epa_orchestrator.v0 import epa
from tests.functional.harness import Daemon, open_files

from .older_daemon import OlderDaemon


def next_of(events: Iterator[epa.Event], kind: str) -> epa.Event:
    """The next event of this kind."""
    return next(event for event in events if event.kind == kind)


def test_first_event_has_the_claims_and_then_changes_follow(daemon: Daemon) -> None:
    daemon.reload({"cpu-pool": "0,8"})
    daemon.cores("web", 1, pool="general")
    daemon.cores("loser", 12)
    with epa.Client(daemon.socket_path).watch() as events:
        state = next(events)
        assert state.kind == "state"
        claims = {claim.service: claim.pool for listing in state.listings for claim in listing.claims}
        assert claims == {"web": "general", "loser": "isolated"}
        daemon.numa("taker", 0, 2)
        lost, gained = next_of(events, "claim"), next_of(events, "claim")
        assert (lost.service, lost.answer["taken_by"]) == ("loser", "taker")
        assert lost.before is not None
        assert lost.after is not None
        assert (len(lost.before.cpus), len(lost.after.cpus)) == (12, 10)
        assert (gained.service, gained.before) == ("taker", None)
        daemon.pages("taker", 0, 2048, 3)
        record = next_of(events, "hugepages")
        assert (record.service, record.answer["after"]) == ("taker", 3)
        daemon.host.set_offline([15])
        assert next_of(events, "machine").answer["online_cpus"] == "0-14"
        daemon.cores("loser", -1)
        assert next_of(events, "claim").after is None


def test_watch_goes_on_after_a_restart() -> None:
    with Daemon() as daemon:
        daemon.start()
        with epa.Client(daemon.socket_path).watch() as events:
            assert next(events).listings[0].claims == ()
            daemon.stop()
            starter = threading.Timer(1, lambda: (daemon.start(), daemon.cores("late", 2)))
            starter.start()
            state = next(events)
            starter.join()
            assert state.kind == "state"
            if not state.listings[0].claims:
                assert next_of(events, "claim").service == "late"
            daemon.cores("later", 1)
            assert next_of(events, "claim").service == "later"


def test_watch_ends_when_no_daemon_comes_back() -> None:
    with Daemon() as daemon:
        daemon.start()
        with epa.Client(daemon.socket_path).watch(reconnect_within=1) as events:
            next(events)
            daemon.stop()
            with pytest.raises(epa.Unavailable):
                next(events)


def test_watch_says_so_when_an_older_daemon_comes_back() -> None:
    with Daemon() as daemon:
        daemon.start()
        with epa.Client(daemon.socket_path).watch() as events:
            next(events)
            daemon.stop()
            with OlderDaemon(daemon.socket_path, ()) as older:
                with pytest.raises(epa.MissingFeature):
                    next(events)
                assert not older.is_dead
        daemon.socket_path.unlink(missing_ok=True)


def test_watch_needs_a_daemon_at_once(daemon: Daemon) -> None:
    with epa.Client(daemon.base / "none.sock").watch() as events, pytest.raises(epa.NoSocket):
        next(events)


def test_end_of_the_block_closes_the_connection(daemon: Daemon) -> None:
    before = open_files(os.getpid())
    for _ in range(5):
        with epa.Client(daemon.socket_path).watch() as events:
            next(events)
    assert open_files(os.getpid()) == before
