# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Catalogue: Prometheus' rules for names, and the table in docs/reference/metrics.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from epa_orchestrator.allocation.refusal import RefusalRule
from epa_orchestrator.metrics.catalogue import CATALOGUE, MOST_SERVICES, OTHER_SERVICES, Metric
from epa_orchestrator.metrics.counts import ANSWER_SECONDS, BATCH_REQUESTS, COMMIT_SECONDS, Rule

DOCUMENT = (Path(__file__).parents[3] / "docs" / "reference" / "metrics.md").read_text("utf-8")


def names(metric: Metric) -> str:
    return metric.shown


@pytest.mark.parametrize("metric", CATALOGUE, ids=names)
def test_name_follows_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"epa(_[a-z0-9]+)+", metric.name)
    assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket"))
    assert ("_seconds" in metric.name) == any(word in metric.name for word in ("duration", "wait", "timestamp"))


@pytest.mark.parametrize("metric", CATALOGUE, ids=names)
def test_help_is_a_sentence(metric: Metric) -> None:
    assert metric.help.endswith(".")
    assert metric.help.isprintable()


@pytest.mark.parametrize("metric", CATALOGUE, ids=names)
def test_document_has_the_metric_as_it_is(metric: Metric) -> None:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    assert f"| `{metric.shown}` | {metric.type} | {labels} | {metric.help} |\n" in DOCUMENT


def test_document_has_no_other_metric() -> None:
    shown = set(re.findall(r"^\| `(epa_\w+)`", DOCUMENT, re.MULTILINE))
    assert shown == {metric.shown for metric in CATALOGUE}


def test_document_has_every_rule_of_a_refusal() -> None:
    rules = {rule for each in Rule.__args__ for rule in each.__args__}
    assert set(RefusalRule.__args__) < rules
    section = DOCUMENT.partition("## Rules of refusals")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)`", section, re.MULTILINE)) == rules


def test_document_has_the_bound_of_services() -> None:
    assert f"{MOST_SERVICES} largest services" in DOCUMENT
    assert f"`{OTHER_SERVICES}`" in DOCUMENT


@pytest.mark.parametrize("bounds", [ANSWER_SECONDS, COMMIT_SECONDS, BATCH_REQUESTS])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
