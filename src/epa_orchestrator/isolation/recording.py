# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Recording: the facts of a host's isolation as a JSON document, so that the host can be judged elsewhere.

The document is the member `host` of a recorded machine. It has the files that one reading has read, with paths relative
to the root, as far as others may know them (`recordable`): only the tasks that may run on isolated CPUs, and no host
name. Its size is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.folding import fold, unfold
from epa_orchestrator.hardware.sysfs import recording_members
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.facts import Facts, read_facts
from epa_orchestrator.isolation.host_files import HostFiles, HostRecorder, RecordedHost, Unread
from epa_orchestrator.isolation.recordable import recordable
from epa_orchestrator.isolation.task_facts import Task

#: The member of a recording with the facts.
MEMBER: Final = "host"
#: The most characters of all files; a host with 512 CPUs and 5,000 tasks has a third of them.
_MOST_CHARACTERS: Final = 6_000_000
#: The end of the year 9999, the last one that times are written with.
_MOST_SECONDS: Final = 253_402_300_800
_IN_TASK: Final = re.compile(r"proc/([0-9]+)(?:/task(?:/([0-9]+))?)?(?:/[^/]*)?")
#: Only these files have CPUs in their paths, of the kernel's own names.
_FOLDABLE: Final = "sys/devices/"
#: PID 1, from which services inherit their CPUs, and kthreadd, from which kernel threads do.
_CONTROL_THREADS: Final = (1, 2)
_CONTROL_FILES: Final = ("proc/1/", "proc/2/")


class HostRecording(NamedTuple):
    """The files of a recorded host, and the time of the recording in seconds since 1970, 0 where it is not known."""

    files: RecordedHost
    at: float


def record_host(source: HostFiles, at: float) -> tuple[Facts, dict[str, Any]]:
    """Read the facts of a host at the time `at` (seconds since 1970), and make the document of them."""
    recorder = HostRecorder(source)
    facts = read_facts(recorder, at)
    return facts, _document(recorder, facts)


def host_of(text: str) -> HostRecording:
    """The host in a recording or in a report; one of an older version has only its machine.

    Raises ValueError with a sentence for anything else.
    """
    members = recording_members(text)
    machine = {f"sys/{path}": content for path, content in unfold(_object(members, "files")).items()}
    names = {f"sys/{path}": each for path, each in _lists(members, "entries").items()}
    if MEMBER not in members:
        return HostRecording(RecordedHost(machine, (), names, complete=False), 0.0)
    host = _object(members, MEMBER)
    at = host.get("at", 0.0)
    if not isinstance(at, int | float) or not 0 <= at < _MOST_SECONDS:
        raise ValueError(f"'at' of its '{MEMBER}' is not a time in seconds")
    files = {**machine, **unfold(_object(host, "files"))}
    entries = {**names, **_lists(host, "entries")}
    return HostRecording(RecordedHost(files, _lists(host, "denied", of="host")["host"], entries), float(at))


def _document(recorder: HostRecorder, facts: Facts) -> dict[str, Any]:
    keeps = _Keeping(() if isinstance(facts.tasks, Unread) else facts.tasks, _isolated(facts))
    files: dict[str, str] = {}
    too_long: list[str] = []
    room = _MOST_CHARACTERS
    for path, text in sorted(recorder.files.items(), key=_importance):
        content = recordable(path, text) if keeps(path) else None
        if content is None:
            continue
        if len(content) > room:
            too_long.append(path)
            continue
        files[path] = content
        room -= len(content)
    denied = {*too_long, *filter(keeps, recorder.denied)}
    foldable = {path: text for path, text in files.items() if path.startswith(_FOLDABLE)}
    return {
        "at": facts.at,
        "files": fold(foldable) | {path: text for path, text in sorted(files.items()) if path not in foldable},
        "denied": sorted(denied),
        "entries": _entries(recorder, files, denied),
    }


def _isolated(facts: Facts) -> CpuSet:
    """The CPUs that any option could mean, or that somebody meant to isolate."""
    line = facts.line
    return known(line.isolated) | known(line.nohz_full) | known(line.cpuset_isolated) | Case(facts).isolated


class _Keeping:
    """Tells which files are recorded: of tasks, those that may run on isolated CPUs, and those of PID 1 and 2.

    The kernel's own threads of these CPUs, which cannot be moved, are left out.
    """

    def __init__(self, tasks: Iterable[Task], isolated: CpuSet) -> None:
        self._threads = {
            (task.pid, task.tid)
            for task in tasks
            if task.tid in _CONTROL_THREADS
            or (task.allowed & isolated and not (task.is_kernel and not task.may_be_moved))
        }
        self._processes = {*_CONTROL_THREADS, *(pid for pid, _ in self._threads)}

    def __call__(self, path: str) -> bool:
        found = _IN_TASK.fullmatch(path)
        if found is None:
            return True
        pid, tid = int(found[1]), found[2]
        return pid in self._processes if tid is None else (pid, int(tid)) in self._threads


def _importance(file: tuple[str, str]) -> tuple[bool, int]:
    """Where a file comes in the order in which files get room: short ones first, those of tasks last."""
    path, text = file
    return _is_of_task(path) and not path.startswith(_CONTROL_FILES), len(text)


def _is_of_task(path: str) -> bool:
    return _IN_TASK.fullmatch(path) is not None


def _entries(recorder: HostRecorder, files: Mapping[str, str], denied: Iterable[str]) -> dict[str, list[str]]:
    """The names in the directories that were listed, and in which no file was read."""
    told: set[str] = set()
    for path in (*files, *denied):
        while "/" in path:
            path = path.rpartition("/")[0]
            told.add(path)
    return {
        path: sorted(names)
        for path, names in sorted(recorder.entries.items())
        if path not in told and path != "proc" and not _is_of_task(path)
    }


def _object(members: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = members.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"its '{name}' is not a JSON object")
    return cast("dict[str, Any]", value)


def _lists(members: Mapping[str, Any], name: str, of: str = "") -> dict[str, list[str]]:
    """The lists of names in a member, by their directories; a member that is one list is that of `of`."""
    found = {of: members.get(name, [])} if of else _object(members, name)
    for names in found.values():
        if not isinstance(names, list) or not all(isinstance(each, str) for each in cast("list[object]", names)):
            raise ValueError(f"its '{name}' holds something else than names")
    return cast("dict[str, list[str]]", found)
