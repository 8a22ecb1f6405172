# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Peer names: what the process at the other end of a connection is called, as far as the daemon may see.

Most of it comes from /proc, by the process id, which another process may have by then. So a pidfd of the peer, from the
kernel (6.5 or newer), must show afterwards that the peer still lives. The snap comes from the AppArmor label, which the
kernel noted when the peer connected, and only on a kernel without such labels from the unit. Nothing here ever fails a
request. A name that is not certain, or that an ordinary user or the root of a container could have made, is left out.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from epa_orchestrator.control_groups import SNAP, snap_of_unit, unit_of
from epa_orchestrator.errors import printable
from epa_orchestrator.peer import UNNAMED, Peer, PeerNames

#: Not in Python's socket module; asm-generic/socket.h.
_SO_PEERSEC: Final = 31
_SO_PEERPIDFD: Final = 77
_INT: Final = struct.Struct("i")
_MAX_LABEL_BYTES: Final = 1024
_MAX_FILE_BYTES: Final = 4096
#: The most characters of a name: systemd's limit for units. A command's name has at most 15 bytes.
_MAX_NAME_LENGTH: Final = 255

#: How long (seconds) the names of a process that lives hold, and of how many processes they are remembered. Reading
#: them takes 25 µs, a fifth of what a change costs when many clients ask.
_FRESH_SECONDS: Final = 1.0
_MOST_REMEMBERED: Final = 16

#: How long (seconds) a file of other processes is not tried again after a denial, which is a line in the kernel's log.
_DENIED_SECONDS: Final = 60.0

#: From this kernel on, a reader of /proc/PID/cgroup does not wait for those who create and remove control groups. The
#: event loop reads it, so it leaves that file alone on older ones.
_CGROUP_KERNEL: Final = (6, 7)

#: Root in a container loads profiles of any name into the container's namespace, which the label names between colons.
#: A user who enters a snap's profile may get a label of several, joined by "//&".
_SNAP_LABEL: Final = re.compile(rf"{SNAP}[^:&]+")


def snap_of_label(label: str) -> str | None:
    """The snap of a process with this AppArmor label, such as `snap.nova.compute (enforce)`; None outside snaps."""
    found = _SNAP_LABEL.fullmatch(label)
    return found["name"] if found else None


def snap_of(label: str | None, unit: str | None, uid: int) -> str | None:
    """The snap of a process with this AppArmor label (None on a kernel without labels), unit and user.

    An ordinary user may enter the profile of any snap (aa-exec), so its label counts only in a unit of the same snap.
    """
    of_unit = snap_of_unit(unit) if unit is not None else None
    if label is None:
        return of_unit
    of_label = snap_of_label(label)
    return of_label if uid == 0 or of_label == of_unit else None


def reads_cgroups_at_once(release: str) -> bool:
    """Whether the kernel of this release lets /proc/PID/cgroup be read without waiting for a lock."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) >= _CGROUP_KERNEL


class _Process:
    """One process, whatever has its process id later; `pidfd` stands for it, and is closed with it."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._ended = select.poll()
        self._ended.register(pidfd, select.POLLIN)

    def lives(self) -> bool:
        """Whether the process has not ended."""
        return not self._ended.poll(0)

    def close(self) -> None:
        os.close(self._pidfd)


class _Known(NamedTuple):
    """The names of a process, which hold until a time as long as it lives."""

    names: PeerNames
    uid: int
    label: str | None
    process: _Process
    until: float


class NameReader:
    """Reads the names of peers. `proc` is where the kernel shows processes."""

    def __init__(self, proc: Path = Path("/proc"), now: Callable[[], float] = time.monotonic) -> None:
        self._proc = proc
        self._now = now
        self._known: dict[int, _Known] = {}
        #: Files of other processes that a confinement denies, and until when they are left alone.
        self._denied: dict[str, float] = {}
        self._has_labels = True
        self._reads_cgroup = reads_cgroups_at_once(os.uname().release)

    def names_of(self, connection: socket.socket, peer: Peer) -> PeerNames:
        """The names of a connected peer; empty where nothing can be read."""
        try:
            return self._names_of(connection, peer)
        except (OSError, ValueError):
            return UNNAMED

    def close(self) -> None:
        """Forget all names."""
        for pid in list(self._known):
            self._forget(pid)

    def _names_of(self, connection: socket.socket, peer: Peer) -> PeerNames:
        label = self._label(connection)
        process = _process_of(connection) if peer.pid > 0 else None  # 0: of a PID namespace that is not visible here
        if process is None:
            return PeerNames(snap=snap_of(label, None, peer.uid))
        known = self._fresh(peer, label)
        names = known.names if known is not None else self._read(peer, label)
        if not process.lives():  # another process may have the process id now
            names = PeerNames(snap=snap_of(label, None, peer.uid))
        elif known is None:
            self._remember(peer.pid, _Known(names, peer.uid, label, process, self._now() + _FRESH_SECONDS))
            return names
        process.close()
        return names

    def _fresh(self, peer: Peer, label: str | None) -> _Known | None:
        """The names that hold of the process that has this process id."""
        known = self._known.get(peer.pid)
        if known is None:
            return None
        is_same = (known.uid, known.label) == (peer.uid, label) and known.process.lives()
        if is_same and self._now() < known.until:
            return known
        self._forget(peer.pid)
        return None

    def _remember(self, pid: int, known: _Known) -> None:
        if len(self._known) >= _MOST_REMEMBERED:
            self._forget(next(iter(self._known)))
        self._known[pid] = known

    def _forget(self, pid: int) -> None:
        self._known.pop(pid).process.close()

    def _label(self, connection: socket.socket) -> str | None:
        """The AppArmor label of the peer when it connected, empty if that cannot be read; None without labels."""
        if not self._has_labels:
            return None
        try:
            raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERSEC, _MAX_LABEL_BYTES)
        except OSError as error:
            self._has_labels = error.errno != errno.ENOPROTOOPT  # no security module
            return "" if self._has_labels else None
        return raw.rstrip(b"\0").decode("utf-8", "replace")

    def _read(self, peer: Peer, label: str | None) -> PeerNames:
        comm = self._file(peer.pid, "comm")
        cgroups = self._file(peer.pid, "cgroup") if self._reads_cgroup else None
        unit = unit_of(cgroups or "")
        return PeerNames(_name(comm.removesuffix("\n")) if comm else None, snap_of(label, unit, peer.uid), _name(unit))

    def _file(self, pid: int, name: str) -> str | None:
        if self._now() < self._denied.get(name, 0.0):
            return None
        try:
            fd = os.open(f"{self._proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except PermissionError:
            self._denied[name] = self._now() + _DENIED_SECONDS
            return None
        except OSError:
            return None
        try:
            return os.read(fd, _MAX_FILE_BYTES).decode("utf-8", "replace")
        except OSError:
            return None
        finally:
            os.close(fd)


def _name(text: str | None) -> str | None:
    return printable(text[:_MAX_NAME_LENGTH]) if text else None


def _process_of(connection: socket.socket) -> _Process | None:
    """The peer's process; None on a kernel before 6.5, and once it is gone.

    A pidfd by the process id would stand for whoever has that by now.
    """
    try:
        (pidfd,) = _INT.unpack(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _INT.size))
    except OSError:
        return None
    return _Process(pidfd)
