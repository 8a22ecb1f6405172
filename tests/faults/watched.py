# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Processes whose stories are recorded: a daemon with a client, and one that only opens the state."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epa_orchestrator.state import database_files
from tests.functional.harness import Daemon, clean_environment, wait_until

from .cuts import Cut, Story
from .disk import Disk, put
from .recording import Recording
from .states import State, of_daemon


class Watched:
    """A recorded daemon, and a client that marks its requests and answers in the recording."""

    def __init__(self, daemon: Daemon, library: Path, scratch: Path) -> None:
        self.daemon = daemon
        self.recording = Recording(library, daemon.common, scratch)
        self.states: list[State] = []
        self._disk = Disk.of(daemon.common)

    def start(self) -> None:
        """Start it; the first state is the one that it shows then."""
        self.daemon.start(self.recording.environment)
        self.states.append(of_daemon(self.daemon))

    def change(self, action: str, bad_syncs: int = 0, **fields: Any) -> None:
        """Send one request that changes something, with syncs that fail."""
        number = len(self.states)
        self.recording.mark(f"asked {number}")
        self.recording.fail_syncs(bad_syncs)
        answer = self.daemon.call(action, **fields)
        self.recording.fail_syncs(0)
        assert ("error" in answer) == (bad_syncs > 0), answer
        self.recording.mark(f"{'refused' if bad_syncs else 'done'} {number}")
        if bad_syncs:
            self.states.append({})
            return
        self.states.append(of_daemon(self.daemon))
        if not self.states[-2]:  # the state that a refused change leads to when it is asked for again
            self.states[-2] = self.states[-1]

    def tidied(self) -> None:
        """Wait until the idle daemon has moved its log into the database."""
        log = self.daemon.common / f"{database_files.FILE_NAME}-wal"
        wait_until(lambda: log.stat().st_size == 0, "the store is tidied")

    def story(self, name: str, legacy: str = "") -> Story:
        return Story(name, self._disk, self.recording.steps(), self.states, legacy)


def changes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests of all kinds that change something."""
    for turn in itertools.count():
        yield "allocate_cores", {"service_name": "a", "num_of_cores": 2 + turn % 2}
        yield "allocate_numa_cores", {"service_name": "b", "numa_node": turn % 2, "num_of_cores": 1 + turn % 3}
        yield (
            "allocate_hugepages",
            {"service_name": "c", "node_id": 0, "size_kb": 2048, "hugepages_requested": 1 + turn % 9},
        )
        yield "allocate_cores", {"service_name": "a", "num_of_cores": -1}


class Opener:
    """A process that is recorded while it opens the state in a directory, again and again."""

    def __init__(self, library: Path, scratch: Path, legacy: Path) -> None:
        self._common = scratch / "again"
        self._common.mkdir()
        self._log = scratch / "record-again"
        self._scratch = scratch / "scratch-again"
        self._scratch.mkdir()
        self._recording = Recording(library, self._common, self._scratch)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.opener", self._common, legacy],
            env=clean_environment() | self._recording.environment,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Opener:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)

    def record(self, cut: Cut) -> Story:
        """The recording of opening the image."""
        shutil.rmtree(self._common)
        self._common.mkdir()
        self._recording.forget()
        put(cut.image, self._common)
        disk = Disk.of(self._common)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("open\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "opened\n"
        return Story(f"{cut.where}, again", disk, self._recording.steps(), cut.allowed)
