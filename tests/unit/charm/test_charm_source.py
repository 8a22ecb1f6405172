"""Where the charm takes the snap from: the resource, the store, or the file inside the charm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ops
import pytest
from ops import testing

from orchestrator_snap import FileSource, Source, StoreSource

from .unit import (
    OK,
    STEPS,
    Unit,
)

CHANNEL = {"snap-channel": "latest/edge"}
PINNED = {"snap-channel": "latest/edge", "snap-revision": 42}


@pytest.mark.parametrize(
    ("attached", "config", "source"),
    [
        (False, {}, "bundled"),
        (False, CHANNEL, StoreSource("latest/edge")),
        (False, PINNED, StoreSource("latest/edge", 42)),
        (True, {}, "attached"),
        (True, CHANNEL, "attached"),
        (True, PINNED, "attached"),
    ],
)
def test_the_resource_comes_before_the_channel_and_the_channel_before_the_charm(
    attached: bool, config: dict[str, Any], source: Source | str, unit: Unit
) -> None:
    if attached:
        unit.resource.write_text("a snap")
    unit.config = config
    assert unit.status("install") == OK
    named = {"bundled": FileSource(unit.bundled), "attached": FileSource(unit.resource)}
    assert unit.workload.source == (named[source] if isinstance(source, str) else source)


def test_the_source_changes_in_both_directions(settled: Unit) -> None:
    settled.config = CHANNEL
    settled.run()
    assert settled.workload.source == StoreSource("latest/edge")
    settled.config = {}
    settled.run()
    assert settled.workload.source == FileSource(settled.bundled)
    assert settled.workload.calls.count("install") == 2


@pytest.mark.parametrize(
    ("attached", "config", "message"),
    [
        (False, {}, "installing the snap from the file epa-orchestrator.snap"),
        (True, {}, "installing the snap from the file resource.snap"),
        (False, CHANNEL, "installing the snap from latest/edge in the store"),
        (False, PINNED, "installing the snap from revision 42 in latest/edge in the store"),
    ],
)
def test_the_status_says_what_is_being_installed(
    attached: bool, config: dict[str, Any], message: str, unit: Unit
) -> None:
    if attached:
        unit.resource.write_text("a snap")
    unit.config = config
    assert unit.status("install") == OK
    assert unit.ctx.unit_status_history == [testing.UnknownStatus(), testing.MaintenanceStatus(message)]


def test_nothing_is_said_of_installing_when_nothing_is_installed(settled: Unit) -> None:
    settled.ctx.unit_status_history.clear()
    settled.run("update_status")
    assert settled.ctx.unit_status_history == [testing.UnknownStatus()]


@pytest.mark.parametrize("reason", ["no such resource", "resource#epa-orchestrator/epa-orchestrator-snap not found"])
def test_a_resource_that_was_never_attached_is_none(reason: str, unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: ops.Resources, name: str) -> Path:
        raise ops.ModelError(reason)

    monkeypatch.setattr(ops.Resources, "fetch", fetch)
    assert unit.status("install") == OK
    assert unit.workload.source == FileSource(unit.bundled)


def test_a_resource_that_juju_cannot_hand_out_leaves_the_snap_as_it_is(
    settled: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(self: ops.Resources, name: str) -> Path:
        raise ops.ModelError("could not download resource: connection refused")

    monkeypatch.setattr(ops.Resources, "fetch", fetch)
    assert settled.status() == testing.BlockedStatus(
        "failed to fetch the resource epa-orchestrator-snap: attach it again (could not download resource: connection"
        " refused)"
    )
    assert settled.workload.calls == list(STEPS)
