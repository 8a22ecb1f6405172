# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The packed charm takes over from the older charm and its snap, and never runs the older daemon again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fake_snapd.snaps import CONSUMER, NAME

from .unit import Host, Outcome, Unit

#: The older charm's service holds two CPUs.
USED = ("active", "4 of 6 CPUs free, 1 service")
CHANNEL = "2026.1/stable"
NOTE = (
    f"set snap-channel to '' (with Sunbeam, in its manifest): revision 4 in {CHANNEL} is the older snap, which this"
    " charm does not run; version 2.0 runs (revision x1)"
)
STATE: dict[str, Any] = {
    "version": 1,
    "allocations_db": {"allocations": {"nova": "2-3"}},
    "hugepages_db": {"allocations": {}},
}


@pytest.fixture
def older(unit: Unit, host: Host) -> Unit:
    """What the older charm has left: its options, and its snap from the channel, connected and not held."""
    host.older_state = STATE
    host.snapd.store.publish(NAME, CHANNEL, 4, "1.0", older=True)
    host.snapd.handle("POST", f"/v2/snaps/{NAME}", {"action": "install", "channel": CHANNEL})
    for plug, slot in (
        ((NAME, "sys-devices-system-node"), ("", "system-files")),
        ((CONSUMER, "epa-info"), (NAME, "epa-info")),
    ):
        if plug[0] == CONSUMER:
            host.snapd.add_consumer()
        host.snapd.connections[plug, slot] = "manual"
    unit.config = {"snap-name": NAME, "snap-channel": CHANNEL}
    return unit


@pytest.fixture
def upgraded(older: Unit) -> Unit:
    """The unit after `juju refresh`."""
    assert older.hook("upgrade-charm").status == ("active", NOTE)
    return older


def blocked(outcome: Outcome) -> str:
    status, sentence = outcome.status
    assert status == "blocked"
    return sentence


def claims(host: Host) -> dict[str, str]:
    return {claim.service_name: claim.allocated_cores for claim in host.client.list_allocations().allocations}


def test_refresh_from_the_older_charm_ends_active_with_every_claim(older: Unit, host: Host) -> None:
    outcome = older.hook("upgrade-charm")
    assert outcome.status == ("active", NOTE)
    snap = host.snapd.snaps[NAME]
    assert (snap.revision, snap.tracking, snap.held, outcome.version) == ("x1", CHANNEL, True, "2.0")
    assert claims(host) == {"nova": "2-3"}
    assert host.snapd.slot_of((NAME, "sys-devices-system-node")) == ":system-files"
    assert host.snapd.slot_of((CONSUMER, "epa-info")) == f"{NAME}:epa-info"
    assert older.hook("config-changed").statuses == [("active", NOTE)]


def test_channel_is_downloaded_once_and_asked_at_each_event(upgraded: Unit, host: Host) -> None:
    peeks = host.snapd.request_count("POST peek")
    for _ in range(2):
        assert upgraded.hook("update-status").statuses == [("active", NOTE)]
    assert host.snapd.request_count("POST download") == 1
    assert host.snapd.request_count("POST peek") == peeks + 2


def test_refresh_snap_succeeds_and_keeps_the_daemon(upgraded: Unit, host: Host) -> None:
    outcome = upgraded.action("refresh-snap")
    assert outcome.failure is None
    assert outcome.document == {"before": "x1", "after": "x1", "problems": [NOTE]}
    assert claims(host) == {"nova": "2-3"}


def test_channel_that_offers_ours_later_is_taken(upgraded: Unit, host: Host) -> None:
    host.snapd.store.publish(NAME, CHANNEL, 9, "3.0")
    outcome = upgraded.hook("update-status")
    assert (outcome.status, outcome.version) == (USED, "3.0")
    assert host.snapd.snaps[NAME].revision == "9"
    assert claims(host) == {"nova": "2-3"}
    host.snapd.store.publish(NAME, CHANNEL, 10, "1.1", older=True)
    assert upgraded.action("refresh-snap").failure is None
    assert host.snapd.snaps[NAME].revision == "9"


def test_reset_channel_leaves_the_snap_in_the_charm(upgraded: Unit) -> None:
    assert upgraded.configure(snap_channel="").statuses == [USED]


def test_refresh_without_the_store_installs_the_snap_in_the_charm(older: Unit, host: Host) -> None:
    host.snapd.store.down = True
    status, sentence = older.hook("upgrade-charm").status
    assert (status, host.snapd.snaps[NAME].revision, host.snapd.snaps[NAME].held) == ("active", "x1", True)
    assert sentence.startswith(f"the store cannot be reached for {CHANNEL} in the store (")
    host.snapd.store.down = False
    assert older.hook("update-status").status == ("active", NOTE)
    assert claims(host) == {"nova": "2-3"}


def test_unreachable_store_keeps_our_daemon_active(upgraded: Unit, host: Host) -> None:
    host.snapd.store.down = True
    status, sentence = upgraded.hook("update-status").status
    assert status == "active"
    assert sentence.startswith(f"the store cannot be reached for {CHANNEL} in the store (")
    assert sentence.endswith("version 2.0 runs (revision x1)")
    assert "the store cannot be reached" in str(upgraded.action("refresh-snap").failure)


def test_attached_older_snap_is_refused(upgraded: Unit, host: Host) -> None:
    upgraded.attach_older()
    assert blocked(upgraded.hook("upgrade-charm")) == (
        f"attach another snap as the resource {NAME}-snap, or an empty file: the file attached.snap is the older snap"
        " (version 1.0), which this charm does not run"
    )
    assert host.snapd.snaps[NAME].revision == "x1"
    upgraded.attach("")
    assert upgraded.hook("upgrade-charm").status == ("active", NOTE)


@pytest.mark.parametrize(("keep", "expected"), [("ours", {"nova": "2-3", "ovs": "4"}), ("older", {"ceph": "4-5"})])
def test_older_daemon_in_between_blocks_until_the_claims_are_settled(
    keep: str, expected: dict[str, str], upgraded: Unit, host: Host
) -> None:
    assert host.client.allocate("ovs", 1).allocated_cores == "4"
    host.older_state = STATE | {"allocations_db": {"allocations": {"ceph": "4-5"}}}
    host.snapd.revert(NAME, "4")
    sentence = blocked(upgraded.hook("update-status"))
    assert sentence.startswith(
        "choose which claims count: run 'juju run epa-orchestrator/0 settle-claims keep=ours' or 'juju run"
        " epa-orchestrator/0 settle-claims keep=older': the older daemon (revision 4) ran on "
    )
    assert host.snapd.snaps[NAME].revision == "x2", "ours is back at once"
    assert claims(host) == {"nova": "2-3", "ovs": "4"}
    host.snapd.history.clear()
    assert blocked(upgraded.hook("update-status")) == sentence, "snapd forgets changes after a day"
    outcome = upgraded.action("settle-claims", keep=keep)
    assert outcome.failure is None, outcome.failure
    assert outcome.status[0] == "active"
    assert upgraded.hook("update-status").status[0] == "active"
    assert claims(host) == expected


def test_older_daemon_is_replaced_while_the_store_is_down(upgraded: Unit, host: Host) -> None:
    host.snapd.revert(NAME, "4")
    host.snapd.store.down = True
    assert blocked(upgraded.hook("update-status")).startswith("choose which claims count: ")
    assert host.snapd.snaps[NAME].revision == "x2"
    assert claims(host) == {"nova": "2-3"}


def test_older_daemon_between_two_events_blocks(upgraded: Unit, host: Host) -> None:
    host.snapd.revert(NAME, "4")
    host.snapd.revert(NAME, "x1")
    assert blocked(upgraded.hook("update-status")).startswith("choose which claims count: ")
    assert upgraded.action("settle-claims", keep="ours").failure is None
    assert upgraded.hook("update-status").statuses == [("active", NOTE)]
