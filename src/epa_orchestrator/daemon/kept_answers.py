# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Kept answers: how many bytes of answers the daemon keeps for clients that have not read them yet.

A client may read as slowly as it likes, and the daemon keeps what the socket has no room for. So what is kept for one
user is limited, and what is kept for all users who may only read, or for all who are allowed to change claims. Root and
the daemon's own user have no limit. Clients that get the same bytes share them, so an answer counts once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from epa_orchestrator.daemon.peers import Standing
from epa_orchestrator.errors import EpaError

#: The most bytes of one user, and of all users of a standing. One answer of a user always fits.
_MOST_OF_ONE_USER: Final = 8 * 1024 * 1024
_MOST_OF_ALL: Final = 32 * 1024 * 1024
#: Smaller answers do not count: the socket has room for them.
_SMALL: Final = 64 * 1024

#: Says that an answer is kept no longer. Call it once.
LetGo = Callable[[], None]


class TooMuchUnread(EpaError):
    """An answer that is not sent, because the daemon keeps too much already."""


class KeptAnswers:
    """The answers that are kept, by user and standing."""

    def __init__(self) -> None:
        self._of_all = {standing: _Answers() for standing in Standing}
        self._of_users: dict[tuple[Standing, int], _Answers] = {}

    def keep(self, answer: bytes, standing: Standing, uid: int) -> LetGo:
        """Count an answer of a user until the call that is returned.

        Raises TooMuchUnread.
        """
        if len(answer) <= _SMALL or standing is Standing.OWN:
            return nothing_kept
        of_all, of_user = self._of_all[standing], self._of_users.get((standing, uid), _Answers())
        if not (of_user.have_room(answer, _MOST_OF_ONE_USER) and of_all.have_room(answer, _MOST_OF_ALL)):
            raise TooMuchUnread(
                f"Too many large answers wait to be read: read those of user {uid} to their end, or try again later"
            )
        self._of_users[standing, uid] = of_user
        of_all.add(answer)
        of_user.add(answer)
        return partial(self._let_go, answer, standing, uid)

    def _let_go(self, answer: bytes, standing: Standing, uid: int) -> None:
        of_user = self._of_users[standing, uid]
        of_user.remove(answer)
        if not of_user.size:
            del self._of_users[standing, uid]
        self._of_all[standing].remove(answer)


def nothing_kept() -> None:
    """Let go of nothing."""


class _Answers:
    """Answers, and how many bytes (`size`) they take; the same object counts once."""

    def __init__(self) -> None:
        self.size = 0
        #: By id: the answer, which keeps the id its own, and how often it is kept.
        self._kept: dict[int, tuple[bytes, int]] = {}

    def have_room(self, answer: bytes, most: int) -> bool:
        """Whether one more answer stays within the most bytes."""
        return not self.size or id(answer) in self._kept or self.size + len(answer) <= most

    def add(self, answer: bytes) -> None:
        """Keep an answer once more."""
        _, times = self._kept.get(id(answer), (answer, 0))
        self._kept[id(answer)] = answer, times + 1
        if not times:
            self.size += len(answer)

    def remove(self, answer: bytes) -> None:
        """Keep an answer once less."""
        _, times = self._kept.pop(id(answer))
        if times > 1:
            self._kept[id(answer)] = answer, times - 1
        else:
            self.size -= len(answer)
