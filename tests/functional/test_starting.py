# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Starting with a recorded machine, without isolated CPUs, and with too few files."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .harness import PATIENCE, Daemon, Process, format_cpus, wait_until
from .starting import COMMAND, answers


def test_log_suggests_machine_when_no_cpu_is_isolated() -> None:
    with Daemon() as daemon:
        daemon.host.set_isolated(())
        daemon.start()
        assert "--machine" in daemon.log()


def test_serves_a_recorded_machine() -> None:
    with Daemon() as daemon:
        recording = daemon.base / "machine.json"
        recorded = subprocess.run(
            [sys.executable, "-m", "epa_orchestrator", "machine", "--record", str(recording)],
            env=daemon.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert recorded.returncode == 0, recorded.stderr
        daemon.host.remove()
        process = Process([*COMMAND, "--machine", str(recording)], daemon.environment)
        daemon.process = process
        wait_until(lambda: answers(daemon.socket_path), "the daemon answers")
        assert daemon.ok("list_allocations")["cpu_pool"]["eligible_cpus"] == format_cpus(daemon.host.isolated)
        assert len(daemon.numa("svc", 1, 6)) == 6
        assert daemon.free_pages(0, 2048) == 64


@pytest.mark.parametrize("files", [10, 12, 14, 16, 18, 20, 22, 23])
def test_too_few_files_end_the_start(files: int) -> None:
    with Daemon() as daemon:
        daemon.launch(launcher=["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"])
        assert daemon.wait() == 1
        sentence = f"epa-orchestrator: Only {files} files may be open at once, and the daemon needs 24: see ulimit -n\n"
        assert daemon.log() == sentence


@pytest.mark.parametrize("limit", ["-n 24", "-Sn 12"], ids=["fewest files", "soft limit that is raised"])
def test_serves_with_enough_files(limit: str) -> None:
    with Daemon() as daemon:
        daemon.start(launcher=["/bin/sh", "-c", f'ulimit {limit}; exec "$@"', "sh"])
        assert daemon.cores("a", 1)
