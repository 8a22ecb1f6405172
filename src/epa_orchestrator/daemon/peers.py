"""Peers: who is at the other end of a connection, as the kernel says, and who may change claims."""

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
#: As much as Python's getsockopt takes: 256 groups. The kernel answers ERANGE to a peer in more of them.
_MAX_GROUPS_BYTES: Final = 1024


def peer_of(connection: socket.socket) -> Peer:
    """The peer of an accepted Unix connection."""
    return Peer(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


class Standing(enum.IntEnum):
    """Whose connection it is: root's or the daemon's own user's, an allowed user's, or another user's."""

    OWN = enum.auto()
    ALLOWED = enum.auto()
    OTHER = enum.auto()


def standing_of(peer: Peer, connection: socket.socket, settings: Settings) -> Standing:
    """Who the peer is to us. Supplementary groups count as well."""
    if peer.uid in (0, os.geteuid()):
        return Standing.OWN
    if peer.uid in settings.allowed_uids:
        return Standing.ALLOWED
    allowed = settings.allowed_gids
    if allowed and (peer.gid in allowed or not _groups_of(connection).isdisjoint(allowed)):
        return Standing.ALLOWED
    return Standing.OTHER


def may_change(peer: Peer, connection: socket.socket, settings: Settings) -> bool:
    """Whether the peer may change claims: root, the daemon's own user, and whom the settings name."""
    return standing_of(peer, connection, settings) is not Standing.OTHER


def _groups_of(connection: socket.socket) -> set[int]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
    except OSError:  # more groups than fit, or a kernel before 4.13: then only the primary group counts
        return set()
    return {group for (group,) in struct.iter_unpack("I", packed)}
