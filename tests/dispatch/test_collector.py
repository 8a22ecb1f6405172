# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The packed charm tells a collector where the metrics of its daemon are, with rules and a dashboard."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

from tests import juju
from tests.unit.metrics.test_exporter import free_port

from .unit import Host, Unit


def _metrics(target: str) -> str:
    """What the daemon serves there, as soon as it serves."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
                return answer.read().decode()
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_collector_finds_the_metrics(unit: Unit, host: Host) -> None:
    unit.install()
    unit.collector = True
    created = unit.hook("cos-agent-relation-created", **juju.relation("created", juju.COLLECTOR))
    assert created.status == ("active", "")
    assert host.settings() == {"metrics-port": 9795}

    (written,) = unit.configure(metrics_port=free_port()).written
    data = json.loads(written["config"])
    (target,) = data["metrics_scrape_jobs"][0]["static_configs"][0]["targets"]
    assert "epa_build_info" in _metrics(target)
    assert len(data["metrics_alert_rules"]["groups"][0]["rules"]) == 7
    assert len(data["dashboards"]) == 1

    unit.config.clear()  # Juju lists the relation until this hook has ended
    assert unit.hook("cos-agent-relation-broken", **juju.relation("broken", juju.COLLECTOR)).status == ("active", "")
    assert host.settings() == {}


def test_snap_without_metrics_keeps_the_unit_active(unit: Unit, host: Host) -> None:
    host.unknown_options = ["metrics-port"]
    unit.install()
    unit.collector = True
    created = unit.hook("cos-agent-relation-created", **juju.relation("created", juju.COLLECTOR))
    sentence = "upgrade the snap: it is older than this charm, and does not know metrics-port"
    assert created.status == ("active", sentence)
    assert [written for written in created.written if written.get("config")] == []
    assert unit.configure(reserved_cpus="7").status == ("active", sentence)
    assert host.settings() == {"reserved-cpus": "7"}
