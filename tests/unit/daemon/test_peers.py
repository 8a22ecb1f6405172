# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Peers: the kernel reports who has connected, and the settings decide who may change claims."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pytest

from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.daemon.peers import may_change, peer_of
from epa_orchestrator.peer import Peer

from .sockets import listening_at

#: A user and groups that do not exist here.
SOMEBODY, OTHER_GROUP, EXTRA_GROUP = 54321, 54322, 54323

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@contextlib.contextmanager
def identity(uid: int, gid: int, groups: Sequence[int] = ()) -> Generator[None]:
    """Run the body as another effective user with other groups."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
        os.setgroups(before[2])


@pytest.fixture
def listener(directory: Path) -> Iterator[socket.socket]:
    """A socket where everybody may connect."""
    with listening_at(directory / "epa.sock") as listening:
        listening.settimeout(10)
        yield listening


@contextlib.contextmanager
def connected(listener: socket.socket) -> Generator[socket.socket]:
    """The daemon's end of a connection from this process."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            yield accepted


@contextlib.contextmanager
def connected_as(listener: socket.socket, uid: int, gid: int, groups: Sequence[int] = ()) -> Generator[socket.socket]:
    """The daemon's end of a connection from another user; the body runs as the test's own user."""
    with socket.socket(socket.AF_UNIX) as client:
        with identity(uid, gid, groups):
            client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            yield accepted


def naming(uids: Sequence[int] = (), gids: Sequence[int] = ()) -> Settings:
    return parse_settings({"allowed-uids": list(uids), "allowed-gids": list(gids)})


def test_peer_of_a_connection_of_this_process(listener: socket.socket) -> None:
    with connected(listener) as connection:
        assert peer_of(connection) == Peer(os.getpid(), os.geteuid(), os.getegid())


@needs_root
def test_peer_of_a_connection_of_another_user(listener: socket.socket) -> None:
    with connected_as(listener, SOMEBODY, OTHER_GROUP) as connection:
        assert peer_of(connection) == Peer(os.getpid(), SOMEBODY, OTHER_GROUP)


@needs_root
def test_ids_are_unsigned(listener: socket.socket) -> None:
    """Users and groups of containers may be mapped to such ids."""
    user, group = 3_000_000_000, 4_294_967_294
    with connected_as(listener, user, group) as connection:
        assert peer_of(connection) == Peer(os.getpid(), user, group)
        assert may_change(peer_of(connection), connection, naming(uids=[user]))
        assert may_change(peer_of(connection), connection, naming(gids=[group]))


@needs_root
def test_the_user_at_the_time_of_connect_counts(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        with identity(SOMEBODY, OTHER_GROUP):
            client.connect(listener.getsockname())
        client.sendall(b"{}")
        accepted, _ = listener.accept()
        with accepted:
            assert peer_of(accepted).uid == SOMEBODY


@pytest.mark.parametrize(
    ("peer", "settings", "may"),
    [
        (Peer(1, 0, 0), naming(), True),
        (Peer(1, 0, OTHER_GROUP), naming(), True),
        (Peer(1, SOMEBODY, OTHER_GROUP), naming(), False),
        (Peer(1, SOMEBODY, 0), naming(), False),
        (Peer(1, SOMEBODY, OTHER_GROUP), naming(uids=[SOMEBODY]), True),
        (Peer(1, SOMEBODY, OTHER_GROUP), naming(uids=[7, SOMEBODY]), True),
        (Peer(1, SOMEBODY + 1, OTHER_GROUP), naming(uids=[7, SOMEBODY]), False),
        (Peer(1, SOMEBODY, OTHER_GROUP), naming(gids=[OTHER_GROUP]), True),
        (Peer(1, SOMEBODY, OTHER_GROUP), naming(uids=[7], gids=[OTHER_GROUP]), True),
        (Peer(1, SOMEBODY, OTHER_GROUP), naming(uids=[SOMEBODY], gids=[7]), True),
        (Peer(1, SOMEBODY, OTHER_GROUP), naming(uids=[OTHER_GROUP], gids=[SOMEBODY]), False),
        (Peer(SOMEBODY, 7, 7), naming(uids=[SOMEBODY], gids=[SOMEBODY]), False),
        (Peer(1, 0, 0), naming(uids=[SOMEBODY], gids=[7]), True),
    ],
)
def test_root_and_the_users_and_groups_in_the_settings_may_change_claims(
    peer: Peer, settings: Settings, may: bool, listener: socket.socket
) -> None:
    with connected(listener) as connection:
        assert may_change(peer, connection, settings) is may


def test_the_daemons_own_user_may_change_claims(listener: socket.socket) -> None:
    with connected(listener) as connection:
        assert may_change(Peer(1, os.geteuid(), OTHER_GROUP), connection, naming())


@needs_root
def test_root_may_change_claims_of_a_daemon_that_is_not_root(listener: socket.socket) -> None:
    with connected(listener) as connection, identity(SOMEBODY, OTHER_GROUP):
        assert may_change(Peer(1, SOMEBODY, 7), connection, naming())
        assert may_change(Peer(1, 0, 0), connection, naming())
        assert not may_change(Peer(1, SOMEBODY + 1, 7), connection, naming())


@needs_root
@pytest.mark.parametrize(
    ("groups", "allowed", "may"),
    [
        ([EXTRA_GROUP], [EXTRA_GROUP], True),
        ([7, EXTRA_GROUP, 9], [EXTRA_GROUP, 8], True),
        ([*range(1000, 1255), EXTRA_GROUP], [EXTRA_GROUP], True),
        ([7, 9], [EXTRA_GROUP], False),
        ([], [EXTRA_GROUP], False),
        ([EXTRA_GROUP], [], False),
        ([7], [OTHER_GROUP], True),
        ([2**32 - 2], [2**32 - 2], True),
    ],
)
def test_supplementary_groups_count(groups: list[int], allowed: list[int], may: bool, listener: socket.socket) -> None:
    with connected_as(listener, SOMEBODY, OTHER_GROUP, groups) as connection:
        assert may_change(peer_of(connection), connection, naming(gids=allowed)) is may


@needs_root
def test_groups_of_the_daemon_do_not_count(listener: socket.socket) -> None:
    with connected_as(listener, SOMEBODY, OTHER_GROUP) as connection, identity(0, 0, [EXTRA_GROUP]):
        assert not may_change(peer_of(connection), connection, naming(gids=[EXTRA_GROUP]))


@needs_root
def test_only_the_primary_group_counts_of_a_peer_in_too_many_groups(listener: socket.socket) -> None:
    """They are more than Python can ask the kernel for. To refuse is the safe choice."""
    groups = [*range(1000, 1300), EXTRA_GROUP]
    with connected_as(listener, SOMEBODY, OTHER_GROUP, groups) as connection:
        peer = peer_of(connection)
        assert not may_change(peer, connection, naming(gids=[EXTRA_GROUP]))
        assert may_change(peer, connection, naming(gids=[OTHER_GROUP]))
