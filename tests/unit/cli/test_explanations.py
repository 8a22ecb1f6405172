# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""An explanation shows the compared choices, and nothing in it acts on the terminal."""

from __future__ import annotations

import pytest

from epa_orchestrator.cli.explanations import explanation as explained
from epa_orchestrator.placement.cost import LABELS
from epa_orchestrator.protocol.answers import Candidate, Explanation
from tests.unit.cli.test_tables import HOSTILE, headings, rows, rows_of, shown


def scope(nodes: str, cpus: str, **cost: int) -> Candidate:
    return Candidate(numa_nodes=nodes, cpus=cpus, cost=cost)


def explanation(*scopes: Candidate, decided_by: str = "Because.", rule: str | None = None) -> Explanation:
    policy: dict[str, str | bool | int] = {"numa-policy": "none", "prefer-closest-numa-nodes": True, "near": 1}
    return Explanation(policy=policy, room={"0": 4, "1": 8}, scopes=list(scopes), decided_by=decided_by, rule=rule)


def test_explanation_shows_one_column_for_each_choice() -> None:
    found = explanation(
        scope("0", "2,10", numa_nodes=1, reclaimed_cpus=0, l3_left_over=2, scope_left_over=2, lowest_cpu=2),
        scope("1", "4,12", numa_nodes=1, reclaimed_cpus=0, l3_left_over=6, scope_left_over=6, lowest_cpu=4),
        scope("0-1", "2,4", numa_nodes=2, reclaimed_cpus=0, l3_left_over=8, scope_left_over=10, lowest_cpu=2),
    )
    sentence, table, room, policy = explained(found, refused=False)
    assert shown(sentence) == "Because.\n"
    assert shown(room) == "CPUs available to the service, by NUMA node: 0: 4, 1: 8\n"
    assert shown(policy) == "Placed by: numa-policy=none, prefer-closest-numa-nodes=true, near=1\n"
    assert shown(table).startswith("The best choices; the first difference decides")
    assert headings(table) == ["Level", "chosen", "next best", "next best"]
    assert rows(table) == [
        ["on NUMA nodes", "0", "1", "0-1"],
        ["CPUs", "2,10", "4,12", "2,4"],
        ["NUMA nodes", "1", "1", "2"],
        ["CPUs left over in its L3 domains <", "2", "6", "8"],  # the deciding level; a level without costs has no row
        ["CPUs left over in its NUMA nodes", "2", "6", "10"],
        ["lowest CPU id", "2", "4", "2"],
    ]


def test_explanation_of_one_choice_marks_no_level() -> None:
    found = explanation(scope("0", "2,10", numa_nodes=1, lowest_cpu=2))
    _, table, *_ = explained(found, refused=False)
    assert rows(table)[2:] == [["NUMA nodes", "1"], ["lowest CPU id", "2"]]


def test_level_that_only_compares_is_not_shown_of_one_choice() -> None:
    """As when a claim shrinks."""
    (name,) = [name for name, label in LABELS.items() if label == "CPUs per NUMA node (sum of squares)"]
    _, table, *_ = explained(explanation(scope("0", "2,10", packages=1, **{name: 4})), refused=False)
    assert rows(table)[2:] == [["packages", "1"]]


def test_explanation_of_a_refusal_shows_the_best_choice_without_the_rule() -> None:
    found = explanation(scope("0-1", "2-6", numa_nodes=2, lowest_cpu=2), decided_by="Refused: no.", rule="numa-policy")
    table, *_ = explained(found, refused=True)
    assert " ".join(shown(table).split()).startswith("The best choice without that rule")
    assert headings(table) == ["Level", "best"]


def test_unknown_level_of_a_newer_daemon_is_shown_by_its_name() -> None:
    _, table, *_ = explained(explanation(scope("0", "2", fan_noise=7, lowest_cpu=2)), refused=False)
    assert ["fan_noise", "7"] in rows(table)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("field", ["numa_nodes", "cpus", "cost"])
def test_explanation_does_not_act_on_the_terminal(field: str, name: str) -> None:
    """A snap that may write the socket's directory can put its own server there."""
    hostile = (
        Candidate.model_validate({"numa_nodes": "0", "cpus": "2", "cost": {"lowest_cpu": 2}} | {field: name})
        if field != "cost"
        else scope("0", "2", **{name: 1})
    )
    text = "".join(shown(part) for part in explained(explanation(hostile, hostile), refused=False))
    assert all(line.isprintable() for line in text.split("\n")), text


@pytest.mark.parametrize("name", HOSTILE)
def test_sentence_does_not_act_on_the_terminal(name: str) -> None:
    text = shown(next(iter(explained(explanation(decided_by=name), refused=False))))
    assert all(line.isprintable() for line in text.split("\n")), text


def test_explanation_without_choices_has_no_table() -> None:
    parts = [shown(part) for part in explained(explanation(), refused=False)]
    assert [part.strip().partition(":")[0] for part in parts] == [
        "Because.",
        "CPUs available to the service, by NUMA node",
        "Placed by",
    ]


def test_explanation_fits_a_narrow_terminal() -> None:
    scattered = ",".join(str(cpu) for cpu in range(0, 200, 2))
    found = explanation(*(scope(str(node), scattered, numa_nodes=1, lowest_cpu=0) for node in range(5)))
    _, table, *_ = explained(found, refused=False)
    assert all(len(line) <= 80 for line in shown(table, width=80).splitlines())
    for column in range(1, 4):
        cells = "".join(row[column] for row in rows_of(shown(table, width=80)) if row[column])
        assert cells.replace(" ", "").startswith(f"{column - 1}{scattered}")
