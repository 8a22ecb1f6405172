# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A related collector learns where the metrics are; the relation alone turns them on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ops import testing

import cos_agent
from charm import COLLECTOR
from errors import CharmError

from .unit import OK, Unit

SOURCE = Path(__file__).parents[3] / "src"
RELATION = testing.Relation(COLLECTOR, interface="cos_agent", remote_app_name="opentelemetry-collector")


@pytest.fixture
def related(settled: Unit) -> Unit:
    """A unit without problems, and with a collector."""
    for directory in ("prometheus_alert_rules", "grafana_dashboards"):
        shutil.copytree(SOURCE / directory, settled.root / "src" / directory)
    settled.relations.append(RELATION)
    return settled


def data(state: testing.State) -> dict[str, Any]:
    return json.loads(state.get_relation(RELATION.id).local_unit_data[cos_agent.KEY])


def target(state: testing.State) -> str:
    (job,) = data(state)["metrics_scrape_jobs"]
    return job["static_configs"][0]["targets"][0]


@pytest.mark.parametrize("event", ["relation_created", "relation_broken"])
def test_events_of_the_relation_reconcile(event: str, related: Unit) -> None:
    related.ctx.run(getattr(related.ctx.on, event)(RELATION), related.state())
    assert "ensure_config" in related.workload.calls


def test_relation_alone_turns_metrics_on(related: Unit) -> None:
    state = related.run()
    assert state.unit_status == OK
    assert related.workload.config == {"metrics-port": 9795}
    assert target(state) == "localhost:9795"


def test_rules_have_the_labels_of_the_model_and_the_application(related: Unit) -> None:
    state = related.run()
    labels = data(state)["metrics_alert_rules"]["groups"][0]["rules"][0]["labels"]
    assert labels == {
        "severity": "critical",
        "juju_model": state.model.name,
        "juju_model_uuid": state.model.uuid,
        "juju_application": "epa-orchestrator",
        "juju_charm": "epa-orchestrator",
    }


def test_changed_port_is_told(related: Unit) -> None:
    related.run()
    related.config = {"metrics-port": 9000}
    assert target(related.run()) == "localhost:9000"


def test_port_that_was_set_in_the_snap_is_told(related: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator_snap.options", lambda: {"metrics-port": 9000})
    assert target(related.run()) == "localhost:9000"


def test_broken_relation_turns_metrics_off(related: Unit) -> None:
    related.run()
    related.ctx.run(related.ctx.on.relation_broken(RELATION), related.state())
    assert related.workload.config == {}


def test_port_of_the_operator_stays_without_the_relation(related: Unit) -> None:
    related.config = {"metrics-port": 9000}
    related.ctx.run(related.ctx.on.relation_broken(RELATION), related.state())
    assert related.workload.config == {"metrics-port": 9000}


def test_refused_options_leave_the_data_as_it_was(related: Unit) -> None:
    related.workload.errors["ensure_config"] = CharmError("metrics-port is not valid")
    state = related.run()
    assert state.unit_status == testing.BlockedStatus("metrics-port is not valid")
    assert cos_agent.KEY not in state.get_relation(RELATION.id).local_unit_data


OLDER = "upgrade the snap: it is older than this charm, and does not know metrics-port"


def test_snap_that_does_not_know_metrics_is_a_remark(related: Unit) -> None:
    related.workload.unknown = ["metrics-port"]
    assert related.run().unit_status == testing.ActiveStatus(OLDER)


def test_collector_gets_nothing_while_the_snap_serves_no_metrics(related: Unit) -> None:
    """An alert would say that the daemon is down."""
    state = related.run()
    related.workload.unknown = ["metrics-port"]
    told = state.get_relation(RELATION.id)
    related.relations[-1] = told
    assert cos_agent.KEY in told.local_unit_data
    assert cos_agent.KEY not in related.run().get_relation(RELATION.id).local_unit_data


def test_other_option_that_the_snap_does_not_know_is_a_remark(settled: Unit) -> None:
    settled.workload.unknown = ["cpu-distribution", "numa-reclaim"]
    assert settled.status() == testing.ActiveStatus(OLDER.replace("metrics-port", "cpu-distribution, numa-reclaim"))


def test_unit_without_a_collector_sets_no_port(settled: Unit) -> None:
    assert settled.status() == OK
    assert settled.workload.config == {}
