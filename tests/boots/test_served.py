# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The daemon and the command line on a real kernel: a client that asked for CPUs, and a stranger at work on them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.boots.conftest import Lab
from tests.boots.lines import KERNELS


@pytest.fixture(scope="module")
def shown(equipped_lab: Lab) -> dict[str, Any]:
    """What each command printed."""
    return equipped_lab.run(KERNELS["good"], "tests.boots.served")


def checks(printed: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The checks of `audit --json`, by their ids."""
    return {each["id"]: each for each in json.loads(printed["out"])["checks"]}


def bad(printed: dict[str, Any]) -> dict[str, str]:
    """The results of the checks that found something."""
    return {check: each["result"] for check, each in checks(printed).items() if each["result"] in ("fail", "warn")}


def test_audit_names_the_stranger_and_nothing_else(shown: dict[str, Any]) -> None:
    assert bad(shown["audit"]) == {"B3": "fail"}, shown
    assert shown["audit"]["status"] == 1
    assert "CPU 3" in checks(shown["audit"])["B3"]["seen"]


def test_audit_measures(shown: dict[str, Any]) -> None:
    assert checks(shown["audit"])["C2"]["result"] == "pass"


def test_why_shows_the_owner_and_the_stranger(shown: dict[str, Any]) -> None:
    assert shown["why"]["status"] == 0
    assert "asked by: unit ovs-vswitchd.service" in shown["why"]["out"], shown["why"]
    assert "Threads of others work on its CPUs" in shown["why"]["out"], shown["why"]


def test_audit_without_a_daemon_checks_no_owners(shown: dict[str, Any]) -> None:
    found = checks(shown["alone"])
    assert bad(shown["alone"]) == {}
    assert {check: found[check]["result"] for check in ("B3", "E1", "E2")} == dict.fromkeys(
        ("B3", "E1", "E2"), "not-checked"
    )
    assert shown["alone"]["status"] == 0
