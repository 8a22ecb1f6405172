# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Peers: the process at the other end of a connection, as the kernel reports it, and whether it may change claims."""

from __future__ import annotations

import enum
import os
import socket
import struct
from typing import Final

from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.peer import Peer

_UCRED: Final = struct.Struct("iII")
#: Not in Python's socket module; asm-generic/socket.h.
_SO_PEERGROUPS: Final = 59
#: The largest size that Python's getsockopt accepts: 256 groups. With more groups the kernel reports ERANGE.
_MAX_GROUPS_BYTES: Final = 1024


def peer_of(connection: socket.socket) -> Peer:
    """The peer of an accepted Unix connection."""
    return Peer(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


class Standing(enum.IntEnum):
    """The kind of user that a connection belongs to."""

    #: Root, or the user that the daemon runs as.
    OWN = enum.auto()
    #: A user that the settings allow to change claims, by user or group.
    ALLOWED = enum.auto()
    #: A user who may only read.
    OTHER = enum.auto()


def is_own(uid: int) -> bool:
    """Whether a user is root, or the one that the daemon runs as."""
    return uid in (0, os.geteuid())


def standing_of(peer: Peer, connection: socket.socket, settings: Settings) -> Standing:
    """The standing of a peer. Its supplementary groups count too."""
    if is_own(peer.uid):
        return Standing.OWN
    if peer.uid in settings.allowed_uids:
        return Standing.ALLOWED
    allowed = settings.allowed_gids
    if allowed and (peer.gid in allowed or not _groups_of(connection).isdisjoint(allowed)):
        return Standing.ALLOWED
    return Standing.OTHER


def may_change(peer: Peer, connection: socket.socket, settings: Settings) -> bool:
    """Whether the peer may change claims: root, the daemon's own user, and those in the settings."""
    return standing_of(peer, connection, settings) is not Standing.OTHER


def _groups_of(connection: socket.socket) -> set[int]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
    except OSError:  # too many groups, or a kernel before 4.13: then only the primary group counts
        return set()
    return {group for (group,) in struct.iter_unpack("I", packed)}
