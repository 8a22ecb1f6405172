# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""One owner of the snap, the note about the older one, and the choice after the older daemon ran."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from charmlibs import snap
from ops import testing

import actions
import charm
import ownership
from charm_record import Record
from errors import CharmError, TemporaryError
from installation import Plan
from older_daemon import Intrusion
from snap_sources import FileSource
from store_offer import Offer

from .unit import NO_RELATION, OK, Unit, warnings_of

NOTE = "set snap-channel to '': revision 3 in 2026.1/stable is the older snap, which this charm does not run"
INTRUSION = Intrusion("3", 1000.0)
CHOOSE = INTRUSION.sentence("epa-orchestrator/0")


@pytest.fixture
def foreign(settled: Unit, tmp_path: Path) -> Unit:
    """The snap belongs to a unit of another application."""
    (tmp_path / "agents" / "unit-first-2").mkdir(parents=True)
    settled.workload.written = Record(unit="first/2", model="m")
    return settled


# --- the older snap in the channel ---


def test_older_snap_in_the_channel_is_active_with_the_remedy_first(settled: Unit) -> None:
    settled.workload.planned = Plan(None, NOTE, Offer(3, is_ours=False))
    assert settled.status() == testing.ActiveStatus(f"{NOTE}; version 1.0.0 runs (revision x1)")
    assert (settled.workload.written.offered, settled.workload.written.accepted) == (3, False)
    settled.run()
    assert settled.workload.known == Offer(3, is_ours=False)


def test_refresh_snap_succeeds_with_the_older_snap_in_the_channel(settled: Unit) -> None:
    settled.workload.planned = Plan(None, NOTE, Offer(3, is_ours=False))
    text, document = settled.act("refresh-snap")
    assert document["problems"] == [f"{NOTE}; version 1.0.0 runs (revision x1)"]
    assert NOTE in text


def test_unreachable_store_is_active_and_fails_refresh_snap(settled: Unit) -> None:
    settled.workload.planned = Plan(None, "the store is down", unreachable="the store is down")
    assert settled.status("upgrade_charm") == testing.ActiveStatus(
        "the store is down; version 1.0.0 runs (revision x1)"
    )
    assert settled.failure("refresh-snap") == "the store is down"


def test_refresh_snap_succeeds_when_the_snap_cannot_be_held(settled: Unit) -> None:
    settled.workload.errors["hold"] = CharmError("snapd refuses the hold")
    assert settled.act("refresh-snap")[1]["problems"] == ["snapd refuses the hold"]


def test_older_snap_that_cannot_be_replaced_is_not_configured(settled: Unit) -> None:
    settled.workload.ours = False
    settled.workload.errors["plan"] = CharmError("the charm contains no snap: attach one")
    assert settled.status() == testing.BlockedStatus("the charm contains no snap: attach one")
    assert settled.workload.calls == ["hold"]


# --- refresh-snap and time ---


@pytest.mark.parametrize("step", ["connect_host", "ensure_config", "connect_consumers", "check"])
def test_refresh_snap_succeeds_with_other_problems_in_its_result(step: str, settled: Unit) -> None:
    settled.workload.errors[step] = CharmError("something else: fix it")
    text, document = settled.act("refresh-snap")
    assert text.splitlines() == ["revision x1 before, x1 now, version 1.0.0", "something else: fix it"]
    assert document["problems"] == ["something else: fix it"]


@pytest.mark.parametrize("error", [snap.TimeoutError("slow"), CharmError("no such channel: set another")])
def test_refresh_snap_fails_if_the_snap_could_not_be_refreshed(error: Exception, settled: Unit) -> None:
    settled.workload.errors["plan"] = error
    assert str(error) in settled.failure("refresh-snap")


def test_refresh_snap_that_fails_has_checked_the_daemon_within_its_time(
    settled: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "_TIME", 0.3)
    settled.workload.planned = Plan(None, "the store is down", unreachable="the store is down")
    settled.workload.slow = "check"
    start = time.monotonic()
    assert settled.failure("refresh-snap") == "the store is down"
    assert time.monotonic() - start < 15


def test_everything_that_refresh_snap_waits_for_fits_into_its_time() -> None:
    assert charm._ACTION_TIME + charm._STATUS_TIME <= 560
    assert charm._HOOK_TIME + charm._STATUS_TIME < 30 * 60


@pytest.mark.parametrize(("step", "fails"), [("plan", True), ("connect_consumers", False)])
def test_reconcile_that_takes_too_long_is_waiting(
    step: str, fails: bool, settled: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charm, "_ACTION_TIME", 0.3)
    monkeypatch.setattr(charm, "_HOOK_TIME", 0.3)
    settled.workload.slow = step
    waiting = settled.status()
    assert isinstance(waiting, testing.WaitingStatus)
    assert waiting.message == (
        "snapd is busy or slow (snapd and the daemon took more than 0.3 seconds: see 'snap changes'); the next event"
        " tries again"
    )
    if fails:
        assert settled.failure("refresh-snap") == waiting.message
    else:
        assert settled.act("refresh-snap")[1]["problems"] == [waiting.message]
    settled.workload.slow = ""
    assert settled.status() == OK


def test_missing_topology_plug_is_a_remark(settled: Unit) -> None:
    settled.workload.missing = "run 'sudo snap connect epa-orchestrator:topology': refused"
    assert settled.status() == testing.ActiveStatus(settled.workload.missing)


# --- the owner ---


def test_unit_records_that_it_owns_the_snap(unit: Unit) -> None:
    after = unit.run("install")
    assert unit.workload.written.unit == "epa-orchestrator/0"
    assert unit.workload.written.model == after.model.uuid


@pytest.mark.parametrize("event", ["install", "config_changed", "upgrade_charm", "update_status"])
def test_second_application_is_blocked_and_changes_nothing(event: str, foreign: Unit) -> None:
    assert foreign.status(event) == testing.BlockedStatus(ownership.refusal("first/2", "epa-orchestrator"))
    assert foreign.workload.calls == []
    assert foreign.workload.isolated == []


def test_second_application_says_who_owns_the_snap() -> None:
    assert ownership.refusal("first/2", "second") == (
        "run 'juju remove-application second': the unit first/2 already runs the snap epa-orchestrator on this machine,"
        " and two orchestrators would grant the same CPUs"
    )


def test_second_application_takes_over_when_the_owner_is_gone(foreign: Unit, tmp_path: Path) -> None:
    (tmp_path / "agents" / "unit-first-2").rmdir()
    assert foreign.status() == OK
    assert foreign.workload.written.unit == "epa-orchestrator/0"


def test_second_application_leaves_the_snap_when_it_is_removed(foreign: Unit) -> None:
    foreign.run("remove")
    assert foreign.workload.calls == []
    assert warnings_of(foreign) == ["the snap epa-orchestrator stays on the machine: it belongs to first/2"]


def test_second_application_cannot_refresh_the_snap(foreign: Unit) -> None:
    assert foreign.failure("refresh-snap") == ownership.refusal("first/2", "epa-orchestrator")


def test_second_application_cannot_settle_claims(foreign: Unit) -> None:
    foreign.workload.written = Record(unit="first/2", model="m", intruder="3", intruded=1.0)
    assert foreign.failure("settle-claims", {"keep": "older"}) == ownership.refusal("first/2", "epa-orchestrator")
    assert foreign.workload.calls == []


# --- the older daemon ran in between ---


def test_older_daemon_in_between_blocks_until_the_claims_are_settled(settled: Unit) -> None:
    settled.workload.intrusion = INTRUSION
    assert settled.status() == testing.BlockedStatus(CHOOSE)
    settled.workload.intrusion = None
    assert settled.status() == testing.BlockedStatus(CHOOSE), "snapd forgets it, the record does not"
    text, document = settled.act("settle-claims", {"keep": "ours"})
    assert (text, document["keep"]) == ("the claims of this daemon stay", "ours")
    assert settled.status() == OK


def test_older_daemon_is_replaced_although_the_source_fails(settled: Unit) -> None:
    settled.workload.intrusion = INTRUSION
    settled.workload.ours = False
    settled.workload.errors["plan"] = TemporaryError("the store cannot be reached: fix the network")
    settled.run()
    assert settled.workload.calls[0] == "install"
    assert settled.workload.source == FileSource(settled.bundled)


def test_settled_intrusion_does_not_come_back(settled: Unit) -> None:
    settled.workload.intrusion = INTRUSION
    settled.run()
    after = settled.ctx.run(settled.ctx.on.action("settle-claims", params={"keep": "ours"}), settled.state())
    assert after.unit_status == OK
    assert settled.status() == OK
    assert settled.workload.taken_over == ""


def test_claims_of_the_older_daemon_can_be_taken_over(settled: Unit) -> None:
    settled.workload.intrusion = INTRUSION
    settled.run()
    text, _ = settled.act("settle-claims", {"keep": "older"})
    assert settled.workload.taken_over == "3"
    assert " ".join(text.split()) == (
        "imported the older daemon's claims (revision 3); those of this one are in"
        " /var/snap/epa-orchestrator/common/state.db.replaced"
    )
    assert settled.status() == OK


def test_failed_take_over_leaves_the_choice(settled: Unit) -> None:
    settled.workload.intrusion = INTRUSION
    settled.run()
    settled.workload.errors["take_over"] = CharmError("its state cannot be taken over")
    assert settled.failure("settle-claims", {"keep": "older"}) == "its state cannot be taken over"
    assert settled.status() == testing.BlockedStatus(CHOOSE)


def test_nothing_is_settled_without_need(settled: Unit) -> None:
    assert settled.failure("settle-claims", {"keep": "older"}) == (
        "nothing has to be settled: the older daemon did not run while this one held claims"
    )
    assert settled.workload.calls == []


def test_missing_relation_is_shown_after_the_choice(settled: Unit) -> None:
    settled.relations.clear()
    settled.workload.intrusion = INTRUSION
    assert settled.status() == testing.BlockedStatus(CHOOSE)
    settled.act("settle-claims", {"keep": "ours"})
    assert settled.status() == testing.BlockedStatus(NO_RELATION)
