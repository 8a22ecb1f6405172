# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Alert rules and dashboard: Prometheus takes them, they name metrics that exist, and each alert says what to do."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cosl import DashboardPath40UID

import cos_agent
from epa_orchestrator.metrics.catalogue import CATALOGUE
from tests import prometheus

ROOT = Path(__file__).parents[3]
FILE = ROOT / "src" / "prometheus_alert_rules" / "epa-orchestrator.rules"
TESTS = Path(__file__).with_name("alert_rules_test.yaml")
RULES: list[dict[str, Any]] = yaml.safe_load(FILE.read_text("utf-8"))["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "src" / "grafana_dashboards" / "epa-orchestrator.json").read_text("utf-8")
)
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]

LABELS = cos_agent.labels("machines", "3f1d9c8a-6a39-4a43-8f2f-2d54c5cc9a11", "epa", "epa-orchestrator")

#: Every name of a series.
SERIES = {
    name
    for metric in CATALOGUE
    for name in (
        [f"{metric.name}_{suffix}" for suffix in ("bucket", "sum", "count")]
        if metric.type == "histogram"
        else [metric.shown]
    )
}


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return prometheus.program("promtool")
    except prometheus.UnavailableError as error:
        pytest.skip(f"no promtool: {error}")


def run(promtool: Path, *words: str | Path) -> str:
    done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules(promtool: Path) -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in run(promtool, "check", "rules", FILE)


def test_promtool_accepts_the_rules_of_the_charm(promtool: Path, tmp_path: Path) -> None:
    data = json.loads(cos_agent.unit_data(ROOT, 9795, LABELS))
    (tmp_path / "sent.rules").write_text(yaml.safe_dump(data["metrics_alert_rules"]))
    assert f"SUCCESS: {len(RULES)} rules found" in run(promtool, "check", "rules", tmp_path / "sent.rules")


def test_promtool_runs_the_tests_of_the_rules(promtool: Path) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", TESTS)


def test_every_alert_has_a_test_and_a_row_in_the_document() -> None:
    document = (ROOT / "docs" / "reference" / "alerts.md").read_text("utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| (\w+) \| .* (?:for|within) (\w+) minutes?\b", document, re.MULTILINE)
    assert sorted(rows) == sorted((rule["alert"], rule["labels"]["severity"], minutes(rule)) for rule in RULES)
    tests = TESTS.read_text("utf-8")
    for rule in RULES:
        assert f'"{rule["alert"]}"' in tests or f"alertname: {rule['alert']}" in tests


def minutes(rule: dict[str, Any]) -> str:
    """How long the condition holds, in words; of increases, the time that they count."""
    increase = re.search(r"\[(\d+)m\]", rule["expr"])
    found = increase[1] if increase else rule["for"].removesuffix("m")
    return "a" if found == "1" else found


def test_alerts_are_those_of_the_operator() -> None:
    assert [rule["alert"].removeprefix("EpaOrchestrator") for rule in RULES] == [
        "Down",
        "ReadOnly",
        "CpusUnavailable",
        "ClaimsOutsidePool",
        "PoolExhausted",
        "RefusalsRising",
        "IsolationBroken",
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_waits_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+m", rule["for"])
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert "epa-orchestrator" in rule["annotations"]["description"]
    assert "{{ $labels.instance }}" in rule["annotations"]["summary"]


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *EXPRESSIONS])
def test_expression_names_existing_metrics_with_braces(expression: str) -> None:
    names = re.findall(r"\bepa_\w+", expression)
    assert set(names) <= SERIES
    assert len(re.findall(r"\b(?:epa_\w+|up)\{", expression)) == len(re.findall(r"\b(?:epa_\w+|up)\b", expression))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_promtool_parses_the_expressions_of_the_dashboard(promtool: Path, expression: str, tmp_path: Path) -> None:
    """Grafana fills in its variables; promtool has no command for a lone expression but in a rule."""
    rule = {"record": "x", "expr": expression.replace("$__rate_interval", "5m")}
    (tmp_path / "x.rules").write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": [rule]}]}))
    run(promtool, "check", "rules", tmp_path / "x.rules")


# --- the dashboard ---


def test_dashboard_has_the_variables_of_the_stack() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["prometheusds", "juju_model", "juju_model_uuid", "juju_application", "juju_unit"]
    assert (variables["prometheusds"]["type"], variables["prometheusds"]["query"]) == ("datasource", "prometheus")


def test_dashboard_has_the_identity_that_collectors_give_it() -> None:
    path = "src/grafana_dashboards/epa-orchestrator.json"
    assert DASHBOARD["uid"] == DashboardPath40UID.generate("epa-orchestrator", path)
    assert DASHBOARD["tags"] == ["charm: epa-orchestrator"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_uses_the_variables(panel: dict[str, Any]) -> None:
    assert panel["datasource"]["uid"] == "${prometheusds}"
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        for name in ("juju_model", "juju_model_uuid", "juju_application", "juju_unit"):
            assert f'{name}=~"${name}"' in target["expr"]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for expression in EXPRESSIONS for name in re.findall(r"\bepa_\w+", expression)}
    unused = {metric.name for metric in CATALOGUE if not any(name.startswith(metric.name) for name in shown)}
    assert unused == set()
