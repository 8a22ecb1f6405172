# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The data for collectors agrees with cosl, which they read it with; a port in the options counts more than ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cosl import JujuTopology, LZMABase64
from cosl.cos_tool import configure_cache
from cosl.rules import Rules

import cos_agent
from cos_agent import DEFAULT_PORT, with_port

ROOT = Path(__file__).parents[3]
UUID = "3f1d9c8a-6a39-4a43-8f2f-2d54c5cc9a11"
LABELS = cos_agent.labels("machines", UUID, "epa", "epa-orchestrator")
TOPOLOGY = JujuTopology("machines", UUID, "epa", unit="epa/0", charm_name="epa-orchestrator")
MATCHERS = f'juju_model="machines",juju_model_uuid="{UUID}",juju_application="epa",'

DATA: dict[str, Any] = json.loads(cos_agent.unit_data(ROOT, 9795, LABELS))
RULES: list[dict[str, Any]] = [rule for group in DATA["metrics_alert_rules"]["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def by_cosl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The rules as cosl makes them of our files; without its program cos-tool it leaves the expressions as they are."""
    configure_cache(tmp_path_factory.mktemp("cos-tool"))
    rules = Rules(query_type="promql", topology=TOPOLOGY)
    rules.add_path(ROOT / "src" / "prometheus_alert_rules")
    return rules.as_dict()


def test_data_has_the_fields_of_the_interface() -> None:
    assert DATA.keys() == {
        "metrics_alert_rules",
        "log_alert_rules",
        "dashboards",
        "metrics_scrape_jobs",
        "log_slots",
        "subordinate",
    }
    assert (DATA["log_alert_rules"], DATA["log_slots"], DATA["subordinate"]) == ({}, [], True)


def test_job_is_on_localhost() -> None:
    assert DATA["metrics_scrape_jobs"] == [
        {
            "job_name": "epa-orchestrator",
            "metrics_path": "/metrics",
            "static_configs": [{"targets": ["localhost:9795"]}],
        }
    ]


def test_labels_are_those_of_cosl() -> None:
    assert TOPOLOGY.label_matcher_dict == LABELS
    assert "juju_unit" not in LABELS


def test_groups_have_the_names_that_cosl_gives_them(by_cosl: dict[str, Any]) -> None:
    ours = [group["name"] for group in DATA["metrics_alert_rules"]["groups"]]
    assert ours == [group["name"] for group in by_cosl["groups"]]
    assert ours == ["machines_3f1d9c8a_epa_epa_orchestrator_rules"]


def test_rules_are_those_of_cosl_but_for_the_matchers(by_cosl: dict[str, Any]) -> None:
    found = [{**rule, "expr": rule["expr"].replace(MATCHERS, "")} for rule in RULES]
    assert found == [rule for group in by_cosl["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_metric_is_limited_to_the_application(rule: dict[str, Any]) -> None:
    metrics = re.findall(r"\b(?:epa_\w+|up)\b", rule["expr"])
    assert metrics
    assert len(re.findall(r"\b(?:epa_\w+|up)\{" + re.escape(MATCHERS), rule["expr"])) == len(metrics)
    assert 'juju_charm="' not in rule["expr"], "collectors do not add this label to metrics"


def test_dashboard_is_read_by_cosl() -> None:
    (encoded,) = DATA["dashboards"]
    source = ROOT / "src" / "grafana_dashboards" / "epa-orchestrator.json"
    assert json.loads(LZMABase64.decompress(encoded)) == json.loads(source.read_text("utf-8"))


def test_without_metrics_there_is_no_data() -> None:
    assert cos_agent.unit_data(ROOT, None, LABELS) == ""


def test_data_is_the_same_each_time() -> None:
    """Juju tells the collector of a change only when the text differs."""
    assert cos_agent.unit_data(ROOT, 9795, LABELS) == json.dumps(DATA, sort_keys=True)


@pytest.mark.parametrize(
    ("requested", "present", "ours", "port"),
    [
        ({}, {}, {}, DEFAULT_PORT),
        ({"metrics-port": 9000}, {}, {}, 9000),
        ({"metrics-port": 9000}, {"metrics-port": DEFAULT_PORT}, {"metrics-port": DEFAULT_PORT}, 9000),
        ({}, {"metrics-port": DEFAULT_PORT}, {"metrics-port": DEFAULT_PORT}, DEFAULT_PORT),
        ({}, {"metrics-port": 9000}, {"metrics-port": 9000}, DEFAULT_PORT),
        ({}, {"metrics-port": 0}, {}, DEFAULT_PORT),
        ({}, {"metrics-port": 9000}, {}, None),
        ({}, {"metrics-port": 9000}, {"metrics-port": DEFAULT_PORT}, None),
    ],
)
def test_port_is_requested(
    requested: dict[str, Any], present: dict[str, Any], ours: dict[str, Any], port: int | None
) -> None:
    """None: the port that was set with snap set stays."""
    assert with_port({"log-level": "debug", **requested}, present, ours).get("metrics-port") == port


def test_other_options_stay_as_they_are() -> None:
    assert with_port({"log-level": "debug"}, {}, {})["log-level"] == "debug"
