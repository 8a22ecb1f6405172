# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""State: the ledger on disk. The database of claims, hugepage records and events, and the lock on its directory.

`opening` creates and opens the database, and `store` writes changes into it, with the events that `history` adds.
`loading` reads the ledger back, and `reading` the events. `legacy_state` reads the older daemon's file; at the first
start daemon/takeover.py creates the database with its claims. This room stores changes that are decided elsewhere, and
never overwrites a file that it does not understand.
"""
