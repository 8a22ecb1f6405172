"""Quotas: how many connections each user may have, and which one makes room for a new one: no user can lock out others.

There are three shares: of root and the daemon's own user, of the users that the settings allow to change claims, and of
all other users. One user gets only a part of the second or the third.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from epa_orchestrator.daemon.peers import Standing

#: How many of a user's connections are looked at to find one that can make room; the next call looks at others.
_LOOKS: Final = 8


class Share(NamedTuple):
    """The most connections: of all users of a standing, of one of these users, and of those that wait for a commit."""

    together: int
    each: int
    waiting: int


def shares_of(connections: int) -> dict[Standing, Share]:
    """The shares of so many connections: half for root, a quarter for allowed users, a quarter for all others."""
    quarter = max(connections // 4, 1)
    half = max(connections - 2 * quarter, 1)
    return {
        Standing.OWN: _share(half, half),
        Standing.ALLOWED: _share(quarter, quarter // 2),
        Standing.OTHER: _share(quarter, quarter // 4),
    }


def _share(together: int, each: int) -> Share:
    """A share in which waiting changes leave a quarter for readings."""
    return Share(together, max(each, 1), max(together * 3 // 4, 1))


class MayBeIdle(Protocol):
    """What this module needs of a connection."""

    def is_idle(self) -> bool:
        """Whether it may be closed because its client makes no progress."""
        ...


C = TypeVar("C", bound=MayBeIdle)


class Quotas(Generic[C]):
    """All connections by standing and user."""

    def __init__(self, connections: int) -> None:
        self.shares = shares_of(connections)
        self._members: dict[Standing, dict[int, dict[C, None]]] = {standing: {} for standing in Standing}
        self._counts = dict.fromkeys(Standing, 0)

    def add(self, connection: C, standing: Standing, uid: int) -> None:
        """Count a connection."""
        self._members[standing].setdefault(uid, {})[connection] = None
        self._counts[standing] += 1

    def remove(self, connection: C, standing: Standing, uid: int) -> None:
        """A counted connection has been closed."""
        users = self._members[standing]
        del users[uid][connection]
        self._counts[standing] -= 1
        if not users[uid]:
            del users[uid]

    def has_room(self, standing: Standing, uid: int) -> bool:
        """Whether the user may have one more connection."""
        share = self.shares[standing]
        return self._counts[standing] < share.together and len(self._members[standing].get(uid, ())) < share.each

    def idle_instead_of(self, standing: Standing, uid: int) -> C | None:
        """A connection that makes room for the user's new one: the user's own, or one of a user who has more."""
        users = self._members[standing]
        own = users.get(uid, {})
        found = _idle_in(own)
        if found is not None or len(own) >= self.shares[standing].each:
            return found
        largest = max(users.values(), key=len, default=own)
        return _idle_in(largest) if len(largest) > len(own) else None

    def idle_anywhere(self) -> C | None:
        """A connection that makes room when the process can open no more files: of other users rather than root's."""
        for standing in (Standing.OTHER, Standing.ALLOWED, Standing.OWN):
            users: Iterable[dict[C, None]] = sorted(self._members[standing].values(), key=len, reverse=True)
            for members in users:
                found = _idle_in(members)
                if found is not None:
                    return found
        return None


def _idle_in(members: dict[C, None]) -> C | None:
    """An idle connection among the next ones to look at; the others go to the end."""
    for _ in range(min(_LOOKS, len(members))):
        connection = next(iter(members))
        if connection.is_idle():
            return connection
        del members[connection]
        members[connection] = None
    return None
