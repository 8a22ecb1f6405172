# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The actions that show what the command line shows: explain, history, record and report, with a real daemon."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

import juju_texts
from epa_orchestrator.isolation.findings import CHECKS
from tests.service import Service

from .unit import Unit


def results(unit: Unit, action: str, **params: Any) -> dict[str, str]:
    """The results of an action that succeeds."""
    unit.ctx.run(unit.ctx.on.action(action, params=params), unit.state())
    assert unit.ctx.action_results is not None
    return unit.ctx.action_results


def test_explain_shows_the_choice(served: Unit) -> None:
    found = results(served, "explain", service="ceph", count=2)
    assert found.keys() == {"text"}
    assert found["text"].startswith("ceph would get CPUs 4-5\n")


def test_explain_takes_wishes(served: Unit) -> None:
    text = results(served, "explain", service="ceph", percent=50, **{"cpu-thread-policy": "isolate"})["text"]
    assert "cpu-thread-policy=isolate" in text


def test_explain_of_a_refusal_says_why(served: Unit) -> None:
    text = results(served, "explain", service="ceph", count=3, **{"cpu-thread-policy": "require"})["text"]
    assert text.startswith("3 CPUs cannot be placed: cpu-thread-policy=require allows whole cores only")


def test_explain_says_how_to_make_room(served: Unit) -> None:
    refused = served.failure("explain", {"service": "ceph", "count": 6})
    text = results(served, "explain", service="ceph", count=6, **{"make-room": True})["text"]
    assert len(text) > len(refused)


def test_explain_takes_no_service_for_an_option(served: Unit) -> None:
    assert results(served, "explain", service="--help", count=2)["text"].startswith("--help would get CPUs")


def test_explain_without_a_number_fails(served: Unit) -> None:
    assert "say how many CPUs" in served.failure("explain", {"service": "ceph"})


@pytest.mark.parametrize("params", [{}, {"service": ""}, {"service": "ceph", "count": -1}])
def test_explain_checks_its_parameters(params: dict[str, Any], served: Unit) -> None:
    assert served.failure("explain", params)


def test_history_shows_the_changes(served: Unit) -> None:
    found = results(served, "history")
    assert found.keys() == {"text"}
    assert "nova" in found["text"]


def test_history_of_one_service(served: Unit) -> None:
    assert "nova" not in results(served, "history", service="ceph", limit=5)["text"]


def test_history_since_a_time(served: Unit) -> None:
    assert "nova" in results(served, "history", since="2h ago")["text"]
    assert "nova" not in results(served, "history", since="2037-01-01")["text"]


def test_history_needs_a_time_that_can_be_read(served: Unit) -> None:
    assert "sometime" in served.failure("history", {"since": "sometime"})


def test_record_is_a_machine_that_can_be_served(served: Unit) -> None:
    found = results(served, "record")
    assert json.loads(found["recording"])["format"] == "epa-orchestrator-machine/1"
    assert "epa-orchestrator serve --machine FILE" in found["text"]


def test_recording_has_the_facts_of_the_isolation(served: Unit) -> None:
    recording = json.loads(results(served, "record")["recording"])
    assert "proc/cmdline" in recording["host"]["files"]


def test_audit_shows_all_checks(served: Unit) -> None:
    found = results(served, "audit-isolation")
    document = json.loads(found["json"])
    assert [check["id"] for check in document["checks"]] == list(CHECKS)
    ids = {check["id"] for check in document["checks"] if check["result"] in ("fail", "warn")}
    assert all(f" {check} " in found["text"] for check in ids)
    assert "check" in found["text"].splitlines()[0]


def test_audit_checks_its_parameters(served: Unit) -> None:
    assert "give 0 for one reading" in served.failure("audit-isolation", {"measure": 0.5})
    assert served.failure("audit-isolation", {"measure": 121})
    assert served.failure("audit-isolation", {"service": "x" * 256})


def test_show_machine_gives_a_picture(served: Unit) -> None:
    found = results(served, "show-machine", format="svg")
    assert found.keys() == {"text", "svg"}
    assert ElementTree.fromstring(found["svg"]).tag.endswith("svg")
    assert "nova" in found["svg"]


def test_report_has_a_summary_and_the_document(served: Unit, running: Service) -> None:
    found = results(served, "report")
    document = json.loads(found["report"])
    assert document["missing"].keys() <= {"parts of the machine"}
    assert [claim["service_name"] for claim in document["pools"]["isolated"]["allocations"]] == ["nova"]
    assert found["text"].split() == " ".join(document["summary"]).split()
    assert len(found["report"].splitlines()) > 20, "it is readable"
    assert not (running.log.parent / "report.json").exists()


def test_long_report_stays_in_a_file(served: Unit, running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(juju_texts, "_MAX_BYTES", 2000)
    found = results(served, "report")
    file = running.log.parent / "report.json"
    assert found.keys() == {"text", "file"}
    assert found["file"] == str(file)
    assert f"juju ssh epa-orchestrator/0 sudo cat {file} > report.json" in found["text"]
    assert json.loads(file.read_text())["format"] == "epa-orchestrator-report/1"


@pytest.mark.parametrize("action", ["explain", "history", "report"])
def test_action_keeps_the_claims(action: str, served: Unit, running: Service) -> None:
    before = running.client.list_allocations()
    results(served, action, **({"service": "ceph", "count": 2} if action == "explain" else {}))
    assert running.client.list_allocations() == before
