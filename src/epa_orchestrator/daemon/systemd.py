"""What systemd expects of a service: readiness, watchdog, and sockets that it hands over.

Sources: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). Without systemd everything here does nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from typing import Final

_FIRST_FD: Final = 3
#: Larger numbers are a mistake: of file descriptors, and of microseconds (the manager's "infinity" is 2**64 - 1).
_MOST_FDS: Final = 99_999
_MOST_MICROSECONDS: Final = 2**63 - 1


def notify(message: str) -> None:
    """Send a state such as `READY=1` to the service manager, if there is one that listens. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError, ValueError):
        _notifier().sendto(message.encode(), address)


@functools.cache
def _notifier() -> socket.socket:
    """The socket of all messages, kept open so that the watchdog is fed when no file descriptor is left."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def watchdog_interval() -> float | None:
    """How often (seconds) to send `WATCHDOG=1`: half of what the manager allows; None when it does not watch."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return _number("WATCHDOG_USEC", _MOST_MICROSECONDS) / 2_000_000 or None


def listening_sockets() -> list[socket.socket]:
    """The listening Unix stream sockets that were handed over, now non-blocking and closed on exec."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    sockets: list[socket.socket] = []
    for fd in range(_FIRST_FD, _FIRST_FD + _number("LISTEN_FDS", _MOST_FDS)):
        try:
            os.set_inheritable(fd, False)
            handed = socket.socket(fileno=fd)
        except OSError:  # no socket at all
            continue
        kind = handed.family, handed.type, handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if kind == (socket.AF_UNIX, socket.SOCK_STREAM, 1):
            handed.setblocking(False)
            sockets.append(handed)
        else:
            handed.detach()
    return sockets


def _number(variable: str, most: int) -> int:
    """What the variable says; 0 when that is no whole number up to `most`."""
    text = os.environ.get(variable, "")
    number = int(text) if text.isdecimal() and len(text) <= len(str(most)) else 0
    return number if number <= most else 0
