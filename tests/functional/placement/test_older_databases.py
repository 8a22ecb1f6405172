# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Databases that earlier daemons wrote."""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from epa_orchestrator.state.schema import SCHEMA_VERSION
from tests.functional.harness import PATIENCE, Daemon, parse_cpus

from .asking import history
from .hosts import EIGHT


def source_of(commit: str, directory: Path) -> dict[str, str]:
    """The environment that starts the daemon of an earlier commit."""
    root = Path(__file__).parents[3]
    command = ["git", "-C", str(root), "archive", commit, "src"]
    try:
        packed = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git or that commit is not here")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(directory, filter="data")
        else:  # Python before 3.11.4
            archive.extractall(directory)
    return {"PYTHONPATH": str(directory / "src")}


def test_upgrades_a_database_of_schema_1(tmp_path: Path) -> None:
    earlier = source_of("5271d6b", tmp_path)
    with Daemon(EIGHT) as daemon:
        daemon.start(earlier)
        assert "placement" not in daemon.ok("allocate_cores", service_name="a", num_of_cores=3)
        daemon.numa("b", 1, 2, preemption_policy="non-preemptive")
        daemon.cores("c", 1)
        daemon.pages("a", 1, 2048, 5)
        claims, pages, events = daemon.ok("list_allocations"), daemon.ok("get_memory_info"), history(daemon)
        daemon.kill()
        for _ in range(2):
            daemon.start()
            listing = daemon.ok("list_allocations")
            features = set(listing["supported_cpu_features"])
            assert features >= {*claims["supported_cpu_features"], "placement", "placement-hints", "dry-run", "explain"}
            assert listing == claims | {
                "supported_cpu_features": listing["supported_cpu_features"], "outdated_placements": []
            }  # fmt: skip
            assert daemon.ok("get_memory_info") == pages
            assert history(daemon) == events
            daemon.kill()
        daemon.start()
        assert daemon.cores("a", 3) == parse_cpus(claims["allocations"][0]["allocated_cores"])
        assert daemon.cores("a", 4) > parse_cpus(claims["allocations"][0]["allocated_cores"])
        daemon.stop()
        # The earlier daemon does not change a database of a newer schema.
        daemon.start(earlier)
        assert f"schema version is {SCHEMA_VERSION}" in daemon.ok("list_allocations")["state_error"]


def test_upgrades_a_database_of_schema_2(tmp_path: Path) -> None:
    """Schema 2 stored the withheld CPUs; the daemon now derives them from the claims."""
    earlier = source_of("69f9dbc", tmp_path)
    with Daemon(EIGHT) as daemon:
        daemon.start(earlier)
        daemon.cores("a", 2, cpu_thread_policy="isolate")
        daemon.cores("b", 3)
        before = daemon.ok("list_allocations")
        kept = parse_cpus(before["allocations"][0]["withheld_cpus"])
        assert len(kept) == 2
        daemon.kill()
        for _ in range(2):
            daemon.start()
            listing = daemon.ok("list_allocations")
            assert listing == before | {"supported_cpu_features": listing["supported_cpu_features"]}
            daemon.kill()
        daemon.start()
        assert not daemon.cores("rest", before["remaining_available_cpus"]) & kept
        assert daemon.cores("a", 1, cpu_thread_policy="isolate") < parse_cpus(
            before["allocations"][0]["allocated_cores"]
        )
        after = daemon.ok("list_allocations")
        assert parse_cpus(after["allocations"][0]["withheld_cpus"]) < kept
        daemon.kill()
        daemon.start()
        assert daemon.ok("list_allocations") == after
