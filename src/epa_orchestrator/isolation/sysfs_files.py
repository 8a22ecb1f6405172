# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sysfs files: the files of a host whose sysfs tree is a `Sysfs`, such as a recording, with or without others."""

from __future__ import annotations

from typing import Final

from epa_orchestrator.hardware.sysfs import CutShortError, Sysfs
from epa_orchestrator.isolation.host_files import HostFiles, Unread

_SYS: Final = "sys/"


class SysfsFiles:
    """What is below `sys/` comes from `sysfs`, everything else from `others`; without these it is missing.

    Its methods raise SysfsError.
    """

    def __init__(self, sysfs: Sysfs, others: HostFiles | None = None) -> None:
        self._sysfs = sysfs
        self._others = others

    def read(self, path: str) -> str | Unread:
        """The file's text; a CPU list without its end counts as missing."""
        if not path.startswith(_SYS):
            return self._others.read(path) if self._others is not None else Unread(path)
        below = path.removeprefix(_SYS)
        try:
            text = self._sysfs.read_list(below)
        except CutShortError:
            return Unread(path)
        return self._unread(path) if text is None else text

    def names(self, directory: str) -> list[str] | Unread:
        """The names in a directory."""
        if not directory.startswith(_SYS):
            return self._others.names(directory) if self._others is not None else Unread(directory)
        names = self._sysfs.names(directory.removeprefix(_SYS))
        return names or self._unread(directory)

    def _unread(self, path: str) -> Unread:
        denied = self._sysfs.exists(path.removeprefix(_SYS)) is not False
        return Unread(path, "denied" if denied else "missing")
