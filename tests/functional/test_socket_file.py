# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The socket file: its mode, its return after a loss, and a second daemon with the same directories."""

from __future__ import annotations

import socket
import stat
from typing import Final

import pytest

from .harness import Daemon, check_listing, connect, decode, read_to_end, wait_until
from .starting import LISTING, answers, run_to_exit

#: The time in which the socket file must be back (issue 2).
SOCKET_IS_BACK_WITHIN: Final = 5.0


def test_anybody_may_connect(daemon: Daemon) -> None:
    mode = daemon.socket_path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o666, "SO_PEERCRED decides who may change claims, and everybody may read"


def test_socket_file_is_put_back(daemon: Daemon) -> None:
    held = daemon.cores("svc", 2)
    for _ in range(2):
        with connect(daemon.socket_path) as early:
            daemon.socket_path.unlink()
            wait_until(lambda: answers(daemon.socket_path), "the socket file is back", SOCKET_IS_BACK_WITHIN)
            early.sendall(LISTING)
            assert check_listing(decode(read_to_end(early))) == {"svc": held}, "clients from before are served"
    assert stat.S_IMODE(daemon.socket_path.stat().st_mode) == 0o666
    assert daemon.stop() == 0
    assert not daemon.socket_path.exists()


def test_socket_directory_is_put_back(daemon: Daemon) -> None:
    daemon.socket_path.unlink()
    daemon.socket_path.parent.rename(daemon.data / "moved")
    wait_until(lambda: answers(daemon.socket_path), "the socket file is back", SOCKET_IS_BACK_WITHIN)


def test_foreign_file_is_replaced_by_the_socket(daemon: Daemon) -> None:
    # Every connected snap may write here; its mistakes must not cut off the other snaps.
    daemon.socket_path.unlink()
    daemon.socket_path.write_text("not a socket")
    wait_until(lambda: answers(daemon.socket_path), "the socket file is back", SOCKET_IS_BACK_WITHIN)


@pytest.mark.parametrize("how", ["killed daemon", "closed socket"])
def test_stale_socket_file_is_replaced(how: str) -> None:
    with Daemon() as daemon:
        if how == "killed daemon":
            daemon.start()
            daemon.kill()
        else:
            daemon.socket_path.parent.mkdir()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
                stale.bind(str(daemon.socket_path))
        assert daemon.socket_path.is_socket()
        daemon.start()
        daemon.cores("svc", 1)


@pytest.mark.parametrize("shared", ["both", "SNAP_DATA", "SNAP_COMMON"])
def test_second_daemon_gives_up(daemon: Daemon, shared: str) -> None:
    held = daemon.cores("svc", 2)
    before = daemon.socket_path.stat().st_ino
    other = daemon.base / "other"
    other.mkdir()
    environment = dict(daemon.environment)
    for name in ("SNAP_DATA", "SNAP_COMMON"):
        if shared not in ("both", name):
            environment[name] = str(other)
    used = "serves" if shared == "SNAP_DATA" else "Another daemon already uses the state"
    assert used in run_to_exit(environment)
    assert daemon.socket_path.stat().st_ino == before
    assert daemon.claims() == {"svc": held}
    assert daemon.cores("svc", 3) > held
    daemon.kill()
    daemon.start()
    assert len(daemon.claims()["svc"]) == 3


def test_daemons_with_separate_directories_coexist(daemon: Daemon) -> None:
    daemon.cores("svc", 12)
    with Daemon() as other:
        other.start()
        assert len(other.cores("svc", 12)) == 12
