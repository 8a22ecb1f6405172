# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Only root and the users that the settings name may change claims; the kernel vouches for their credentials."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest

from .harness import Daemon, Json, Reused, error_of, wait_until
from .other_user import GID, UID, ask_as

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")

OTHER_GID: Final = 61236

READING: Final[list[tuple[str, Json]]] = [
    ("list_allocations", {}),
    ("get_memory_info", {"service_name": "svc"}),
    ("get_machine", {}),
]
CHANGES: Final[list[tuple[str, Json]]] = [
    ("allocate_cores", {"service_name": "new", "num_of_cores": 1}),
    ("allocate_cores", {"service_name": "svc", "num_of_cores": 2}),
    ("allocate_cores", {"service_name": "svc", "num_of_cores": -1}),
    ("allocate_cores_percent", {"service_name": "new", "percent": 10}),
    ("allocate_cores_percent", {"service_name": "svc", "percent": 0}),
    ("allocate_numa_cores", {"service_name": "new", "numa_node": 0, "num_of_cores": 1}),
    ("allocate_numa_cores", {"service_name": "svc", "numa_node": 0, "num_of_cores": -1}),
    ("allocate_hugepages", {"service_name": "new", "node_id": 0, "size_kb": 2048, "hugepages_requested": 1}),
    ("allocate_hugepages", {"service_name": "svc", "node_id": 0, "size_kb": 2048, "hugepages_requested": -1}),
]


@pytest.fixture
def daemon(reused: Reused) -> Iterator[Daemon]:
    """A daemon with claims, whose socket other users can reach."""
    with reused.lent() as lent:
        lent.base.chmod(0o755)
        lent.data.chmod(0o755)
        lent.cores("svc", 2)
        lent.pages("svc", 0, 2048, 4)
        yield lent


def settle(daemon: Daemon, settings: dict[str, Any]) -> None:
    """Change the settings of the running daemon; a general pool shows that it has read them."""
    daemon.configure(settings | {"cpu-pool": "0"})
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "error" not in daemon.call("list_allocations", pool="general"), "the settings are read")


def test_other_users_may_read(daemon: Daemon) -> None:
    for action, fields in READING:
        assert ask_as(daemon, action, fields)[1] == daemon.ok(action, **fields)


def test_other_users_may_not_change_claims(daemon: Daemon) -> None:
    before = daemon.snapshot()
    for action, fields in CHANGES:
        assert str(UID) in error_of(ask_as(daemon, action, fields)[1])
        assert daemon.snapshot() == before


def test_group_of_root_is_not_root(daemon: Daemon) -> None:
    assert str(UID) in error_of(ask_as(daemon, *CHANGES[0], gid=0, groups=[0])[1])


@pytest.mark.parametrize(
    ("settings", "who"),
    [
        ({"allowed-uids": [UID]}, {}),
        ({"allowed-uids": [1, UID, 2]}, {"groups": [OTHER_GID]}),
        ({"allowed-gids": [GID]}, {}),
        ({"allowed-gids": [1, OTHER_GID]}, {"groups": [5, OTHER_GID]}),
    ],
    ids=["uid", "one of the uids", "gid", "supplementary group"],
)
def test_allowed_users_may_change_claims(daemon: Daemon, settings: Json, who: dict[str, Any]) -> None:
    settle(daemon, settings)
    for action, fields in CHANGES:
        assert "error" not in ask_as(daemon, action, fields, **who)[1]
    assert set(daemon.claims()) == {"new"}


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed-uids": [UID + 1], "allowed-gids": [GID + 100]},
        {"allowed-uids": [GID], "allowed-gids": [UID]},
        {"allowed-uids": [], "allowed-gids": []},
    ],
    ids=["others", "the other way round", "nobody"],
)
def test_other_users_stay_refused(daemon: Daemon, settings: Json) -> None:
    settle(daemon, settings)
    before = daemon.snapshot()
    for action, fields in CHANGES:
        assert str(UID) in error_of(ask_as(daemon, action, fields, groups=[OTHER_GID])[1])
    assert daemon.snapshot() == before
    daemon.cores("root", 1)


def test_reload_changes_permissions(daemon: Daemon) -> None:
    assert str(UID) in error_of(ask_as(daemon, *CHANGES[0])[1])
    settle(daemon, {"allowed-uids": [UID]})
    assert "error" not in ask_as(daemon, *CHANGES[0])[1]
    daemon.configure({})
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "error" in daemon.call("list_allocations", pool="general"), "the settings are read")
    assert str(UID) in error_of(ask_as(daemon, *CHANGES[0])[1])


def logged(daemon: Daemon, *numbers: int) -> bool:
    """Whether a line of the log names all these numbers."""
    lines = daemon.log().splitlines()
    return any({str(number) for number in numbers} <= set(re.findall(r"\d+", line)) for line in lines)


def test_log_names_the_peer(daemon: Daemon) -> None:
    for action, fields in (READING[0], CHANGES[0]):
        pid, _ = ask_as(daemon, action, fields)
        wait_until(lambda pid=pid: logged(daemon, pid, UID, GID), "the log names the peer", 5)
    wait_until(lambda: logged(daemon, os.getpid(), 0), "the log names root", 5)
