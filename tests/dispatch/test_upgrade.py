# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""An upgrade in steps: the charm first, then the snap of one unit at a time, and the ways back."""

from __future__ import annotations

import pytest

from tests.fake_snapd.snaps import NAME

from .unit import Host, Unit

CHANNEL = "latest/edge"
USED = ("active", "4 of 6 CPUs free, 1 service")


@pytest.fixture
def on_channel(unit: Unit, host: Host) -> Unit:
    """A unit with revision 7 of the channel, on which a service holds two CPUs; revision 8 is in the channel."""
    host.snapd.store.publish(NAME, CHANNEL, 7, "3.0")
    unit.config["snap-channel"] = CHANNEL
    assert unit.hook("install").status == ("active", "")
    assert host.client.allocate("nova", 2).allocated_cores == "2-3"
    host.snapd.store.publish(NAME, CHANNEL, 8, "3.1")
    return unit


def revision(host: Host) -> str:
    assert [claim.allocated_cores for claim in host.client.list_allocations().allocations] == ["2-3"]
    assert host.snapd.snaps[NAME].held
    return host.snapd.snaps[NAME].revision


def test_newer_revision_in_the_channel_waits_for_refresh_snap(on_channel: Unit, host: Host) -> None:
    for event in ("config-changed", "update-status"):
        assert on_channel.hook(event).statuses == [USED]
    assert revision(host) == "7"
    assert on_channel.action("refresh-snap").document == {"before": "7", "after": "8", "problems": []}
    assert revision(host) == "8"


def test_upgrade_of_the_charm_takes_the_newest_revision(on_channel: Unit, host: Host) -> None:
    assert on_channel.hook("upgrade-charm").status == USED
    assert revision(host) == "8"


def test_pinned_revision_stays_when_the_charm_is_upgraded(on_channel: Unit, host: Host) -> None:
    assert on_channel.configure(snap_revision=7).statuses == [USED]
    on_channel.bundle("4.0")
    assert on_channel.hook("upgrade-charm").statuses == [USED]
    assert on_channel.configure(snap_revision=0).statuses == [USED]
    assert revision(host) == "7", "without the pin, nothing changes by itself"
    assert on_channel.action("refresh-snap").failure is None
    assert revision(host) == "8"


def test_attached_copy_of_the_installed_snap_keeps_it_when_the_charm_is_upgraded(unit: Unit, host: Host) -> None:
    assert unit.hook("install").status == ("active", "")
    host.client.allocate("nova", 2)
    unit.attach("2.0")
    assert unit.hook("upgrade-charm").statuses == [USED]
    unit.bundle("2.1")
    assert unit.hook("upgrade-charm").statuses == [USED]
    assert revision(host) == "x1"
    unit.attach("")
    assert unit.hook("upgrade-charm").status == USED
    assert (revision(host), host.snapd.snaps[NAME].version) == ("x2", "2.1")


def test_reverted_revision_of_the_channel_stays_until_the_next_refresh(on_channel: Unit, host: Host) -> None:
    on_channel.action("refresh-snap")
    host.snapd.revert(NAME, "7")
    assert on_channel.hook("update-status").statuses == [USED]
    assert revision(host) == "7"
    assert on_channel.action("refresh-snap").failure is None
    assert revision(host) == "8"


def test_pin_goes_back_to_an_earlier_revision(on_channel: Unit, host: Host) -> None:
    on_channel.action("refresh-snap")
    assert on_channel.configure(snap_revision=7).status == USED
    assert revision(host) == "7"


def test_reverted_file_is_replaced_by_that_of_the_charm(unit: Unit, host: Host) -> None:
    assert unit.hook("install").status == ("active", "")
    host.client.allocate("nova", 2)
    unit.bundle("2.1")
    unit.hook("upgrade-charm")
    host.snapd.revert(NAME, "x1")
    assert unit.hook("update-status").status == USED
    assert (revision(host), host.snapd.snaps[NAME].version) == ("x3", "2.1")
