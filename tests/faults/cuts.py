# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The cuts of a recorded story, and the judge of the state that a start finds after each."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.state import database_files, loading
from epa_orchestrator.state.errors import CommitError, StateError

from .disk import Disk, Image, put
from .driver import PEER
from .recording import Step
from .states import State, opened

#: The seed of all that is random; another one makes another run.
SEED: Final = int(os.environ.get("EPA_SEED", "20251126"))


class Cut(NamedTuple):
    """A possible content of the disk after a cut, and the states that a start may find there, the newest first."""

    image: Image
    allowed: list[State]
    where: str


@dataclass
class Story:
    """A recording: the disk before it, its steps, and the states that its marks name by number."""

    name: str
    disk: Disk
    steps: list[Step]
    states: list[State]
    legacy: str = ""

    def cuts(self, chance: random.Random, most: int, each: int) -> Iterator[Cut]:
        """At most `most` cuts: at each step those of the plain models, and `each` random ones."""
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
    """The states that a start must find, and may find, from this mark on."""
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
    """The outcome of the starts after the cuts of a story."""

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
    """Opens images, and finds the faults of the states in them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._legacy = directory / "state.json"
        self._known: dict[bytes, str | None] = {}

    def judge(self, story: Story, cuts: Iterable[Cut]) -> Tally:
        """Open all images, equal ones only once."""
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
        """The fault of the state after the cut, None when there is none."""
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
                opened_store.stage(_ANOTHER, PEER, "allocate_cores", 0)
                opened_store.commit()
            found = loading.load(common / database_files.FILE_NAME).ledger.claims
            return None if "another" in found else "lost: a change after the start"
        except (StateError, CommitError) as error:
            return f"unusable: {error}"
        finally:
            shutil.rmtree(common)


_ANOTHER: Final = Change((ClaimChange(None, Claim("another", "general", CpuSet([999]), CpuSet(), "legacy")),))


def conclude(capsys: pytest.CaptureFixture[str], *tallies: Tally) -> None:
    """Print the table; fail where a start lost something or needed help."""
    with capsys.disabled():
        title = f"power cuts, EPA_SEED={SEED}"
        print(f"\n{title:32} {'images':>8} {'different':>10} {'kept':>8} {'lost':>6} {'unusable':>9}")
        for tally in tallies:
            print(tally.line())
    for tally in tallies:
        assert tally.images > 100, "almost nothing was recorded"
        assert tally.different > 20, "almost nothing was recorded"
        assert not tally.lost + tally.unusable, "\n".join([tally.line(), *tally.examples])
