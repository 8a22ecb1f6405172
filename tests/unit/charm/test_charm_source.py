# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Where the charm takes the snap from: the resource, the store, or the file inside the charm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ops
import pytest
from ops import testing

from snap_sources import FileSource, Source, StoreSource

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
def test_source_is_resource_then_channel_then_charm(
    attached: bool, config: dict[str, Any], source: Source | str, unit: Unit
) -> None:
    if attached:
        unit.resource.write_text("a snap")
    unit.config = config
    assert unit.status("install") == OK
    named = {"bundled": FileSource(unit.bundled), "attached": FileSource(unit.resource)}
    assert unit.workload.source == (named[source] if isinstance(source, str) else source)


def test_changed_source_is_installed(settled: Unit) -> None:
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
def test_status_names_the_source_during_an_install(
    attached: bool, config: dict[str, Any], message: str, unit: Unit
) -> None:
    if attached:
        unit.resource.write_text("a snap")
    unit.config = config
    assert unit.status("install") == OK
    assert unit.ctx.unit_status_history == [testing.UnknownStatus(), testing.MaintenanceStatus(message)]


def test_status_does_not_mention_installing_without_an_install(settled: Unit) -> None:
    settled.ctx.unit_status_history.clear()
    settled.run("update_status")
    assert settled.ctx.unit_status_history == [testing.UnknownStatus()]


def test_resource_of_one_empty_line_counts_as_none(unit: Unit) -> None:
    """It stands for the empty file, which Juju 4.0 does not take."""
    unit.resource.write_text("\n")
    assert unit.status("install") == OK
    assert unit.workload.source == FileSource(unit.bundled)


@pytest.mark.parametrize("reason", ["no such resource", "resource#epa-orchestrator/epa-orchestrator-snap not found"])
def test_missing_resource_is_skipped(reason: str, unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: ops.Resources, name: str) -> Path:
        raise ops.ModelError(reason)

    monkeypatch.setattr(ops.Resources, "fetch", fetch)
    assert unit.status("install") == OK
    assert unit.workload.source == FileSource(unit.bundled)


def test_unavailable_resource_blocks_and_keeps_the_snap(settled: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: ops.Resources, name: str) -> Path:
        raise ops.ModelError("could not download resource: connection refused")

    monkeypatch.setattr(ops.Resources, "fetch", fetch)
    assert settled.status() == testing.BlockedStatus(
        "attach the resource epa-orchestrator-snap again: Juju cannot fetch it (could not download resource: connection"
        " refused)"
    )
    assert settled.workload.calls == ["hold", *STEPS]
