# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Whether the older daemon ran after ours had its claims, and what then counts.

`snap revert` brings back the older snap, whose daemon knows nothing of our claims and grants from its old state file.
When ours is back, each of the two may have granted the same CPUs, and only a person can say which claims count.

The proof is snapd's own record of its changes: a finished task `link-snap` names the revision that became the current
one, and when. Only root reaches it. A `state.json` that is newer than our database proves nothing, whichever revision's
directory it is in: a connected snap can write there as long as one of its processes has the directory open, and can set
any time on the file. snapd keeps changes for a day, so the charm, which looks at each event, records what it found.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from charmlibs import snap

import snap_file
import snapd
import snapd_api
from epa_orchestrator.errors import EpaError
from epa_orchestrator.files import UnsuitableFileError, read_regular_file, sync_directory
from epa_orchestrator.state import database_files
from epa_orchestrator.state.errors import StateError
from epa_orchestrator.state.legacy_state import read_legacy_state
from epa_orchestrator.state.reading import open_events
from errors import CharmError
from snap_file import NAME
from snapd import with_retries

_SNAP: Final = Path("/var/snap") / NAME
#: The daemon makes this file at its first start and never writes it.
_FIRST_FILE: Final = "lock"
_LEGACY: Final = "state.json"
_MOST_BYTES: Final = 4 * 1024 * 1024
_REVISION: Final = re.compile(r"\((x?[0-9]+)\)")


class Intrusion(NamedTuple):
    """The older daemon ran although ours held claims."""

    #: The older snap's revision.
    revision: str
    #: When it became the current one (seconds since 1970).
    at: float

    def sentence(self, unit: str) -> str:
        """What the operator has to do, and why."""
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.at))
        return (
            f"choose which claims count: run 'juju run {unit} settle-claims keep=ours' or 'juju run {unit}"
            f" settle-claims keep=older': the older daemon (revision {self.revision}) ran on {when}, and knew nothing"
            " of the claims that this one holds"
        )


def find(settled: float) -> Intrusion | None:
    """The last time that the older daemon ran although ours had run before, later than `settled`.

    Raises snap.Error, CharmError.
    """
    here = snapd.installed(NAME)
    if here is None:
        return None
    if not snap_file.is_ours(here.revision):
        return Intrusion(here.revision, time.time()) if _first_start() is not None else None
    found = [Intrusion(revision, at) for revision, at in _links() if at > settled and _is_older(revision)]
    if not found:
        return None
    first, last = _first_start(), max(found, key=lambda each: each.at)
    return last if first is not None and first < last.at else None


def take_over(revision: str) -> str:
    """Make the older daemon's claims those of our daemon, in place of its own; returns the name of the copy of those.

    Raises CharmError, having changed nothing, when the older daemon's state cannot be imported.
    """
    older = _SNAP / revision / "data" / _LEGACY
    try:
        content = read_regular_file(older, _MOST_BYTES, follow_link=False)
        read_legacy_state(older)
    except (OSError, UnsuitableFileError, EpaError) as error:
        raise CharmError(
            f"the state of the older daemon cannot be taken over ({older}: {error}): run settle-claims with keep=ours"
        ) from error
    with_retries(lambda: snap.stop(NAME))
    try:
        _replace_legacy_state(content)
        return _put_database_aside()
    except OSError as error:
        raise CharmError(f"the claims cannot be exchanged: {error}") from error
    finally:
        with_retries(lambda: snap.start(NAME))


def _links() -> list[tuple[str, float]]:
    """The revisions that became the current one in the past day, and when."""
    changes: list[dict[str, list[dict[str, Any]] | None]]
    changes = with_retries(lambda: snapd_api.get("/v2/changes", **{"select": "all", "for": NAME}))
    links: list[tuple[str, float]] = []
    try:
        tasks = [task for change in changes for task in change.get("tasks") or []]
        for task in tasks:
            found = _REVISION.search(task["summary"]) if task["kind"] == "link-snap" else None
            if found is not None and task["status"] == "Done" and f'"{NAME}"' in task["summary"]:
                links.append((found[1], datetime.fromisoformat(task["ready-time"]).timestamp()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise snap.BadResponseError(f"snapd's changes have an unknown form ({error!r})") from error
    return links


def _is_older(revision: str) -> bool:
    """Whether a revision is the older snap; a revision that is not installed any more is not."""
    described = snap_file.describe(snap_file.installed_file(revision))
    return described is not None and not described.is_ours


def _first_start() -> float | None:
    """When our daemon first ran here (seconds since 1970), as far as its files tell; None if it never did."""
    times: list[float] = []
    with contextlib.suppress(OSError):
        times.append((_SNAP / "common" / _FIRST_FILE).lstat().st_mtime)
    database = _SNAP / "common" / database_files.FILE_NAME
    if database_files.exists(database):
        with contextlib.suppress(StateError), open_events(database) as events:
            times += [event.at for event in islice(events.oldest_first(), 1)]
    return min(times, default=None)


def _replace_legacy_state(content: bytes) -> None:
    """Put the older daemon's state where our daemon imports it from, whatever another snap has put there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    directory = os.open(_SNAP / "current" / "data", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        new = f".{_LEGACY}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=directory)
        with open(os.open(new, flags, 0o600, dir_fd=directory), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, _LEGACY, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    finally:
        os.close(directory)


def _put_database_aside() -> str:
    """Rename the database and its log, so that the next start imports; returns the database's new name."""
    common = _SNAP / "common"
    database = common / database_files.FILE_NAME
    aside = f"{database_files.FILE_NAME}.replaced-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    # The log first: a database without its log lacks the last changes, a log without its database is nothing.
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{database}{suffix}", common / f"{aside}{suffix}")
    sync_directory(common)
    return str(common / aside)
