# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Power cuts at every step: the next start needs no help, and has exactly the acknowledged state.

What a daemon or a store does is recorded; then the disk is rebuilt as it may be after a cut at each step, and opened by
the code under test. The short form opens a sample of these images, the long one several for each step.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

from epa_orchestrator.state import database_files
from epa_orchestrator.state.schema import CLAIM_COLUMNS
from tests.functional.harness import MEMORY, Daemon, clean_environment
from tests.unit.state.builders import older_database

from .cuts import SEED, Cut, Judge, Story, Tally, conclude
from .disk import Disk
from .preload import compile_library
from .recording import Recording
from .watched import Opener, Watched, changes

LEGACY: Final = {"version": 1, "allocations_db": {"allocations": {"old": "1-3", "older": "5"}}}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records."""
    return compile_library("recorder.c", tmp_path_factory.mktemp("recorder"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory in memory, as thousands of images are written and synced there."""
    with tempfile.TemporaryDirectory(prefix="epa-", dir=MEMORY) as directory:
        yield Path(directory)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing for thousands of starts."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def record_first_start(library: Path, scratch: Path, name: str, legacy: str) -> Story:
    """A daemon's very first start, its first changes, and its end by SIGTERM."""
    with Daemon() as daemon:
        if legacy:
            state = daemon.data / "data" / "state.json"
            state.parent.mkdir()
            state.write_text(legacy)
        watched = Watched(daemon, library, scratch)
        watched.start()
        for action, fields in itertools.islice(changes(), 6):
            watched.change(action, **fields)
        watched.tidied()
        for action, fields in itertools.islice(changes(), 2):
            watched.change(action, **fields)
        assert daemon.stop() == 0
        return watched.story(name, legacy)


@pytest.mark.parametrize("legacy", ["", json.dumps(LEGACY)], ids=["empty", "state.json"])
def test_first_start_survives_power_cuts(
    library: Path, scratch: Path, capsys: pytest.CaptureFixture[str], long: bool, legacy: str
) -> None:
    story = record_first_start(library, scratch, f"first start, {'state.json' if legacy else 'empty'}", legacy)
    cuts = story.cuts(random.Random(SEED), 10**9 if long else 1200, 40 if long else 6)
    conclude(capsys, Judge(scratch).judge(story, cuts))


def drive(library: Path, scratch: Path, changes: int, bad_syncs: bool, name: str, seed: int) -> Story:
    """A stream of changes to a store, with tidies and reopenings, or with syncs that fail."""
    common = scratch / "driven"
    shutil.rmtree(common, ignore_errors=True)
    common.mkdir()
    recording = Recording(library, common, scratch)
    recording.forget()
    log, bad = recording.environment["RECORD_LOG"], recording.environment["RECORD_BAD_SYNCS"]
    disk, states = Disk.of(common), scratch / "states"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.faults.driver",
            common,
            log,
            bad if bad_syncs else "",
            states,
            str(seed),
            str(changes),
        ],
        env=clean_environment() | recording.environment,
        cwd=Path(__file__).parents[2],
        check=True,
        timeout=100,
    )
    return Story(name, disk, recording.steps(), json.loads(states.read_text()))


@pytest.mark.parametrize("bad_syncs", [False, True], ids=["good disk", "failed syncs"])
def test_changes_survive_power_cuts(
    library: Path, scratch: Path, capsys: pytest.CaptureFixture[str], long: bool, bad_syncs: bool
) -> None:
    name = "stream of changes, failed syncs" if bad_syncs else "stream of changes"
    tallies: list[Tally] = []
    for seed in range(SEED, SEED + (5 if long else 1)):
        story = drive(library, scratch, 150, bad_syncs, name, seed)
        cuts = story.cuts(random.Random(seed), 10**9 if long else 1500, 12 if long else 6)
        tallies.append(Judge(scratch).judge(story, cuts))
    conclude(capsys, *tallies)


def test_daemon_with_failed_syncs_survives_power_cuts(
    library: Path, scratch: Path, capsys: pytest.CaptureFixture[str], long: bool
) -> None:
    with Daemon() as daemon:
        watched = Watched(daemon, library, scratch)
        watched.start()
        stream = changes()
        for turn in range(12):
            action, fields = next(stream)
            if turn % 3 == 2:
                watched.change(action, bad_syncs=1, **fields)
            watched.change(action, **fields)
        watched.tidied()
        daemon.kill()
        story = watched.story("daemon, failed syncs")
    cuts = story.cuts(random.Random(SEED), 10**9 if long else 800, 40 if long else 6)
    conclude(capsys, Judge(scratch).judge(story, cuts))


def make_older(path: Path, version: int, mode: str, claims: int) -> None:
    """A database of an older schema, with `claims` further claims."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        older_database(db, version)
        (whole,) = db.execute("SELECT value FROM meta WHERE key = 'checksum'").fetchone()
        whole = int(whole)
        for number in range(claims):
            row = (f"older-{number}", "isolated", str(100 + number), "", "legacy", *([""] if version > 1 else []))
            text = "\x1f".join(row).encode()
            checksum = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") >> 1
            columns = CLAIM_COLUMNS[version]
            marks = ", ".join("?" * (len(row) + 1))
            db.execute(f"INSERT INTO claim ({columns}, checksum) VALUES ({marks})", (*row, checksum))
            whole ^= checksum
        db.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (str(whole),))
        db.execute(f"PRAGMA journal_mode = {mode}")


def record_upgrade(library: Path, scratch: Path, mode: str, version: int = 1) -> Story:
    """A daemon that finds a database of an older schema."""
    with Daemon(settings={"cpu-pool": "0"}) as daemon:
        make_older(daemon.common / database_files.FILE_NAME, version, mode, 120)
        watched = Watched(daemon, library, scratch)
        watched.start()
        action, fields = next(changes())
        watched.change(action, **fields)
        watched.tidied()
        assert daemon.stop() == 0
        return watched.story(f"upgrade from schema {version}, {mode}")


@pytest.mark.parametrize(("mode", "version"), [("delete", 1), ("wal", 1), ("delete", 3), ("wal", 3)])
def test_upgrade_survives_power_cuts(
    library: Path, scratch: Path, capsys: pytest.CaptureFixture[str], long: bool, mode: str, version: int
) -> None:
    story = record_upgrade(library, scratch, mode, version)
    cuts = story.cuts(random.Random(SEED), 10**9 if long else 800, 60 if long else 12)
    conclude(capsys, Judge(scratch).judge(story, cuts))


@contextlib.contextmanager
def opener(library: Path, scratch: Path, legacy: str) -> Generator[Opener]:
    """The process for one story."""
    path = scratch / "legacy.json"
    if legacy:
        path.write_text(legacy)
    with Opener(library, scratch, path) as process:
        yield process


def cut_again(recorded: Story, process: Opener, starts: int, most: int, each: int) -> Iterator[Cut]:
    """Cuts in the starts after `starts` cuts, at most `most` in each."""
    chance = random.Random(SEED)
    seen: set[str] = set()
    for cut in recorded.cuts(chance, 10 * starts, 6):
        key = repr(cut.image)
        if key in seen or len(seen) >= starts:
            continue
        seen.add(key)
        for again in process.record(cut).cuts(chance, most, each):
            # The states that the first cut allows are allowed after the second one too.
            yield again._replace(allowed=cut.allowed)


@pytest.mark.parametrize("kind", ["first start", "upgrade, delete", "upgrade, wal", "failed syncs"])
def test_start_after_a_power_cut_survives_another(
    library: Path, scratch: Path, capsys: pytest.CaptureFixture[str], long: bool, kind: str
) -> None:
    match kind:
        case "first start":
            story = record_first_start(library, scratch, "second cut, first start", json.dumps(LEGACY))
        case "failed syncs":
            story = drive(library, scratch, 60, bad_syncs=True, name="second cut, failed syncs", seed=SEED + 1)
        case _:
            story = record_upgrade(library, scratch, kind.rpartition(" ")[2])
            story.name = f"second cut, {kind}"
    with opener(library, scratch, story.legacy) as process:
        cuts = cut_again(story, process, *((200, 200, 4) if long else (20, 40, 2)))
        conclude(capsys, Judge(scratch).judge(story, cuts))
