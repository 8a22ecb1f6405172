"""Power cuts at every step: the next start needs nobody, and holds all that was acknowledged and nothing else.

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
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from epa_orchestrator import store
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.ledger import Change, Claim, ClaimChange
from tests.functional.harness import MEMORY, Daemon, clean_environment, wait_until
from tests.unit.test_store import SCHEMA_1

from .disk import Disk, Image, put
from .driver import ORIGIN
from .recording import Recording, Step, compile_library
from .states import State, of_daemon, opened

SEED: Final = 20251126
LEGACY: Final = {"version": 1, "allocations_db": {"allocations": {"old": "1-3", "older": "5"}}}


class Cut(NamedTuple):
    """What may be on the disk after a cut, and the states that a start may find there, the newest first."""

    image: Image
    allowed: list[State]
    where: str


@dataclass
class Story:
    """What was recorded: the disk before it, its steps, and the states that its marks name by their numbers."""

    name: str
    disk: Disk
    steps: list[Step]
    states: list[State]
    legacy: str = ""

    def cuts(self, chance: random.Random, most: int, each: int) -> Iterator[Cut]:
        """At most so many cuts: at each step those of the plain models, and `each` at random."""
        points = len(self.steps) + 1
        plain = [Disk.lost, Disk.kept, Disk.names_only, Disk.data_only]
        share = min(1.0, most / (points * (len(plain) + each)))
        certain, possible = 0, list[int]()
        for number, step in enumerate([None, *self.steps]):
            if step is not None and step.kind == "M":
                certain, possible = _after_mark(step.data.decode(), certain, possible)
            elif step is not None:
                self.disk.play(step)
            allowed = [self.states[index] for index in (*reversed(possible), certain)]
            for model in plain:
                if chance.random() < share:
                    yield Cut(model(self.disk), allowed, f"{self.name}, step {number}, {model.__name__}")
            for turn in range(each):
                if chance.random() < share:
                    seed = f"{self.name} {number} {turn} {SEED}"
                    yield Cut(
                        self.disk.some(random.Random(seed)), allowed, f"{self.name}, step {number}, some {seed!r}"
                    )


def _after_mark(text: str, certain: int, possible: list[int]) -> tuple[int, list[int]]:
    """What a start must find, and what it may find as well, from this mark on."""
    what, number = text.split()
    match what:
        case "asked":
            return certain, [*possible, int(number)]
        case "done":
            return int(number), []
        case "refused":
            return certain, [index for index in possible if index != int(number)]
        case _:
            assert what == "doubtful", text
            return certain, possible


@dataclass
class Tally:
    """What the starts after the cuts of a story found."""

    story: str
    images: int = 0
    different: int = 0
    lost: int = 0
    unusable: int = 0
    examples: list[str] = field(default_factory=list[str])

    def line(self) -> str:
        kept = self.images - self.lost - self.unusable
        return f"{self.story:32} {self.images:8} {self.different:10} {kept:8} {self.lost:6} {self.unusable:9}"


class Judge:
    """Opens images and says what is wrong with what is found."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._legacy = directory / "state.json"
        self._known: dict[bytes, str | None] = {}

    def judge(self, story: Story, cuts: Iterable[Cut]) -> Tally:
        """Open all images, the same ones once only."""
        tally = Tally(story.name)
        self._known.clear()
        self._legacy.unlink(missing_ok=True)
        if story.legacy:
            self._legacy.write_text(story.legacy)
        for cut in cuts:
            tally.images += 1
            key = hashlib.blake2b(repr((cut.image, cut.allowed)).encode()).digest()
            if key not in self._known:
                tally.different += 1
                self._known[key] = self._wrong(cut)
            wrong = self._known[key]
            if wrong is not None:
                tally.unusable += wrong.startswith("unusable")
                tally.lost += not wrong.startswith("unusable")
                kind = wrong.partition(":")[0]
                if sum(f": {kind}" in example for example in tally.examples) < 3:
                    tally.examples.append(f"{cut.where}: {wrong} (files {sorted(cut.image)})")
        return tally

    def _wrong(self, cut: Cut) -> str | None:
        """What is wrong after the cut, None when all is well."""
        common = self._directory / "common"
        common.mkdir()
        try:
            put(cut.image, common)
            state, opened_store, problem = opened(common, self._legacy)
            if opened_store is None or problem is not None:
                return f"unusable: {problem}"
            with contextlib.closing(opened_store):
                if state not in cut.allowed:
                    return f"lost: found {state}, not one of {cut.allowed}"
                opened_store.stage(_ANOTHER, ORIGIN, 0)
                opened_store.commit()
            found = store.load(common / store.FILE_NAME).ledger.claims
            return None if "another" in found else "lost: a change after the start"
        except (store.StateError, store.CommitError) as error:
            return f"unusable: {error}"
        finally:
            shutil.rmtree(common)


_ANOTHER: Final = Change((ClaimChange(None, Claim("another", "general", CpuSet([999]), CpuSet(), "legacy")),))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records."""
    compiled = compile_library("recorder.c", tmp_path_factory.mktemp("recorder"))
    if compiled is None:
        pytest.skip("no C compiler")
    return compiled


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory in memory, as thousands of images are written and synced there."""
    with tempfile.TemporaryDirectory(prefix="epa-", dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield Path(directory)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No line for each of thousands of starts."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def conclude(capsys: pytest.CaptureFixture[str], *tallies: Tally) -> None:
    """Print the table; fail where a start lost something or needed somebody."""
    with capsys.disabled():
        print(f"\n{'power cuts':32} {'images':>8} {'different':>10} {'kept':>8} {'lost':>6} {'unusable':>9}")
        for tally in tallies:
            print(tally.line())
    for tally in tallies:
        assert tally.images > 100, "hardly anything was recorded"
        assert tally.different > 20, "hardly anything was recorded"
        assert not tally.lost + tally.unusable, "\n".join([tally.line(), *tally.examples])


class Watched:
    """A daemon that is recorded, and a client that marks what it asks for and is told."""

    def __init__(self, daemon: Daemon, library: Path, scratch: Path) -> None:
        self.daemon = daemon
        self.recording = Recording(library, daemon.common, scratch)
        self.states: list[State] = []
        self._disk = Disk.of(daemon.common)

    def start(self) -> None:
        """Start it; what it shows then is the first state."""
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
        if not self.states[-2]:  # a refused change was asked for again, so this is what it would have led to
            self.states[-2] = self.states[-1]

    def tidied(self) -> None:
        """Wait until it has used an idle moment to move its log into the database."""
        log = self.daemon.common / f"{store.FILE_NAME}-wal"
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
def test_first_start(library: Path, scratch: Path, capsys: pytest.CaptureFixture[str], long: bool, legacy: str) -> None:
    story = record_first_start(library, scratch, f"first start, {'state.json' if legacy else 'empty'}", legacy)
    cuts = story.cuts(random.Random(SEED), 10**9 if long else 1200, 40 if long else 6)
    conclude(capsys, Judge(scratch).judge(story, cuts))


def drive(library: Path, scratch: Path, changes: int, bad_syncs: bool, name: str, seed: int) -> Story:
    """A stream of changes to a store, with tidies and reopenings, or with syncs that fail."""
    common = scratch / "driven"
    common.mkdir()
    recording = Recording(library, common, scratch)
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
def test_stream_of_changes(
    library: Path, scratch: Path, capsys: pytest.CaptureFixture[str], long: bool, bad_syncs: bool
) -> None:
    name = "stream of changes, failed syncs" if bad_syncs else "stream of changes"
    story = drive(library, scratch, 400 if long else 150, bad_syncs, name, SEED)
    cuts = story.cuts(random.Random(SEED), 10**9 if long else 1500, 12 if long else 6)
    conclude(capsys, Judge(scratch).judge(story, cuts))


def test_daemon_with_a_failed_sync(
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


def make_older(path: Path, mode: str, claims: int) -> None:
    """A database of schema 1, with as many more claims as wished for."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(SCHEMA_1)
        (whole,) = db.execute("SELECT value FROM meta WHERE key = 'checksum'").fetchone()
        whole = int(whole)
        for number in range(claims):
            row = (f"older-{number}", "isolated", str(100 + number), "", "legacy")
            text = "\x1f".join(row).encode()
            checksum = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") >> 1
            db.execute("INSERT INTO claim VALUES (?, ?, ?, ?, ?, ?)", (*row, checksum))
            whole ^= checksum
        db.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (str(whole),))
        db.execute(f"PRAGMA journal_mode = {mode}")


def record_upgrade(library: Path, scratch: Path, mode: str) -> Story:
    """A daemon that finds a database of schema 1."""
    with Daemon(settings={"cpu-pool": "0"}) as daemon:
        make_older(daemon.common / store.FILE_NAME, mode, 120)
        watched = Watched(daemon, library, scratch)
        watched.start()
        action, fields = next(changes())
        watched.change(action, **fields)
        watched.tidied()
        assert daemon.stop() == 0
        return watched.story(f"upgrade from schema 1, {mode}")


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_upgrade(library: Path, scratch: Path, capsys: pytest.CaptureFixture[str], long: bool, mode: str) -> None:
    story = record_upgrade(library, scratch, mode)
    cuts = story.cuts(random.Random(SEED), 10**9 if long else 800, 60 if long else 12)
    conclude(capsys, Judge(scratch).judge(story, cuts))


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
        """What happens when the image is opened."""
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


@contextlib.contextmanager
def opener(library: Path, scratch: Path, legacy: str) -> Generator[Opener]:
    """The process for one story."""
    path = scratch / "legacy.json"
    if legacy:
        path.write_text(legacy)
    with Opener(library, scratch, path) as process:
        yield process


def cut_again(recorded: Story, process: Opener, starts: int, most: int, each: int) -> Iterator[Cut]:
    """Cuts in so many starts that follow on a cut, at most so many in each."""
    chance = random.Random(SEED)
    seen: set[str] = set()
    for cut in recorded.cuts(chance, 10 * starts, 6):
        key = repr(cut.image)
        if key in seen or len(seen) >= starts:
            continue
        seen.add(key)
        for again in process.record(cut).cuts(chance, most, each):
            # What was possible before the first cut is possible after the second one, too.
            yield again._replace(allowed=cut.allowed)


@pytest.mark.parametrize("kind", ["first start", "upgrade, delete", "upgrade, wal", "failed syncs"])
def test_second_cut_in_the_start_after_a_cut(
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
        cuts = cut_again(story, process, *((1000, 10**9, 8) if long else (20, 40, 2)))
        conclude(capsys, Judge(scratch).judge(story, cuts))
