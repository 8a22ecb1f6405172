"""A small ledger, changes of it, and the database that holds it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from epa_orchestrator.allocation.ledger import Change, Claim, ClaimChange, Ledger
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.peer import Peer
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes
from epa_orchestrator.state.database_files import JOURNAL, LOG, with_suffix
from epa_orchestrator.state.store import Store

PEER = Peer(pid=7, uid=0, gid=0)


def claim(service: str, cpus: str, explicit: str = "") -> Claim:
    return Claim(service, "isolated", CpuSet.parse(cpus), CpuSet.parse(explicit), "legacy")


LEDGER = Ledger.of([claim("a", "2-3", "2"), claim("b", "5")], {"a": {(0, 2048): 4, (1, 1048576): 1}})

#: Changes of that ledger.
GROWN = Change((ClaimChange(claim("b", "5"), claim("b", "5-6")),))
GONE = Change((ClaimChange(claim("a", "2-3", "2"), None),))

#: Claims that were not placed by default.
PLACED = Ledger.of(
    [
        replace(claim("a", "2-3", "2"), withheld=CpuSet.parse("10-11")),
        replace(claim("b", "5"), placed_by=PlacementPolicy(cpu_thread_policy="share", prefer_closest_numa_nodes=False)),
        replace(
            claim("c", "6-7"),
            withheld=CpuSet.parse("14-15"),
            placed_by=PlacementPolicy("restricted", "spread", True, "none", "isolate", "cores", "performance", 1),
            wishes=Wishes("restricted", "isolate", "none", 1),
        ),
        replace(claim("d", "9"), wishes=Wishes(near=0)),
    ],
    {},
)


def content(ledger: Ledger) -> tuple[object, ...]:
    return dict(ledger.claims), {service: dict(counts) for service, counts in ledger.pages.items()}


def commit(opened: Store, *changes: Change) -> None:
    for change in changes:
        opened.stage(change, PEER, "allocate_cores", 2.0)
    opened.commit()


def run_sql(path: Path, statement: str) -> None:
    """Change the database as another process."""
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def log_of(path: Path) -> Path:
    return with_suffix(path, LOG)


def journal_of(path: Path) -> Path:
    return with_suffix(path, JOURNAL)
