# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Kept answers: what users have not read is limited in bytes, for each of them and for all, but not for root."""

from __future__ import annotations

import pytest

from epa_orchestrator.daemon import kept_answers
from epa_orchestrator.daemon.kept_answers import KeptAnswers, TooMuchUnread
from epa_orchestrator.daemon.peers import Standing

OTHER = Standing.OTHER


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> KeptAnswers:
    """Two answers of 100 bytes for each user, and three for all users of a standing."""
    monkeypatch.setattr(kept_answers, "_SMALL", 10)
    monkeypatch.setattr(kept_answers, "_MOST_OF_ONE_USER", 200)
    monkeypatch.setattr(kept_answers, "_MOST_OF_ALL", 300)
    return KeptAnswers()


def answer(size: int = 100) -> bytes:
    """An answer of its own."""
    return bytes(bytearray(size))


def test_a_user_has_a_limit(kept: KeptAnswers) -> None:
    kept.keep(answer(), OTHER, 7)
    kept.keep(answer(), OTHER, 7)
    with pytest.raises(TooMuchUnread, match="read those of user 7 to their end, or try again later"):
        kept.keep(answer(), OTHER, 7)


def test_all_users_of_a_standing_have_a_limit(kept: KeptAnswers) -> None:
    for uid in (7, 8, 9):
        kept.keep(answer(), OTHER, uid)
    with pytest.raises(TooMuchUnread):
        kept.keep(answer(), OTHER, 10)
    kept.keep(answer(), Standing.ALLOWED, 10)


def test_root_has_no_limit(kept: KeptAnswers) -> None:
    for _ in range(100):
        kept.keep(answer(), Standing.OWN, 0)


def test_the_same_answer_counts_once(kept: KeptAnswers) -> None:
    shared = answer()
    for uid in (7, 8, 9, 10):
        for _ in range(50):
            kept.keep(shared, OTHER, uid)
    kept.keep(answer(), OTHER, 7)


def test_an_answer_counts_until_the_last_client_has_it(kept: KeptAnswers) -> None:
    shared = answer()
    let_go = [kept.keep(shared, OTHER, 7) for _ in range(2)]
    kept.keep(answer(), OTHER, 7)
    let_go[0]()
    with pytest.raises(TooMuchUnread):
        kept.keep(answer(), OTHER, 7)
    let_go[1]()
    kept.keep(answer(), OTHER, 7)


def test_small_answers_do_not_count(kept: KeptAnswers) -> None:
    for _ in range(100):
        kept.keep(answer(10), OTHER, 7)
    kept.keep(answer(200), OTHER, 7)


def test_one_answer_fits_however_large_it_is(kept: KeptAnswers) -> None:
    let_go = kept.keep(answer(1000), OTHER, 7)
    with pytest.raises(TooMuchUnread):
        kept.keep(answer(), OTHER, 7)
    let_go()
    kept.keep(answer(1000), OTHER, 7)


def test_nothing_is_left_of_answers_that_were_read(kept: KeptAnswers) -> None:
    for let_go in [kept.keep(answer(), OTHER, uid) for uid in (7, 8, 9)]:
        let_go()
    assert not kept._of_users
    assert not kept._of_all[OTHER].size
