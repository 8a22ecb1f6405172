# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Peer: the process at the other end of a connection."""

from __future__ import annotations

from typing import Final, NamedTuple


class Peer(NamedTuple):
    """The process that connected, with its effective user and group at that moment (`SO_PEERCRED`, unix(7))."""

    pid: int
    uid: int
    gid: int


class PeerNames(NamedTuple):
    """What the process is called, each None where it could not be read; all are printable.

    `comm` is the name of its command, which it chooses itself. `snap` is the snap and `unit` the systemd unit that it
    runs in, as the kernel says: an ordinary user or root in a container cannot choose them.
    """

    comm: str | None = None
    snap: str | None = None
    unit: str | None = None


UNNAMED: Final = PeerNames()
