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
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 2_000_000 if text.isdecimal() and int(text) else None


def listening_sockets() -> list[socket.socket]:
    """The listening Unix stream sockets that were handed over, now non-blocking and closed on exec."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.get("LISTEN_FDS", "")
    sockets: list[socket.socket] = []
    for fd in range(_FIRST_FD, _FIRST_FD + (int(count) if count.isdecimal() else 0)):
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
