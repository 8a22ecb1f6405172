# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Systemd: readiness, watchdog, and listening sockets that systemd hands over.

Sources: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). Without systemd nothing here has an effect.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from typing import Final

_FIRST_FD: Final = 3
#: Larger numbers are mistakes, but for the manager's "infinity", 2**64 - 1 µs: then there is no watchdog either.
_MAX_FDS: Final = 99_999
_MAX_MICROSECONDS: Final = 2**63 - 1


def notify(message: str) -> None:
    """Send a state such as `READY=1` to the service manager, if one listens. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError, ValueError):
        _notifier().sendto(message.encode(), address)


@functools.cache
def _notifier() -> socket.socket:
    """The socket for all messages. It stays open, so that the watchdog is fed when no file descriptor is left."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def watchdog_interval() -> float | None:
    """The interval (seconds) of `WATCHDOG=1`, half of the one that the manager allows; None without a watchdog."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return _number("WATCHDOG_USEC", _MAX_MICROSECONDS) / 2_000_000 or None


def listening_sockets() -> list[socket.socket]:
    """Take the listening Unix stream sockets that were handed over. They do not block and are closed on exec."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    sockets: list[socket.socket] = []
    for fd in range(_FIRST_FD, _FIRST_FD + _number("LISTEN_FDS", _MAX_FDS)):
        try:
            os.set_inheritable(fd, False)
            handed = socket.socket(fileno=fd)
        except OSError:  # not a socket
            continue
        kind = handed.family, handed.type, handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if kind == (socket.AF_UNIX, socket.SOCK_STREAM, 1):
            handed.setblocking(False)
            sockets.append(handed)
        else:
            handed.detach()
    return sockets


def _number(variable: str, maximum: int) -> int:
    """The value of an environment variable; 0 when it is no whole number up to `maximum`."""
    text = os.environ.get(variable, "")
    if not text.isdecimal() or len(text) > len(str(maximum)):
        return 0
    number = int(text)
    return number if number <= maximum else 0
