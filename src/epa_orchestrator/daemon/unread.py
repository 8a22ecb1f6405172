# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Unread: what the kernel knows of the other end of a connection: how much it has not read, and whether it is gone."""

from __future__ import annotations

import fcntl
import select
import struct
import termios
from typing import Final

_INT: Final = struct.Struct("i")


def unread_bytes(fd: int) -> int:
    """The number of bytes that the peer has not read yet, as the kernel counts, with overhead (SIOCOUTQ, unix(7))."""
    (unread,) = _INT.unpack(fcntl.ioctl(fd, termios.TIOCOUTQ, _INT.pack(0)))
    return unread


def is_gone(fd: int) -> bool:
    """Whether the peer has closed its socket. One that has only shut down its sending side is still there."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))  # POLLHUP and POLLERR are always reported
