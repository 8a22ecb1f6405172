# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""docs/reference/actions.md has each action with the results that it sets."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import daemon_health
import juju_texts
import orchestrator_snap
from charm_record import Record
from daemon_health import Holdings
from epa_orchestrator.protocol.machine import MachineDescription
from tools.write_reference import CHARMCRAFT

from .unit import Unit, listing, memory

DOCUMENT = (Path(__file__).parents[3] / "docs" / "reference" / "actions.md").read_text("utf-8")
#: The row of `json.…` in the table of show-machine stands for these.
MACHINE = {f"json.{name}" for name in MachineDescription.model_fields}

#: The parameters of actions that succeed; all that they set together is what the document names.
RUNS: dict[str, list[dict[str, Any]]] = {
    "list-allocations": [{}],
    "show-machine": [{}, {"format": "svg"}],
    "explain": [{"service": "ceph", "count": 2}],
    "history": [{}],
    "audit-isolation": [{}],
    "release": [{"service": "nova", "confirm": True}],
    "refresh-snap": [{}],
    "settle-claims": [{"keep": "older"}],
    "record": [{}],
    "report": [{}],
    "get-status": [{}],
}


def section(action: str) -> str:
    return DOCUMENT.partition(f"\n## {action}\n")[2].partition("\n## ")[0]


def documented(action: str) -> set[str]:
    """The results in the table of an action."""
    table = section(action).partition("| result | meaning |\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))


@pytest.fixture
def served(served: Unit) -> Unit:
    """The unit, with something to release and claims to settle."""
    served.workload.held = Holdings([listing(nova="2-3")], memory())
    served.workload.written = dataclasses.replace(served.workload.written, intruder="7", intruded=1.0)
    return served


def set_by(unit: Unit, action: str, params: dict[str, Any]) -> set[str]:
    """The names of what an action sets, with the members of its JSON object."""
    unit.ctx.run(unit.ctx.on.action(action, params=params), unit.state())
    results = dict(unit.ctx.action_results or {})
    members = json.loads(results.pop("json", "{}"))
    return {*results, *(f"json.{name}" for name in members)}


def test_every_action_is_a_section_and_has_runs() -> None:
    assert set(re.findall(r"^## (.+)$", DOCUMENT, re.MULTILINE)) == set(CHARMCRAFT["actions"]) == set(RUNS)


@pytest.mark.parametrize("action", RUNS)
def test_document_has_the_results_of_the_action(action: str, served: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name for params in RUNS[action] for name in set_by(served, action, params)}
    if "file" in documented(action):
        monkeypatch.setattr(juju_texts, "_MAX_BYTES", 500)
        found |= set_by(served, action, RUNS[action][-1])
    shown = documented(action)
    if "json.…" in shown:
        shown = shown - {"json.…"} | (MACHINE & found)
        assert len(MACHINE & found) > 5
    assert shown == found


@pytest.mark.parametrize("action", RUNS)
def test_document_has_an_example_that_the_action_accepts(action: str) -> None:
    names = set(CHARMCRAFT["actions"][action].get("params", ()))
    examples = re.findall(rf"^juju run epa-orchestrator/0 {action}(.*)$", section(action), re.MULTILINE)
    assert examples
    assert {word.partition("=")[0] for example in examples for word in example.split()} <= names


def test_nothing_is_left_to_settle_after_the_run(served: Unit) -> None:
    """The record that makes settle-claims succeed above is the reason for that."""
    served.workload.written = Record()
    assert "nothing has to be settled" in served.failure("settle-claims", {"keep": "older"})


def test_audit_fails_for_a_service_whose_claim_is_not_known(served: Unit) -> None:
    assert served.failure("audit-isolation", {"service": "nova"}).startswith("--service needs the claims: ")


def test_explain_fails_without_a_number_and_for_more_cpus_than_are_free(served: Unit) -> None:
    assert served.failure("explain", {"service": "ceph"}).startswith("say how many CPUs")
    assert "Insufficient" in served.failure("explain", {"service": "ceph", "count": 500})


@pytest.mark.parametrize("action", ["record", "report", "get-status"])
def test_action_fails_without_the_snap(action: str, unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_health, "SOCKET", unit.root / "none" / "current" / "data" / "epa.sock")
    monkeypatch.setattr(orchestrator_snap, "installed", lambda: None)
    assert unit.failure(action) == "the snap is not installed: see 'juju debug-log'"
