# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Quotas: how many connections each user may have, and which one is closed for a new one. No user can lock out others.

There are three shares: one for root and the daemon's own user, one for the users that the settings allow to change
claims, and one for all other users. A single user gets only a part of the second or third share. Clients that watch
stay connected, so they may take at most a half of each part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from epa_orchestrator.daemon.peers import Standing

#: How many connections of a user one call checks to find an idle one. The next call checks others.
_MAX_CHECKS: Final = 8


class Share(NamedTuple):
    """The connections for one standing: of all its users, of one user, and those that may wait for a commit."""

    total: int
    per_user: int
    waiting: int

    @property
    def watching(self) -> int:
        """How many of all connections may watch."""
        return self.total // 2

    @property
    def watching_per_user(self) -> int:
        """How many of one user's connections may watch."""
        return self.per_user // 2


def shares_of(connections: int) -> dict[Standing, Share]:
    """Split connections into shares: half for root, a quarter for allowed users, a quarter for all others."""
    quarter = max(connections // 4, 1)
    half = max(connections - 2 * quarter, 1)
    return {
        Standing.OWN: _share(half, half),
        Standing.ALLOWED: _share(quarter, quarter // 2),
        Standing.OTHER: _share(quarter, quarter // 4),
    }


def _share(total: int, per_user: int) -> Share:
    """A share in which waiting changes leave a quarter to readings."""
    return Share(total, max(per_user, 1), max(total * 3 // 4, 1))


class Closable(Protocol):
    """A connection, as far as the quotas need it."""

    def is_idle(self) -> bool:
        """Whether it may be closed because its client makes no progress."""
        ...


C = TypeVar("C", bound=Closable)


class Quotas(Generic[C]):
    """All connections by standing and user, the changes that wait for their commit, and the connections that watch."""

    def __init__(self, connections: int) -> None:
        self.shares = shares_of(connections)
        self._members: dict[Standing, dict[int, dict[C, None]]] = {standing: {} for standing in Standing}
        self._counts = dict.fromkeys(Standing, 0)
        self._waiting_changes = dict.fromkeys(Standing, 0)
        self._watches: dict[Standing, dict[int, int]] = {standing: {} for standing in Standing}

    def add(self, connection: C, standing: Standing, uid: int) -> None:
        """Count a connection."""
        self._members[standing].setdefault(uid, {})[connection] = None
        self._counts[standing] += 1

    def remove(self, connection: C, standing: Standing, uid: int) -> None:
        """Stop counting a connection."""
        users = self._members[standing]
        del users[uid][connection]
        self._counts[standing] -= 1
        if not users[uid]:
            del users[uid]

    def has_room(self, standing: Standing, uid: int) -> bool:
        """Whether the user may have one more connection."""
        share = self.shares[standing]
        return self._counts[standing] < share.total and len(self._members[standing].get(uid, ())) < share.per_user

    def begin_change(self, standing: Standing) -> bool:
        """Count a change that waits for its commit. False, and not counted, when too many wait already."""
        if self._waiting_changes[standing] >= self.shares[standing].waiting:
            return False
        self._waiting_changes[standing] += 1
        return True

    def end_change(self, standing: Standing) -> None:
        """Stop counting a change."""
        self._waiting_changes[standing] -= 1

    def begin_watch(self, standing: Standing, uid: int) -> bool:
        """Count a connection that watches. False, and not counted, when the user or all together have too many."""
        watches, share = self._watches[standing], self.shares[standing]
        if watches.get(uid, 0) >= share.watching_per_user or sum(watches.values()) >= share.watching:
            return False
        watches[uid] = watches.get(uid, 0) + 1
        return True

    def end_watch(self, standing: Standing, uid: int) -> None:
        """Stop counting a connection that watches."""
        watches = self._watches[standing]
        watches[uid] -= 1
        if not watches[uid]:
            del watches[uid]

    def idle_to_replace(self, standing: Standing, uid: int) -> C | None:
        """An idle connection to close for a new one of the user: the user's own, or one of a user who has more."""
        users = self._members[standing]
        own = users.get(uid, {})
        found = _idle_in(own)
        if found is not None or len(own) >= self.shares[standing].per_user:
            return found
        largest = max(users.values(), key=len, default=own)
        return _idle_in(largest) if len(largest) > len(own) else None

    def idle_of_any_user(self) -> C | None:
        """An idle connection to close when the process can open no more files, root's own ones last."""
        for standing in (Standing.OTHER, Standing.ALLOWED, Standing.OWN):
            users: Iterable[dict[C, None]] = sorted(self._members[standing].values(), key=len, reverse=True)
            for members in users:
                found = _idle_in(members)
                if found is not None:
                    return found
        return None


def _idle_in(members: dict[C, None]) -> C | None:
    """The first idle connection among the next ones to check. Checked connections move to the end."""
    for _ in range(min(_MAX_CHECKS, len(members))):
        connection = next(iter(members))
        if connection.is_idle():
            return connection
        del members[connection]
        members[connection] = None
    return None
