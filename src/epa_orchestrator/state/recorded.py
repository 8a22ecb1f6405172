# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Recorded: marks the state of a recorded machine, so that `serve --fresh` never removes the claims of a real host.

Both states may be in one directory, one after the other, because `$SNAP_COMMON` names it for any machine.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from epa_orchestrator.state.database_files import FILE_NAME, INDEX, JOURNAL, LOG, NOISE, NOISE_PART, exists, with_suffix
from epa_orchestrator.state.errors import StateError

_MARK: Final = "recorded-machine"


def keep_mark(directory: Path, *, recorded: bool) -> None:
    """Mark a directory without a state if a recorded machine is served from it, and unmark it for a real host.

    A state without a mark counts as a real host's.
    """
    mark = directory / _MARK
    with contextlib.suppress(OSError):  # the daemon serves readings if it cannot write here
        if not recorded:
            mark.unlink(missing_ok=True)
        elif not exists(directory / FILE_NAME):
            mark.touch()


def remove_state(directory: Path, no_lock: str | None) -> None:
    """Remove the state of a recorded machine; the caller holds the directory's lock, or says why it does not.

    Raises StateError without a lock, and where the state is not marked as a recorded machine's; and OSError.
    """
    path = directory / FILE_NAME
    if no_lock is not None:
        raise StateError(no_lock)
    if not exists(path):
        return
    if not os.path.lexists(directory / _MARK):
        raise StateError("may hold the claims of a real host: move it away yourself, or leave out --fresh")
    of_database = (with_suffix(path, suffix) for suffix in (JOURNAL, LOG, INDEX))
    for file in (path, *of_database, directory / NOISE, directory / NOISE_PART):
        file.unlink(missing_ok=True)
