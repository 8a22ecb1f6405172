# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A small ledger, changes of it, and the database that holds it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.peer import Peer
from epa_orchestrator.placement.policy import PlacementPolicy, Wishes
from epa_orchestrator.state.database_files import JOURNAL, LOG, with_suffix
from epa_orchestrator.state.rows import checksum
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


#: A database that a daemon of schema 1 made, in the words of `iterdump`.
SCHEMA_1 = """
CREATE TABLE claim (service TEXT PRIMARY KEY, pool TEXT NOT NULL, cpus TEXT NOT NULL, explicit TEXT NOT NULL,
                    policy TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO claim VALUES('a','isolated','2-3','2','legacy',21833069709260625);
INSERT INTO claim VALUES('b','general','5','','non-preemptive',9059940418537969);
CREATE TABLE event (id INTEGER PRIMARY KEY, at REAL NOT NULL, pid INTEGER NOT NULL, uid INTEGER NOT NULL,
                    gid INTEGER NOT NULL, action TEXT NOT NULL, service TEXT NOT NULL,
                    before TEXT, after TEXT) STRICT;
INSERT INTO event VALUES(1,1.0,7,0,0,'allocate_cores','a',NULL,
    '{"pool":"isolated","cpus":"2-3","explicit":"2","policy":"legacy"}');
INSERT INTO event VALUES(2,1.0,7,0,0,'allocate_cores','b',NULL,
    '{"pool":"general","cpus":"5","explicit":"","policy":"non-preemptive"}');
INSERT INTO event VALUES(3,1.0,7,0,0,'allocate_cores','a',NULL,'{"node_id":0,"size_kb":2048,"hugepages":4}');
INSERT INTO event VALUES(4,1.0,7,0,0,'allocate_cores','a',NULL,'{"node_id":1,"size_kb":1048576,"hugepages":1}');
CREATE TABLE hugepages (service TEXT NOT NULL, node_id INTEGER NOT NULL, size_kb INTEGER NOT NULL,
                        count INTEGER NOT NULL, checksum INTEGER NOT NULL,
                        PRIMARY KEY (service, node_id, size_kb)) STRICT, WITHOUT ROWID;
INSERT INTO hugepages VALUES('a',0,2048,4,35012458125404674);
INSERT INTO hugepages VALUES('a',1,1048576,1,4893795250373475);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('checksum','210815130179521');
INSERT INTO meta VALUES('nodes','{"0": "0-3"}');
INSERT INTO meta VALUES('undone','0');
PRAGMA application_id = 1162887503;
PRAGMA user_version = 1;
"""


def older_database(db: sqlite3.Connection, version: int) -> None:
    """Fill a database as a daemon of schema 1, 2 or 3 did; versions 2 and 3 have the same columns."""
    db.executescript(SCHEMA_1)
    if version == 1:
        return
    db.execute("ALTER TABLE claim ADD COLUMN placement TEXT NOT NULL DEFAULT ''")
    rows = [
        ("a", "isolated", "2-3", "2", "legacy", ""),
        ("b", "general", "5", "", "non-preemptive", ""),
    ]
    total = checksum(("a", 0, 2048, 4)) ^ checksum(("a", 1, 1048576, 1))
    for row in rows:
        total ^= checksum(row)
        db.execute("UPDATE claim SET checksum = ? WHERE service = ?", (checksum(row), row[0]))
    db.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (str(total),))
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()


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
