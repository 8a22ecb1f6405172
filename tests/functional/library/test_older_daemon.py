# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A daemon that speaks only version 1.0 gets the requests that it understands, and never one that it would misread."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from charms.epa_orchestrator.v0 import epa
from tests.functional.harness import Daemon

from .older_daemon import OlderDaemon

#: What the released older daemons name in their listing, the oldest first.
RELEASES = (None, (), ("non-preemptive-allocations",), ("non-preemptive-allocations", "cpu-pools"))

#: Requests with a field or an action that no older daemon knows.
NEWER: dict[str, tuple[str, dict[str, Any]]] = {
    "dry run": ("dry-run", {"dry_run": True}),
    "near": ("placement-hints", {"near": "eth0"}),
    "near node 0": ("placement-hints", {"near": 0}),
    "numa policy": ("placement-hints", {"numa_policy": "restricted"}),
    "thread policy": ("placement-hints", {"cpu_thread_policy": "isolate"}),
    "cache alignment": ("placement-hints", {"uncore_cache_alignment": "require"}),
    "takes nothing": ("may-take", {"may_take": {}, "numa_node": 0}),
}


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path that is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="epa-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=RELEASES, ids=str)
def older(request: pytest.FixtureRequest, directory: Path) -> Iterator[OlderDaemon]:
    with OlderDaemon(directory / "epa.sock", request.param) as daemon:
        yield daemon
        assert not daemon.is_dead


def test_plain_requests_are_served(older: OlderDaemon) -> None:
    client = epa.Client(older.path)
    assert client.is_available()
    assert str(client.allocate("ceph", 4).cpus) == "0-3"
    assert str(client.allocate("ovs", 2, numa_node=1).cpus) == "8-9"
    listing = client.listing()
    assert {claim.service: str(claim.cpus) for claim in listing.claims} == {"ceph": "0-3", "ovs": "8-9"}
    assert listing.features == frozenset(older.features or ())
    assert client.release("ovs", numa_node=1).cpus == epa.Cpus()
    older.claims.clear()
    assert len(client.allocate("nova", default_size=True).cpus) == 12


def test_older_daemon_would_allocate_at_a_dry_run(older: OlderDaemon) -> None:
    """The reason for all this: it shows that the stand-in does harm if it gets the field."""
    client = epa.Client(older.path)
    with pytest.raises(epa.MissingFeature):
        client.allocate("ceph", 4, dry_run=True)
    assert older.claims == {}
    request = {"action": "allocate_cores", "service_name": "ceph", "num_of_cores": 4, "dry_run": True}
    client._request(request | {"dry_run": None, "dryrun": True}, client._end())
    assert older.claims == {"ceph": {0, 1, 2, 3}}


@pytest.mark.parametrize(("feature", "fields"), NEWER.values(), ids=NEWER)
def test_newer_fields_are_never_sent(older: OlderDaemon, feature: str, fields: dict[str, Any]) -> None:
    client = epa.Client(older.path)
    for _ in range(2):
        with pytest.raises(
            epa.MissingFeature, match=f"lacks the feature {feature}, .*: install a newer one$"
        ) as caught:
            client.allocate("ceph", 4, **fields)
        assert caught.value.feature == feature
        assert not caught.value.outcome_unknown
    assert older.claims == {}
    assert [request["action"] for request in older.requests] == ["list_allocations"], "the features are remembered"


def test_watch_is_a_missing_feature(older: OlderDaemon) -> None:
    with (
        epa.Client(older.path).watch() as events,
        pytest.raises(epa.MissingFeature, match=r"lacks the feature watch, and tells of no changes"),
    ):
        next(events)
    assert [request["action"] for request in older.requests] == ["list_allocations"]


def test_pool_and_policy_need_their_features(older: OlderDaemon) -> None:
    client = epa.Client(older.path)
    features = older.features or ()
    if "cpu-pools" not in features:
        with pytest.raises(epa.MissingFeature, match="cpu-pools"):
            client.listing("general")
        with pytest.raises(epa.MissingFeature, match="cpu-pools"):
            client.allocate("ceph", 2, pool="general")
        with pytest.raises(epa.MissingFeature, match="cpu-pools"):
            client.release("ceph", "general")
    if "non-preemptive-allocations" not in features:
        with pytest.raises(epa.MissingFeature, match="would ignore preemption_policy"):
            client.allocate("ceph", 2, preemption_policy="non-preemptive")
        assert older.claims == {}
    else:
        assert client.allocate("ceph", 2, preemption_policy="non-preemptive").cpus.ids == (0, 1)


def test_release_of_everything_never_allocates(older: OlderDaemon) -> None:
    """The oldest daemons take -1 as a wish for the default size."""
    client = epa.Client(older.path)
    client.allocate("ceph", 4)
    if older.features:
        assert client.release("ceph").cpus.ids == ()
        assert older.claims == {}
    else:
        with pytest.raises(epa.MissingFeature, match="would allocate CPUs, as it releases by numa_node only"):
            client.release("ceph")
        assert older.claims == {"ceph": {0, 1, 2, 3}}
        client.release("ceph", numa_node=0)
        assert older.claims == {"ceph": set()}


def test_unknown_action_is_refused_in_one_line(older: OlderDaemon) -> None:
    with pytest.raises(epa.Refused, match=r"^1 validation error Unknown action: get_memory_info$"):
        epa.Client(older.path).hugepages()


def test_features_are_forgotten_when_an_older_daemon_takes_over() -> None:
    """A long-lived client, and `snap revert` between two of its requests."""
    with Daemon() as daemon:
        client = epa.Client(daemon.start().socket_path)
        assert client.allocate("ceph", 2, dry_run=True).dry_run
        daemon.stop()
        with OlderDaemon(daemon.socket_path, ()) as older:
            with pytest.raises(epa.MissingFeature):
                client.allocate("ceph", 2, dry_run=True)
            assert older.claims == {}
            assert not older.is_dead
        daemon.socket_path.unlink()
        daemon.start()
        assert client.allocate("ceph", 2, dry_run=True).dry_run


def test_older_daemon_that_takes_over_while_connecting_gets_no_dry_run(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes over between the look at the socket file and the connection."""
    path, later_path = directory / "epa.sock", directory / "later.sock"
    with OlderDaemon(path, ("dry-run",)), OlderDaemon(later_path, ()) as later:
        client = epa.Client(path)
        client._known = (client._identity(), frozenset({"dry-run"}))
        look = client._identity

        def look_and_replace() -> tuple[int, ...]:
            found = look()
            if later_path.exists():
                later_path.replace(path)
            return found

        monkeypatch.setattr(client, "_identity", look_and_replace)
        with pytest.raises(epa.MissingFeature):
            client.allocate("ceph", 2, dry_run=True)
        assert later.claims == {}
        assert not later.is_dead


def test_answer_that_is_no_dry_run_says_that_a_change_may_have_been_made(directory: Path) -> None:
    with OlderDaemon(directory / "epa.sock", ("dry-run",)) as lying:
        client = epa.Client(lying.path)
        with pytest.raises(
            epa.InvalidAnswer, match=r"it is not about a dry run.*not known whether the change"
        ) as caught:
            client.allocate("ceph", 2, dry_run=True)
        assert caught.value.outcome_unknown
        lying.features = ()
        with pytest.raises(epa.MissingFeature):
            client.allocate("ceph", 2, dry_run=True)
