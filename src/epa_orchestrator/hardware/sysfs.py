# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sysfs: the files with the facts about a host, from a sysfs tree or from a recording of one.

This room reads files and directory entries below the sysfs root only through `Sysfs`. So a host can be recorded with
exactly the files that discovery read, attached to a bug report, and served elsewhere with `serve --machine`.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol, cast

from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.folding import fold, unfold

NODE_DIR: Final = "devices/system/node"

#: The remedy when a confined snap may not see NODE_DIR.
CONNECT_NODE_PLUG: Final = "in a snap, run: sudo snap connect epa-orchestrator:sys-devices-system-node"

#: The remedy when it may not see other directories, such as those of the devices.
CONNECT_TOPOLOGY_PLUG: Final = "in a snap, run: sudo snap connect epa-orchestrator:topology"

FORMAT: Final = "epa-orchestrator-machine/1"

#: The format of a report (see cli/report.py), which has a recording as its member `recording`.
REPORT_FORMAT: Final = "epa-orchestrator-report/1"

#: The kernel renders a file into one page of memory, or hands out a longer list (since 5.16) page by page.
_PAGE: Final = 4096

#: More than any file that discovery reads: a list of every other CPU up to MAX_CPU_ID has 200 KB.
_MOST_BYTES: Final = 1 << 20

#: The last character of a recorded text whose end was missing. No CPU list holds it, so older versions refuse the text.
CUT: Final = "\N{HORIZONTAL ELLIPSIS}"

#: The most digits of a number: the kernel's have 64 bits, and a damaged recording may hold anything.
MOST_DIGITS: Final = 20

#: Errors that are about the file. All others are about this process or the system at the moment, such as no free file
#: descriptor.
_OF_THE_FILE: Final = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENODEV, errno.ENXIO, errno.EINVAL),
    *(errno.ELOOP, errno.ENAMETOOLONG),
)


#: Errors that mean that this process may not know; all others of the file mean that there is no such file.
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM)


class SysfsError(EpaError):
    """This process cannot read at the moment, so the file may exist and must not count as missing."""


class CutShortError(EpaError):
    """The end of a CPU list is missing, so it may hide CPUs, and its last number may be a part of another one.

    `text` is the text that there is.
    """

    def __init__(self, path: str, text: str) -> None:
        super().__init__(
            f"sysfs {path} is cut short after '{text[-20:]}', so the CPUs that follow are unknown: choose CPUs that"
            " make a shorter list (ranges), or in a container remove the file system that covers this file"
        )
        self.text = text


class Sysfs(Protocol):
    """Files below a sysfs root; paths are relative to it, such as `devices/system/cpu/online`.

    Each method raises SysfsError.
    """

    def read(self, path: str) -> str | None:
        """The file's text without surrounding white space, None where it is missing or cannot be read."""
        ...

    def read_list(self, path: str) -> str | None:
        """The text of a CPU list or mask, None where the file is missing or cannot be read.

        Raises CutShortError where the end is missing.
        """
        ...

    def contents(self, paths: Iterable[str]) -> tuple[object, ...]:
        """What the files hold, None for those that are missing or cannot be read: to be compared, and quickly read."""
        ...

    def names(self, directory: str) -> list[str] | None:
        """The names in a directory in no particular order, [] where it is missing, None where it cannot be listed."""
        ...

    def exists(self, path: str) -> bool | None:
        """Whether there is such a file or directory, also one that cannot be read; None where nobody may know."""
        ...


class SysfsTree:
    """A sysfs tree on disk: `/sys` itself, or a copy of its files for a test."""

    def __init__(self, root: str | Path) -> None:
        self._root = f"{root}/"

    def read(self, path: str) -> str | None:
        """The file's text."""
        content = self._content(path)
        return None if content is None else _text(content)

    def read_list(self, path: str) -> str | None:
        """The text of a list, which the kernel ends with a newline.

        A text that fills a whole page counts as cut, too, as no kernel can print that into its one page.
        """
        content = self._content(path)
        if content and (not content.endswith(b"\n") or len(content) == _PAGE):
            raise CutShortError(path, _text(content))
        return None if content is None else _text(content)

    def contents(self, paths: Iterable[str]) -> tuple[object, ...]:
        """The bytes of the files."""
        return tuple(map(self._content, paths))

    def names(self, directory: str) -> list[str] | None:
        """The names in the directory."""
        try:
            return os.listdir(self._root + directory)
        except OSError as error:
            _raise_unless_of_the_file(directory, error)
            return None if error.errno in _FORBIDDEN else []

    def exists(self, path: str) -> bool | None:
        """Whether the path leads to something, if only to a dangling link."""
        try:
            os.lstat(self._root + path)
        except OSError as error:
            _raise_unless_of_the_file(path, error)
            return None if error.errno in _FORBIDDEN else False
        return True

    def _content(self, path: str) -> bytes | None:
        try:
            fd = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            _raise_unless_of_the_file(path, error)
            return None
        try:
            content = os.read(fd, _PAGE)
            while content[-1:] != b"\n" and len(content) < _MOST_BYTES and (more := os.read(fd, _PAGE)):
                content += more
            return content
        except OSError:
            return None
        finally:
            os.close(fd)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace").strip()


def _raise_unless_of_the_file(path: str, error: OSError) -> None:
    if error.errno not in _OF_THE_FILE:
        raise SysfsError(f"The host cannot be read at the moment ({path}: {error.strerror}): try again") from error


class RecordedSysfs:
    """Files and directory entries kept in memory, as a recording holds them.

    `hidden` are the files and directories of which the recording process could not even tell whether they exist, or
    what is in them.
    """

    def __init__(
        self, files: dict[str, str], entries: dict[str, list[str]] | None = None, hidden: Iterable[str] = ()
    ) -> None:
        self._files = files
        self._hidden = frozenset(hidden)
        self._names: dict[str, set[str]] = {}
        for path in files:
            while "/" in path:
                path, _, name = path.rpartition("/")
                self._names.setdefault(path, set()).add(name)
        for directory, names in (entries or {}).items():
            self._names.setdefault(directory, set()).update(names)

    def read(self, path: str) -> str | None:
        """The recorded text."""
        text = self._files.get(path)
        return None if text is None else text.removesuffix(CUT)

    def read_list(self, path: str) -> str | None:
        """The recorded text. One that fills a page was cut, also in recordings that do not mark its end."""
        text = self._files.get(path)
        if text is not None and (text.endswith(CUT) or len(text) == _PAGE - 1):
            raise CutShortError(path, text.removesuffix(CUT))
        return text

    def contents(self, paths: Iterable[str]) -> tuple[object, ...]:
        """The recorded texts."""
        return tuple(map(self.read, paths))

    def names(self, directory: str) -> list[str] | None:
        """The recorded names."""
        return None if directory in self._hidden else sorted(self._names.get(directory, ()))

    def exists(self, path: str) -> bool | None:
        """Whether the path was read or listed."""
        directory, _, name = path.rpartition("/")
        if path in self._files or path in self._names or name in self._names.get(directory, ()):
            return True
        return None if path in self._hidden else False


class Recorder:
    """Reads from `source`, and remembers everything that it read."""

    def __init__(self, source: Sysfs) -> None:
        self._source = source
        self.files: dict[str, str] = {}
        self.entries: dict[str, list[str]] = {}
        self.hidden: set[str] = set()

    def read(self, path: str) -> str | None:
        """The text in the source."""
        text = self._source.read(path)
        if text is not None:
            self.files.setdefault(path, text)
        return text

    def read_list(self, path: str) -> str | None:
        """The text in the source. One without its end is remembered as such."""
        try:
            text = self._source.read_list(path)
        except CutShortError as error:
            self.files[path] = error.text + CUT
            raise
        if text is not None:
            self.files[path] = text
        return text

    def contents(self, paths: Iterable[str]) -> tuple[object, ...]:
        """The contents in the source, which are not remembered."""
        return self._source.contents(paths)

    def names(self, directory: str) -> list[str] | None:
        """The names in the source."""
        names = self._source.names(directory)
        if names is None:
            self.hidden.add(directory)
        elif names:
            self.entries[directory] = sorted(names)
        return names

    def exists(self, path: str) -> bool | None:
        """Whether it exists in the source."""
        exists = self._source.exists(path)
        if exists is None:
            self.hidden.add(path)
        elif exists and path not in self.files:
            directory, _, name = path.rpartition("/")
            self.entries[directory] = sorted({*self.entries.get(directory, ()), name})
        return exists


def count_in(sysfs: Sysfs, path: str) -> int:
    """The number in a file, 0 where there is none."""
    return number(sysfs.read(path))


def number(text: str | None) -> int:
    """The number in a file's text, 0 if it is not a number."""
    return int(text) if text is not None and is_number(text) else 0


def is_number(text: str) -> bool:
    """Whether a file's text is a number that the kernel could have written."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


def dump_recording(
    name: str,
    description: str,
    files: dict[str, str],
    entries: dict[str, list[str]],
    hidden: Iterable[str] = (),
    **more: object,
) -> str:
    """The recording as JSON text, in the format that `load_recording` reads, with more members that others read."""
    document: dict[str, object] = {"format": FORMAT, "name": name, "description": description, "files": fold(files)}
    if entries:
        document["entries"] = {
            directory: sorted(names, key=lambda n: (len(n), n)) for directory, names in sorted(entries.items())
        }
    if hidden:
        document["hidden"] = sorted(hidden)
    return json.dumps(document | more, indent=1) + "\n"


def load_recording(text: str) -> RecordedSysfs:
    """Read a recording, or the one in a report. Raises ValueError with a sentence for anything that is not one."""
    members = recording_members(text)
    files, entries, hidden = members.get("files"), members.get("entries", {}), members.get("hidden", [])
    if not isinstance(files, dict) or not isinstance(entries, dict):
        raise ValueError("its 'files' and 'entries' are not JSON objects")
    if not _is_list_of_names(hidden):
        raise ValueError("its 'hidden' is not a list of paths")
    return RecordedSysfs(unfold(cast("dict[str, Any]", files)), _entries(cast("dict[str, Any]", entries)), hidden)


def recording_members(text: str) -> dict[str, Any]:
    """The members of a recording, or of the one in a report, unchecked but for its format. Raises ValueError."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    members = cast("dict[str, Any]", document)
    if members.get("format") == REPORT_FORMAT:
        if not isinstance(members := members.get("recording"), dict):
            raise ValueError("it is a report without a recording of the machine: its 'missing' says why")
        members = cast("dict[str, Any]", members)
    if members.get("format") != FORMAT:
        raise ValueError(f"its 'format' is not '{FORMAT}'; write one with: epa-orchestrator machine --record FILE")
    return members


def _entries(members: dict[str, Any]) -> dict[str, list[str]]:
    entries: dict[str, list[str]] = {}
    for directory, names in members.items():
        if not _is_list_of_names(names):
            raise ValueError(f"the entries of '{directory}' are not a list of names")
        entries[directory] = cast("list[str]", names)
    return entries


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in cast("Iterable[object]", value))
