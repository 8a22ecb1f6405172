# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Host files: reads the files below one root, of this host or a recorded one, and says why one cannot be read."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

#: More than /proc/interrupts of 4,096 CPUs and 1,000 devices has.
_MOST_BYTES: Final = 64 << 20
_CHUNK: Final = 1 << 16

_DENIED: Final = (errno.EACCES, errno.EPERM)
#: Errors that say nothing about the file: this process or the system has no room at the moment.
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_DENIED_SECONDS: Final = 600.0
_NUMBERS: Final = re.compile(r"[0-9]+")

#: How "needs /FILE, …" goes on if nothing more is known.
MAY_NOT_READ: Final = "which this process may not read"
_NOT_RECORDED: Final = "which was not recorded"


@dataclass(frozen=True)
class Unread:
    """A file that could not be read: it does not exist (`missing`), or this process may not read it (`denied`).

    `denied` holds also for a file that was not recorded: nobody can tell whether it exists. `remedy` says how to read
    a file that is denied.
    """

    path: str
    reason: Literal["missing", "denied"] = "missing"
    remedy: str = field(default="", compare=False)

    @property
    def needs(self) -> str:
        """How "not checked: needs …" goes on."""
        if self.reason == "denied":
            return f"/{self.path}, {self.remedy or MAY_NOT_READ}"
        return f"/{self.path}, which is not there"


class HostFiles(Protocol):
    """Files below a root; paths are relative to it, such as `proc/cmdline` and `sys/devices/system/cpu/isolated`."""

    def read(self, path: str) -> str | Unread:
        """The file's whole text as it is."""
        ...

    def names(self, directory: str) -> list[str] | Unread:
        """The names in a directory, in no particular order."""
        ...


class HostTree:
    """The files below a directory: `/` itself, or a copy of the files of a host.

    Its methods raise OSError where this process cannot open files at the moment: nothing counts as missing then.

    `remedy` says how this process could read a file that it may not read (see `Unread`).

    Each denial of a snap's confinement is a line in the kernel's log. So a file that was denied is left alone for
    `_DENIED_SECONDS`, together with all files that differ from it only in numbers, as those of other processes do.
    """

    def __init__(
        self,
        root: str | Path = "/",
        now: Callable[[], float] = time.monotonic,
        remedy: Callable[[str], str] | None = None,
    ) -> None:
        self._root = f"{str(root).rstrip('/')}/"
        self._now = now
        self._remedy = remedy
        self._denied: dict[str, float] = {}

    def read(self, path: str) -> str | Unread:
        """The file's text."""
        if self._is_denied(path):
            return self._may_not_read(path)
        try:
            # A recorded tree may hold anything, and opening a FIFO would wait.
            fd = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            return self._unread(path, error)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return Unread(path)
            return _read_all(fd).decode("utf-8", "replace")
        except OSError as error:  # a process may end, and a CPU go offline, between open and read
            return self._unread(path, error)
        finally:
            os.close(fd)

    def names(self, directory: str) -> list[str] | Unread:
        """The names in the directory."""
        if self._is_denied(directory):
            return self._may_not_read(directory)
        try:
            return os.listdir(self._root + directory)
        except OSError as error:
            return self._unread(directory, error)

    def _is_denied(self, path: str) -> bool:
        return bool(self._denied) and self._now() < self._denied.get(_pattern(path), 0.0)

    def _unread(self, path: str, error: OSError) -> Unread:
        if error.errno in _NO_ROOM:
            raise error
        if error.errno not in _DENIED:
            return Unread(path)
        self._denied[_pattern(path)] = self._now() + _DENIED_SECONDS
        return self._may_not_read(path)

    def _may_not_read(self, path: str) -> Unread:
        return Unread(path, "denied", self._remedy(path) if self._remedy else "")


class CopiedTree(HostTree):
    """A copy of the files of a host, which anybody may have made: it has only what really is in its directory.

    A link may lead out of it, to a file of this host or to a device that acts when it is opened.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self._real_root = os.path.realpath(root)
        #: By directory: whether it lies in the copy. Most files share theirs with others.
        self._is_known: dict[str, bool] = {"": True}

    def read(self, path: str) -> str | Unread:
        """The file's text."""
        return super().read(path) if self._is_own_file(path) else Unread(path)

    def names(self, directory: str) -> list[str] | Unread:
        """The names in the directory."""
        return super().names(directory) if self._is_inside(directory) else Unread(directory)

    def _is_own_file(self, path: str) -> bool:
        if not self._is_inside(path.rpartition("/")[0]):
            return False
        whole = f"{self._real_root}/{path}"
        try:
            mode = os.lstat(whole).st_mode
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and self._leads_inside(whole) and os.path.isfile(whole))

    def _is_inside(self, directory: str) -> bool:
        is_known = self._is_known.get(directory)
        if is_known is None:
            parent, _, name = directory.rpartition("/")
            whole = f"{self._real_root}/{directory}"
            is_known = (
                name != ".." and self._is_inside(parent) and (not os.path.islink(whole) or self._leads_inside(whole))
            )
            self._is_known[directory] = is_known
        return is_known

    def _leads_inside(self, link: str) -> bool:
        return os.path.commonpath((os.path.realpath(link), self._real_root)) == self._real_root


def _pattern(path: str) -> str:
    """The path without its numbers."""
    return _NUMBERS.sub("N", path)


def _read_all(fd: int) -> bytes:
    """All bytes: the kernel may end each read at a line."""
    parts: list[bytes] = []
    size = 0
    while size < _MOST_BYTES and (part := os.read(fd, _CHUNK)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


class RecordedHost:
    """Files in memory, as a recording holds them; `denied` are those that the recording process could not read.

    `entries` are the names in directories that hold more than the recorded files. Of a host that is not `complete`,
    every other file may exist, too: its recording is that of a machine, which has no facts about isolation.
    """

    def __init__(
        self,
        files: Mapping[str, str],
        denied: Iterable[str] = (),
        entries: Mapping[str, Iterable[str]] | None = None,
        *,
        complete: bool = True,
    ) -> None:
        self._files = files
        self._denied = frozenset(denied)
        self._complete = complete
        self._names: dict[str, set[str]] = {}
        for path in (*files, *self._denied):
            while "/" in path:
                path, _, name = path.rpartition("/")
                self._names.setdefault(path, set()).add(name)
        for directory, names in (entries or {}).items():
            self._names.setdefault(directory, set()).update(names)

    def read(self, path: str) -> str | Unread:
        """The recorded text."""
        text = self._files.get(path)
        return self._unread(path) if text is None else text

    def names(self, directory: str) -> list[str] | Unread:
        """The recorded names."""
        names = self._names.get(directory)
        return self._unread(directory) if names is None or directory in self._denied else sorted(names)

    def _unread(self, path: str) -> Unread:
        if path in self._denied or not self._complete:
            return Unread(path, "denied", _NOT_RECORDED)
        return Unread(path)


class HostRecorder:
    """Reads from `source`, and remembers what it read, and what it may not read."""

    def __init__(self, source: HostFiles) -> None:
        self._source = source
        self.files: dict[str, str] = {}
        self.denied: set[str] = set()
        self.entries: dict[str, list[str]] = {}

    def read(self, path: str) -> str | Unread:
        """The text in the source."""
        text = self._source.read(path)
        if isinstance(text, Unread):
            self._note(text)
        else:
            self.files[path] = text
        return text

    def names(self, directory: str) -> list[str] | Unread:
        """The names in the source."""
        names = self._source.names(directory)
        if isinstance(names, Unread):
            self._note(names)
        else:
            self.entries[directory] = names
        return names

    def _note(self, unread: Unread) -> None:
        if unread.reason == "denied":
            self.denied.add(unread.path)
