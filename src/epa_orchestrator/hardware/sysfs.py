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
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol, cast

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import EpaError

NODE_DIR: Final = "devices/system/node"

FORMAT: Final = "epa-orchestrator-machine/1"

#: More than any file that discovery reads: a CPU list of 1024 scattered CPUs has 5 KB, node meminfo 2 KB.
_READ_BYTES: Final = 65_536

#: The directory of one CPU in a path; a recording stores such files once for all CPUs, see `fold`.
_CPU_DIRECTORY = re.compile(r"/cpu([0-9]+)/")
_CPU_TEMPLATE: Final = "/cpu{}/"

#: The most digits of a number: the kernel's have 64 bits, and a damaged recording may hold anything.
MOST_DIGITS: Final = 20

#: Errors that are about the file. All others are about this process or the system at the moment, such as no free file
#: descriptor.
_OF_THE_FILE: Final = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENODEV, errno.ENXIO, errno.EINVAL),
    *(errno.ELOOP, errno.ENAMETOOLONG),
)


class SysfsError(EpaError):
    """This process cannot read at the moment, so the file may exist and must not count as missing."""


class Sysfs(Protocol):
    """Files below a sysfs root; paths are relative to it, such as `devices/system/cpu/online`."""

    def read(self, path: str) -> str | None:
        """The file's text without surrounding white space, None where it is missing or cannot be read.

        Raises SysfsError.
        """
        ...

    def names(self, directory: str) -> list[str]:
        """The names in a directory in no particular order, [] where it is missing."""
        ...


class SysfsTree:
    """A sysfs tree on disk: `/sys` itself, or a copy of its files for a test."""

    def __init__(self, root: str | Path) -> None:
        self._root = f"{root}/"

    def read(self, path: str) -> str | None:
        """The file's text; one `read`, as the kernel renders these files whole."""
        try:
            fd = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            _raise_unless_of_the_file(path, error)
            return None
        try:
            return os.read(fd, _READ_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return None
        finally:
            os.close(fd)

    def names(self, directory: str) -> list[str]:
        """The names in the directory."""
        try:
            return os.listdir(self._root + directory)
        except OSError as error:
            _raise_unless_of_the_file(directory, error)
            return []


def _raise_unless_of_the_file(path: str, error: OSError) -> None:
    if error.errno not in _OF_THE_FILE:
        raise SysfsError(f"The host cannot be read at the moment ({path}: {error.strerror}): try again") from error


class RecordedSysfs:
    """Files and directory entries kept in memory, as a recording holds them."""

    def __init__(self, files: dict[str, str], entries: dict[str, list[str]] | None = None) -> None:
        self._files = files
        self._names: dict[str, set[str]] = {}
        for path in files:
            while "/" in path:
                path, _, name = path.rpartition("/")
                self._names.setdefault(path, set()).add(name)
        for directory, names in (entries or {}).items():
            self._names.setdefault(directory, set()).update(names)

    def read(self, path: str) -> str | None:
        """The recorded text."""
        return self._files.get(path)

    def names(self, directory: str) -> list[str]:
        """The recorded names."""
        return sorted(self._names.get(directory, ()))


class Recorder:
    """Reads from `source`, and remembers everything that it read."""

    def __init__(self, source: Sysfs) -> None:
        self._source = source
        self.files: dict[str, str] = {}
        self.entries: dict[str, list[str]] = {}

    def read(self, path: str) -> str | None:
        """The text in the source."""
        text = self._source.read(path)
        if text is not None:
            self.files[path] = text
        return text

    def names(self, directory: str) -> list[str]:
        """The names in the source."""
        names = self._source.names(directory)
        if names:
            self.entries[directory] = sorted(names)
        return names


def count_in(sysfs: Sysfs, path: str) -> int:
    """The number in a file, 0 where there is none."""
    return number(sysfs.read(path))


def number(text: str | None) -> int:
    """The number in a file's text, 0 if it is not a number."""
    return int(text) if text is not None and is_number(text) else 0


def is_number(text: str) -> bool:
    """Whether a file's text is a number that the kernel could have written."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


def dump_recording(name: str, description: str, files: dict[str, str], entries: dict[str, list[str]]) -> str:
    """The recording as JSON text, in the format that `load_recording` reads."""
    document: dict[str, object] = {"format": FORMAT, "name": name, "description": description, "files": fold(files)}
    if entries:
        document["entries"] = {
            directory: sorted(names, key=lambda n: (len(n), n)) for directory, names in sorted(entries.items())
        }
    return json.dumps(document, indent=1) + "\n"


def load_recording(text: str) -> RecordedSysfs:
    """Read a recording.

    Raises ValueError with a sentence for anything that is not one.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    members = cast("dict[str, Any]", document)
    if members.get("format") != FORMAT:
        raise ValueError(f"its 'format' is not '{FORMAT}'; write one with: epa-orchestrator machine --record FILE")
    files, entries = members.get("files"), members.get("entries", {})
    if not isinstance(files, dict) or not isinstance(entries, dict):
        raise ValueError("its 'files' and 'entries' are not JSON objects")
    return RecordedSysfs(unfold(cast("dict[str, Any]", files)), _entries(cast("dict[str, Any]", entries)))


def fold(files: dict[str, str]) -> dict[str, str | dict[str, str]]:
    """Put the files that every CPU has under one path, `.../cpu{}/...`, as {text: the CPUs whose file holds it}."""
    folded: dict[str, str | dict[str, str]] = {}
    per_cpu: dict[str, dict[str, list[int]]] = {}
    for path, text in files.items():
        match = _CPU_DIRECTORY.search(path)
        if match is None:
            folded[path] = text
        else:
            template = path[: match.start()] + _CPU_TEMPLATE + path[match.end() :]
            per_cpu.setdefault(template, {}).setdefault(text, []).append(int(match[1]))
    for template, cpus_by_text in per_cpu.items():
        folded[template] = {text: str(CpuSet(cpus)) for text, cpus in cpus_by_text.items()}
    return dict(sorted(folded.items()))


def unfold(folded: dict[str, Any]) -> dict[str, str]:
    """Undo `fold`.

    Raises ValueError where a value is neither text nor {text: CPU list}.
    """
    files: dict[str, str] = {}
    for path, value in folded.items():
        if isinstance(value, str):
            files[path] = value
        elif isinstance(value, dict) and _CPU_TEMPLATE in path:
            for text, cpus in cast("dict[str, Any]", value).items():
                if not isinstance(cpus, str):
                    raise ValueError(f"'{path}' does not map texts to CPU lists")
                files.update((path.replace(_CPU_TEMPLATE, f"/cpu{cpu}/", 1), text) for cpu in CpuSet.parse(cpus))
        else:
            raise ValueError(f"'{path}' holds neither text nor texts by CPU list")
    return files


def _entries(members: dict[str, Any]) -> dict[str, list[str]]:
    entries: dict[str, list[str]] = {}
    for directory, names in members.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("Iterable[object]", names)):
            raise ValueError(f"the entries of '{directory}' are not a list of names")
        entries[directory] = cast("list[str]", names)
    return entries
