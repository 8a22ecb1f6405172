# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A real Prometheus scrapes a real daemon with the alert rules loaded, and alerts fire."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import prometheus
from tests.unit.metrics.test_exporter import free_port

from .harness import Daemon, wait_until

RULES = Path(__file__).parents[2] / "src" / "prometheus_alert_rules" / "epa-orchestrator.rules"


class Prometheus:
    """The HTTP interface of a running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer; None while Prometheus does not answer."""
        try:
            with urllib.request.urlopen(f"{self._url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.URLError:
            return None

    def value(self, expression: str) -> float | None:
        """The value of an expression with one result; None while it has none."""
        data = self.get("query", query=expression)
        if not data or not data["result"]:
            return None
        (result,) = data["result"]
        return float(result["value"][1])

    def firing(self) -> dict[str, dict[str, str]]:
        """The annotations of the alerts that fire."""
        data: Any = self.get("alerts")
        alerts: list[Any] = data["alerts"] if data else []
        return {each["labels"]["alertname"]: each["annotations"] for each in alerts if each["state"] == "firing"}


@contextlib.contextmanager
def scraping(target: int) -> Generator[Prometheus]:
    """A Prometheus with our rules that scrapes this port, and judges the rules, several times a second."""
    try:
        program = prometheus.program("prometheus")
    except prometheus.UnavailableError as error:
        pytest.skip(f"no Prometheus: {error}")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="epa-") as directory:
        rules, config = Path(directory, "epa.rules"), Path(directory, "prometheus.yml")
        rules.write_text(re.sub(r"^( +for:) \d+m$", r"\1 1s", RULES.read_text("utf-8"), flags=re.MULTILINE))
        job = {"job_name": "epa-orchestrator", "static_configs": [{"targets": [f"localhost:{target}"]}]}
        settings = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "200ms"}
        config.write_text(yaml.safe_dump({"global": settings, "rule_files": [str(rules)], "scrape_configs": [job]}))
        command = [
            str(program),
            f"--config.file={config}",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Prometheus(port)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def daemon(port: int) -> Iterator[Daemon]:
    with Daemon(settings={"metrics-port": port}) as daemon:
        yield daemon.start()


def test_alerts_fire_in_a_real_prometheus(daemon: Daemon, port: int) -> None:
    held = daemon.cores("nova", 4)
    daemon.refused("allocate_cores", service_name="ceph", num_of_cores=1000)
    with scraping(port) as found:
        wait_until(lambda: found.value("up") == 1, "Prometheus scrapes the daemon")
        wait_until(lambda: found.value('sum(epa_cpus{state="claimed"})') == 4, "it knows the claim")
        assert found.value('sum(epa_cpus{pool="isolated"})') == len(daemon.host.isolated)
        assert found.value('epa_refusals_total{rule="insufficient"}') == 1
        groups = found.get("rules")["groups"]
        assert [rule["health"] for rule in groups[0]["rules"] if rule["health"] == "err"] == []
        assert found.firing() == {}

        daemon.host.set_offline([min(held)])
        wait_until(lambda: "EpaOrchestratorCpusUnavailable" in found.firing(), "the alert about lost CPUs fires")
        annotations = found.firing()["EpaOrchestratorCpusUnavailable"]
        assert annotations["summary"] == f"Services own 1 CPUs on localhost:{port} that they cannot use."

        daemon.host.set_offline([])
        wait_until(lambda: found.firing() == {}, "it ends when the CPU is back")
        daemon.kill()
        wait_until(lambda: "EpaOrchestratorDown" in found.firing(), "the alert about a daemon that is down fires")


def test_port_opens_moves_and_closes_on_sighup() -> None:
    ports = [free_port() for _ in range(2)]

    def serves(port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return b"epa_build_info" in answer.read()
        except OSError:
            return False

    with Daemon() as daemon:
        daemon.start()
        pid = daemon.pid
        for port in ports:
            daemon.reload({"metrics-port": port})
            wait_until(lambda: serves(port), "the metrics are served")  # noqa: B023
        assert not serves(ports[0])
        daemon.reload({})
        wait_until(lambda: not serves(ports[1]), "the port is closed")
        assert daemon.pid == pid
