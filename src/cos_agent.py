# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What a collector of the Canonical Observability Stack gets over the endpoint cos-agent: metrics, rules, a dashboard.

No package has this interface (cos_agent). Its data is one JSON object under `config` in the unit's databag. The tests
compare it with `cosl`, which the collectors use.
"""

from __future__ import annotations

import base64
import json
import lzma
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

#: The key in the unit's databag.
KEY: Final = "config"
#: The port of the metrics while a collector is related and the operator names none.
DEFAULT_PORT: Final = 9795
#: The daemon's option for that port.
OPTION: Final = "metrics-port"
_RULES: Final = "src/prometheus_alert_rules"
_DASHBOARDS: Final = "src/grafana_dashboards"
#: The labels that select an application's metrics. The charm's name is none of them: collectors do not add it.
_MATCHERS: Final = ("juju_model", "juju_model_uuid", "juju_application")


def with_port(requested: Mapping[str, Any], present: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """The options to request of the snap while a collector is related: with a port for the metrics.

    A port in Juju's options counts most, then one that was set with `snap set`: that is in `present`, the snap's
    options, and not in `ours`, those that the charm has set.
    """
    is_set_by_hand = present.get(OPTION) not in (None, 0, ours.get(OPTION))
    return dict(requested) if is_set_by_hand else {OPTION: DEFAULT_PORT, **requested}


def labels(model: str, uuid: str, application: str, charm: str) -> dict[str, str]:
    """The labels of every rule. None names the unit: the collector passes on one copy of the rules for all units."""
    return {
        "juju_model": model,
        "juju_model_uuid": uuid,
        "juju_application": application,
        "juju_charm": charm,
    }


def unit_data(charm: Path, port: int | None, labels: Mapping[str, str]) -> str:
    """The JSON object for the databag: where the metrics are, the rules with these labels, and the dashboards.

    Without metrics it is empty, which removes the key: the rules would say that the daemon is down.
    """
    if port is None:
        return ""
    document = {
        "metrics_alert_rules": {"groups": _groups(charm / _RULES, labels)},
        "log_alert_rules": {},
        "dashboards": [_compress(path.read_bytes()) for path in sorted((charm / _DASHBOARDS).glob("*.json"))],
        "metrics_scrape_jobs": [
            {
                "job_name": labels["juju_charm"],
                "metrics_path": "/metrics",
                "static_configs": [{"targets": [f"localhost:{port}"]}],
            }
        ],
        "log_slots": [],
        "subordinate": True,
    }
    return json.dumps(document, sort_keys=True)


def _groups(directory: Path, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The groups of all rule files, with names that no other application's groups have."""
    prefix = f"{labels['juju_model']}_{labels['juju_model_uuid'][:8]}_{labels['juju_application']}"
    groups: list[dict[str, Any]] = []
    for path in sorted(directory.glob("*.rules")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            name = re.sub("[^a-zA-Z0-9_:]", "_", f"{prefix}_{group['name']}_rules")
            groups.append({**group, "name": name, "rules": [_own(rule, labels) for rule in group["rules"]]})
    return groups


def _own(rule: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """The rule about this application's metrics only."""
    matchers = ",".join(f'{name}="{labels[name]}"' for name in _MATCHERS)
    # In the files every metric has braces, and PromQL allows a comma after the last matcher.
    return {**rule, "expr": rule["expr"].replace("{", f"{{{matchers},"), "labels": {**rule["labels"], **labels}}


def _compress(dashboard: bytes) -> str:
    return base64.b64encode(lzma.compress(dashboard)).decode("ascii")
