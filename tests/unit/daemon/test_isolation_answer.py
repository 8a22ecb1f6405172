# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolation answer: it is about the claims as they are now, with what the last audit found out about them."""

from __future__ import annotations

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.audit import Audit
from epa_orchestrator.daemon.isolation_answer import isolation_answer
from epa_orchestrator.protocol.isolation import CheckResult, ClaimIsolation, ClaimOwner

CHECK = CheckResult(id="C1", result="warn", seen="a", why="b", remedy="", since="2026-11-27T14:27:10Z")
OWNER = ClaimOwner(snap="ovs", unit=None, comm="ovs", pid=7, asked_at=5.5, cgroups=[])
FOUND = ClaimIsolation(
    service_name="ovs",
    pool="isolated",
    allocated_cores="2-3",
    owner=OWNER,
    since=6.5,
    noise=None,
    now=None,
    strangers=[],
    outside=[],
    stacked=[],
    culprit="The timer ticks",
    remedy="Stop it",
    problem=None,
)
AUDIT = Audit(66.5, (CHECK,), {"ovs": FOUND})


def claim(service: str, cpus: str) -> Claim:
    return Claim(service, "isolated", CpuSet.parse(cpus), EMPTY, "legacy")


def test_before_the_first_reading_nothing_but_the_claims_is_known() -> None:
    answer = isolation_answer(None, [claim("ovs", "2-3")], {"ovs": OWNER}, None, ())
    assert (answer.read_at, answer.checks, answer.state_error) == (None, [], None)
    (found,) = answer.claims
    assert (found.service_name, found.allocated_cores, found.since, found.noise) == ("ovs", "2-3", None, None)
    assert found.problem is not None


def test_a_claim_of_the_last_audit_has_what_that_found() -> None:
    answer = isolation_answer(AUDIT, [claim("ovs", "2-3")], {}, None, ())
    assert (answer.read_at, answer.checks, answer.claims) == (66.5, [CHECK], [FOUND])


def test_claims_that_are_younger_or_have_other_cpus_have_no_noise() -> None:
    answer = isolation_answer(AUDIT, [claim("ovs", "2-4"), claim("nova", "5")], {"ovs": OWNER, "nova": OWNER}, None, ())
    assert [(found.service_name, found.allocated_cores, found.culprit) for found in answer.claims] == [
        ("nova", "5", None),
        ("ovs", "2-4", None),
    ]


def test_a_claim_that_is_gone_is_not_in_the_answer() -> None:
    assert isolation_answer(AUDIT, [], {}, None, ()).claims == []


def test_the_answer_has_the_warnings_and_the_problem_of_the_state() -> None:
    answer = isolation_answer(AUDIT, [], {}, "The disk is gone", ("careful",))
    assert (answer.state_error, answer.warnings) == ("The disk is gone", ("careful",))
