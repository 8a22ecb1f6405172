# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Schema: the tables of the database, its version, and the upgrade of an older database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.state.events import NOTED
from epa_orchestrator.state.rows import checksum, claim_row

SCHEMA_VERSION: Final = 4
#: Marks the file as ours ("EPAO"); see PRAGMA application_id.
APPLICATION_ID: Final = 0x4550414F

#: The key of the table `meta` under which it stands when the database was created (Unix time).
CREATED: Final = "created"

#: The columns of a claim under its checksum, by schema version. These are the versions that can be read.
CLAIM_COLUMNS: Final = {
    1: "service, pool, cpus, explicit, policy",
    2: "service, pool, cpus, explicit, policy, placement",
    3: "service, pool, cpus, explicit, policy, placement",
    4: "service, pool, cpus, explicit, policy, placement",
}

#: `last` is the last event that was decided by these settings; NULL for the settings of the newest event.
_CREATE_SETTINGS: Final = (
    "CREATE TABLE settings (digest TEXT PRIMARY KEY, document TEXT NOT NULL, last INTEGER) STRICT, WITHOUT ROWID"
)

_CREATE: Final = f"""
BEGIN;
CREATE TABLE claim (service TEXT PRIMARY KEY, pool TEXT NOT NULL, cpus TEXT NOT NULL, explicit TEXT NOT NULL,
                    policy TEXT NOT NULL, placement TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE hugepages (service TEXT NOT NULL, node_id INTEGER NOT NULL, size_kb INTEGER NOT NULL,
                        count INTEGER NOT NULL, checksum INTEGER NOT NULL,
                        PRIMARY KEY (service, node_id, size_kb)) STRICT, WITHOUT ROWID;
CREATE TABLE event (id INTEGER PRIMARY KEY, at REAL NOT NULL, pid INTEGER NOT NULL, uid INTEGER NOT NULL,
                    gid INTEGER NOT NULL, action TEXT NOT NULL, service TEXT NOT NULL,
                    before TEXT, after TEXT, {" TEXT, ".join(NOTED)} TEXT) STRICT;
{_CREATE_SETTINGS};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('checksum', '0'), ('undone', '0');
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""  # noqa: S608


def create_tables(db: sqlite3.Connection) -> None:
    """Make the tables in an empty database."""
    db.executescript(_CREATE)


def upgrade(db: sqlite3.Connection, version: int, claims: Iterable[Claim], total: int) -> int:
    """Upgrade a database of an older version in the open transaction; returns the checksum over its rows.

    `claims` and `total` are the claims in it and the checksum over its rows before. Version 3 has the columns of 2,
    and stores `alone` instead of `withheld` in the placements that are written from now on. Version 4 keeps more of
    each event, and the settings in force.
    """
    if version == 1:
        db.execute("ALTER TABLE claim ADD COLUMN placement TEXT NOT NULL DEFAULT ''")
        for claim in claims:
            row = claim_row(claim)
            total ^= checksum(row[:-1]) ^ checksum(row)
            db.execute("UPDATE claim SET checksum = ? WHERE service = ?", (checksum(row), claim.service))
        db.execute("UPDATE meta SET value = ? WHERE key = 'checksum'", (str(total),))
    for column in NOTED:
        db.execute(f"ALTER TABLE event ADD COLUMN {column} TEXT")
    db.execute(_CREATE_SETTINGS)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return total
