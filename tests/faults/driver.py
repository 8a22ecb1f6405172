# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A process that only changes a store, as fast as it can, for a recording of many changes.

`python -m tests.faults.driver DIRECTORY LOG BAD_SYNCS STATES SEED CHANGES`: changes the store in a directory, marks its
requests and their outcomes in the recording's log, and writes the states that follow into a file.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Final

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PagesChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import database_files, opening
from epa_orchestrator.state.errors import CommitError
from epa_orchestrator.state.store import Store

from .recording import mark
from .states import State, of_ledger

PEER: Final = Peer(1, 0, 0)
SERVICES: Final = [f"service-{number}-{'x' * (number * 20)}" for number in range(8)]
#: How many syncs fail in a row: mostly one, sometimes the one that overwrites it too, or all for a while.
_BAD_SYNCS: Final = (1, 1, 1, 2, 3, 1000)


class Driver:
    """Changes a store at random."""

    def __init__(self, path: Path, log: Path, bad_syncs: Path | None, seed: int) -> None:
        self._chance = random.Random(seed)
        self._path, self._log, self._bad_syncs = path, log, bad_syncs
        self._ledger = Ledger()
        self.states: list[State] = [of_ledger(self._ledger)]
        if not database_files.exists(path):
            opening.create(path, self._ledger, PEER, 0)
        self._store: Store = opening.open_store(path)[0]

    def run(self, changes: int) -> None:
        """Make this many changes."""
        for turn in range(changes):
            bad = 0
            if self._bad_syncs is not None and self._chance.random() < 0.2:
                bad = self._chance.choice(_BAD_SYNCS)
                self._bad_syncs.write_bytes(b"s" * bad)
            self._change(turn, bad)
            if self._chance.random() < 0.07:
                self._store.tidy()
            if self._bad_syncs is not None:
                self._bad_syncs.write_bytes(b"")
            elif self._chance.random() < 0.02:
                self._store.close()
                self._store = opening.open_store(self._path)[0]

    def _change(self, turn: int, bad: int) -> None:
        number, ledger = len(self.states), self._ledger
        changes: list[Change] = []
        for _ in range(self._chance.randint(1, 3)):
            changes.append(self._pick(ledger))
            ledger = ledger.apply(changes[-1])
        self.states.append(of_ledger(ledger))
        mark(self._log, f"asked {number}")
        try:
            for change in changes:
                self._store.stage(change, PEER, "allocate_cores", turn)
            self._store.commit()
        except CommitError:
            # A transaction over the refused one makes sure that it does not come back, if that one can be synced.
            mark(self._log, f"{'refused' if bad == 1 else 'doubtful'} {number}")
        else:
            mark(self._log, f"done {number}")
            self._ledger = ledger

    def _pick(self, ledger: Ledger) -> Change:
        service = self._chance.choice(SERVICES)
        if self._chance.random() < 0.3:
            kind = (self._chance.randrange(2), 2048)
            before = ledger.pages.get(service, {}).get(kind, 0)
            after = self._chance.choice([count for count in (0, 1, 2, 3) if count != before])
            return Change(pages=PagesChange(service, kind, before, after))
        before = ledger.claims.get(service)
        free = set(range(64)) - {cpu for claim in ledger.claims.values() if claim is not before for cpu in claim.cpus}
        chosen = self._chance.sample(sorted(free), min(len(free), self._chance.randint(1, 9)))
        after = Claim(service, "isolated", CpuSet(chosen), CpuSet(chosen[:2]), "legacy") if chosen else None
        if before is not None and (before == after or self._chance.random() < 0.3):
            after = None
        return Change((ClaimChange(before, after),))


def main() -> None:
    """Do what the module says."""
    directory, log, bad_syncs, states, seed, changes = sys.argv[1:]
    driver = Driver(
        Path(directory, database_files.FILE_NAME), Path(log), Path(bad_syncs) if bad_syncs else None, int(seed)
    )
    try:
        driver.run(int(changes))
    finally:
        Path(states).write_text(json.dumps(driver.states))


if __name__ == "__main__":
    main()
