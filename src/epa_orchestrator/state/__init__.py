"""State: what is on disk. The database with claims, hugepage records and events, and the lock on its directory.

It stores changes that are decided elsewhere, and loads a ledger. It never overwrites what it does not understand.
"""
