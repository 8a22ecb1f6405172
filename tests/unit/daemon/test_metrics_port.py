# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Metrics port: opened, moved and closed with the settings; a port that is taken is a warning in every listing."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.daemon.metrics_port import MetricsPort
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.metrics.counts import Counts
from tests.unit.metrics.test_exporter import free_port
from tests.unit.metrics.test_exposition import parsed

from .serving import LIST, Counting, ask, cores, run


@pytest.fixture(autouse=True)
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    fresh = Counts()
    for module in ("metrics_port", "replies", "orchestrator"):
        monkeypatch.setattr(sys.modules[f"epa_orchestrator.daemon.{module}"], "counts", fresh)
    return fresh


def _get(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read()


async def scrape(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    return parsed(await asyncio.to_thread(_get, port))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def port_of(orchestrator: Orchestrator) -> MetricsPort:
    return MetricsPort(lambda: orchestrator.view(3), partial(orchestrator.warn, "metrics"))


async def served(caplog: pytest.LogCaptureFixture, port: int) -> None:
    await until(lambda: f"metrics at http://127.0.0.1:{port}/metrics" in caplog.text)


def test_metrics_show_what_requests_did(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        port, metrics = free_port(), port_of(orchestrator)
        metrics.use(port)
        await served(caplog, port)
        await ask(orchestrator, cores("nova", 2), cores("nova", 4000))
        found = await scrape(port)
        counted = found["epa_requests_total"] | found["epa_refusals_total"]
        assert {labels: count for labels, count in counted.items() if count} == {
            ("allocate_cores", "served"): 1,
            ("allocate_cores", "refused"): 1,
            ("insufficient",): 1,
        }
        assert found["epa_commit_requests_count"] == {(): 1}
        assert found["epa_service_cpus"] == {("isolated", "nova"): 2}
        assert found["epa_connections"] == {(): 3}
        assert found["epa_hugepages_free_bytes"] == {("0", "2M"): 8 * 2**21, ("1", "2M"): 8 * 2**21}
        metrics.close()

    with caplog.at_level(logging.INFO):
        run(tmp_path, body)


def test_failed_commit_counts_as_failed(tmp_path: Path, counts: Counts) -> None:
    async def body(orchestrator: Orchestrator, counting: Counting) -> None:
        counts.on = counting.broken = True
        await ask(orchestrator, cores("nova", 2))
        assert counts.requests == {("allocate_cores", "failed"): 1}
        assert (counts.refusals, counts.failed_commits) == ({"storage": 1}, 1)

    run(tmp_path, body)


def test_port_moves_and_closes(tmp_path: Path, caplog: pytest.LogCaptureFixture, counts: Counts) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        first, second, metrics = free_port(), free_port(), port_of(orchestrator)
        metrics.use(first)
        await served(caplog, first)
        assert counts.on
        metrics.use(second)
        await served(caplog, second)
        assert await scrape(second)
        with pytest.raises(OSError, match="refused"):
            await scrape(first)
        metrics.close()
        assert not counts.on
        with pytest.raises(OSError, match="refused"):
            await scrape(second)

    with caplog.at_level(logging.INFO):
        run(tmp_path, body)


def test_port_that_is_off_for_a_moment_opens_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the thread that had it makes an answer."""
    renders, may_end = threading.Event(), threading.Event()

    def render() -> bytes:
        renders.set()
        may_end.wait(20)
        return b""

    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        port, metrics = free_port(), port_of(orchestrator)
        with monkeypatch.context() as patch:
            patch.setattr(metrics, "_prepare", lambda: (render, "text/plain"))
            metrics.use(port)
            await served(caplog, port)
        scraping = asyncio.ensure_future(asyncio.to_thread(_get, port))
        await asyncio.to_thread(renders.wait, 20)
        metrics.use(0)
        metrics.use(port)
        await asyncio.sleep(0.1)
        may_end.set()
        await until(lambda: caplog.text.count(f"metrics at http://127.0.0.1:{port}/metrics") == 2)
        await asyncio.gather(scraping, return_exceptions=True)
        metrics.close()

    with caplog.at_level(logging.INFO):
        run(tmp_path, body)
    assert "cannot be opened" not in caplog.text


def test_claim_that_has_changed_since_its_verdict_is_not_outdated(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        await ask(orchestrator, cores("nova", 2))
        review = orchestrator._review
        claim = orchestrator._current.ledger.claims["nova"]
        review._outdated["nova"] = claim
        assert orchestrator.view(0).outdated == 1
        review._outdated["nova"] = replace(claim, service="nova")
        assert orchestrator.view(0).outdated == 0

    run(tmp_path, body)


def test_port_in_use_is_one_line_and_a_warning_until_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epa_orchestrator.metrics.exporter._RETRY_SECONDS", 0.05)

    async def warnings(orchestrator: Orchestrator) -> Any:
        (listing,) = await ask(orchestrator, LIST)
        return listing.get("warnings", [])

    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            metrics = port_of(orchestrator)
            metrics.use(port)
            await until(lambda: "cannot be opened" in caplog.text)
            await asyncio.sleep(0.2)
            (warning,) = await warnings(orchestrator)
            assert f"port {port}" in warning
        await served(caplog, port)
        assert await warnings(orchestrator) == []
        metrics.close()

    with caplog.at_level(logging.INFO):
        run(tmp_path, body)
    assert caplog.text.count("cannot be opened") == 1


def test_problem_of_an_earlier_port_is_forgotten(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        told: list[tuple[str, ...]] = []
        metrics = MetricsPort(lambda: orchestrator.view(0), told.append)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            metrics.use(other.getsockname()[1])
            await until(lambda: bool(told))
            metrics.use(0)
        assert told[-1] == ()
        metrics.close()

    run(tmp_path, body)


def test_view_of_a_daemon_that_serves_readings_only(tmp_path: Path) -> None:
    async def body(orchestrator: Orchestrator, _: Counting) -> None:
        orchestrator._lose_state("a test took it away")
        assert orchestrator.view(0).read_only

    run(tmp_path, body)


def test_library_is_imported_only_when_the_port_is_set() -> None:
    code = "import sys, epa_orchestrator.daemon.main; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
