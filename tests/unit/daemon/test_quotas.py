# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Quotas: which users may have one more connection, and which idle connection is closed for it."""

from __future__ import annotations

import pytest

from epa_orchestrator.daemon.peers import Standing
from epa_orchestrator.daemon.quotas import Quotas, Share, shares_of

OWN, ALLOWED, OTHER = Standing.OWN, Standing.ALLOWED, Standing.OTHER


class Fake:
    """A connection that is idle or not."""

    def __init__(self, *, idle: bool = False) -> None:
        self.idle = idle

    def is_idle(self) -> bool:
        return self.idle


def filled(standing: Standing, uid: int, count: int, *, idle: bool = False) -> tuple[Quotas[Fake], list[Fake]]:
    """Quotas of 64 connections with some of a user's."""
    quotas: Quotas[Fake] = Quotas(64)
    return quotas, add(quotas, standing, uid, count, idle=idle)


def add(quotas: Quotas[Fake], standing: Standing, uid: int, count: int, *, idle: bool = False) -> list[Fake]:
    connections = [Fake(idle=idle) for _ in range(count)]
    for connection in connections:
        assert quotas.has_room(standing, uid)
        quotas.add(connection, standing, uid)
    return connections


@pytest.mark.parametrize(
    ("connections", "own", "allowed", "other"),
    [
        (2048, Share(1024, 1024, 768), Share(512, 256, 384), Share(512, 128, 384)),
        (64, Share(32, 32, 24), Share(16, 8, 12), Share(16, 4, 12)),
        (6, Share(4, 4, 3), Share(1, 1, 1), Share(1, 1, 1)),
        (1, Share(1, 1, 1), Share(1, 1, 1), Share(1, 1, 1)),
    ],
)
def test_splits_connections_into_shares(connections: int, own: Share, allowed: Share, other: Share) -> None:
    assert shares_of(connections) == {OWN: own, ALLOWED: allowed, OTHER: other}


@pytest.mark.parametrize(("standing", "most"), [(OWN, 32), (ALLOWED, 8), (OTHER, 4)])
def test_one_user_has_room_up_to_its_limit(standing: Standing, most: int) -> None:
    quotas, connections = filled(standing, 1000, most)
    assert not quotas.has_room(standing, 1000)
    quotas.remove(connections[0], standing, 1000)
    assert quotas.has_room(standing, 1000)


def test_all_users_of_a_standing_have_room_up_to_their_share() -> None:
    quotas, _ = filled(OTHER, 1000, 4)
    for uid in (1001, 1002, 1003):
        add(quotas, OTHER, uid, 4)
    assert not quotas.has_room(OTHER, 1004)
    assert quotas.has_room(ALLOWED, 1004)
    assert quotas.has_room(OWN, 0)


def test_replaces_an_idle_connection_of_the_same_user_first() -> None:
    quotas, connections = filled(OTHER, 1000, 4)
    add(quotas, OTHER, 1001, 4, idle=True)
    assert quotas.idle_to_replace(OTHER, 1000) is None
    connections[2].idle = True
    assert quotas.idle_to_replace(OTHER, 1000) is connections[2]


def test_replaces_an_idle_connection_of_the_user_with_most() -> None:
    quotas, idle = filled(OTHER, 1000, 4, idle=True)
    for uid in (1001, 1002):
        add(quotas, OTHER, uid, 4)
    add(quotas, OTHER, 1003, 3)
    add(quotas, OTHER, 1004, 1)
    assert not quotas.has_room(OTHER, 1003)
    assert quotas.idle_to_replace(OTHER, 1003) in idle
    assert quotas.idle_to_replace(OTHER, 1005) in idle


def test_checks_every_connection_in_the_end() -> None:
    quotas, connections = filled(OWN, 0, 32)
    connections[30].idle = True
    found = [quotas.idle_to_replace(OWN, 0) for _ in range(4)]
    assert found == [None, None, None, connections[30]]


def test_replaces_connections_of_other_users_before_those_of_root() -> None:
    quotas, _ = filled(OWN, 0, 4, idle=True)
    (allowed,) = add(quotas, ALLOWED, 1000, 1, idle=True)
    (other,) = add(quotas, OTHER, 1001, 1, idle=True)
    assert quotas.idle_of_any_user() is other
    other.idle = False
    assert quotas.idle_of_any_user() is allowed
    quotas.remove(allowed, ALLOWED, 1000)
    own = quotas.idle_of_any_user()
    assert own is not None
    assert own is not other


def test_replaces_nothing_when_no_connection_is_idle() -> None:
    quotas, _ = filled(OTHER, 1000, 4)
    assert quotas.idle_of_any_user() is None


def test_counts_waiting_changes_up_to_their_share() -> None:
    quotas: Quotas[Fake] = Quotas(64)
    assert [quotas.begin_change(OTHER) for _ in range(13)] == [True] * 12 + [False]
    assert quotas.begin_change(OWN)
    quotas.end_change(OTHER)
    assert [quotas.begin_change(OTHER) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("standing", "most"), [(OWN, 16), (ALLOWED, 4), (OTHER, 2)])
def test_one_user_can_watch_with_half_of_its_connections(standing: Standing, most: int) -> None:
    quotas: Quotas[Fake] = Quotas(64)
    assert [quotas.begin_watch(standing, 1000) for _ in range(most + 1)] == [True] * most + [False]
    quotas.end_watch(standing, 1000)
    assert quotas.begin_watch(standing, 1000)


def test_all_users_together_can_watch_with_half_of_their_share() -> None:
    quotas: Quotas[Fake] = Quotas(64)
    granted = [quotas.begin_watch(OTHER, uid) for uid in range(6) for _ in range(2)]
    assert granted == [True] * 8 + [False] * 4
