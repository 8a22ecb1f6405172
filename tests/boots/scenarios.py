# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A scenario on a booted kernel, and the comparison of what is found there with what has to be found."""

from __future__ import annotations

from dataclasses import dataclass, field

from epa_orchestrator.isolation.findings import CHECKS
from tests.boots.conftest import Lab
from tests.boots.lines import KERNELS


@dataclass(frozen=True)
class Scenario:
    """A scenario of inside.py on a kernel, and all that is found: by id, the result and a part of the remedy.

    `passes` are checks that have to pass, not only to find nothing. `seen` are parts of what is seen. `may` are checks
    whose result depends on the moment.
    """

    kernel: str
    name: str
    found: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    passes: str = ""
    seen: dict[str, str] = field(default_factory=dict[str, str])
    may: frozenset[str] = frozenset()


def verify(scenario: Scenario, lab: Lab) -> None:
    """Run a scenario: exactly its faults are found, each with the right remedy."""
    findings = lab.run(KERNELS[scenario.kernel], "tests.boots.inside", scenario.name)["findings"]
    assert list(findings) == list(CHECKS)
    bad = {check: each for check, each in findings.items() if each["result"] in ("fail", "warn")}
    for check in scenario.may:
        bad.pop(check, None)
    assert {check: each["result"] for check, each in bad.items()} == {
        check: result for check, (result, _) in scenario.found.items()
    }, bad
    for check, (_, remedy) in scenario.found.items():
        assert remedy in bad[check]["remedy"]
    assert {check: findings[check] for check in scenario.passes.split() if findings[check]["result"] != "pass"} == {}
    for check, seen in scenario.seen.items():
        assert seen in findings[check]["seen"]
