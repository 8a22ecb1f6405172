# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The program of the consumer snap, with the environment that snapd gives it, asks a real daemon."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.harness import PATIENCE, Daemon
from tools.packing import ROOT

PROGRAM = ROOT / "examples" / "consumer-snap" / "consumer.py"


def environment(data: Path) -> dict[str, str]:
    return {"SNAP_DATA": str(data), "SNAP_INSTANCE_NAME": "epa-consumer", "PYTHONPATH": str(ROOT / "lib")}


def run(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *words]
    return subprocess.run(command, env=environment(data), capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_claims_lists_and_releases(daemon: Daemon) -> None:
    assert run(daemon.data, "claim", "mine", "2", "--dry-run").stdout == "1,9\n"
    assert daemon.claims() == {}
    assert run(daemon.data, "claim", "mine", "2", "--near", "1").stdout == "5,13\n"
    assert run(daemon.data, "list").stdout == "mine 5,13\n"
    assert run(daemon.data, "release", "mine").returncode == 0
    assert daemon.claims() == {}


def test_refusal_is_one_sentence(daemon: Daemon) -> None:
    done = run(daemon.data, "claim", "mine", "40")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Insufficient CPUs available. Requested: 40, Available: 12\n"


@pytest.mark.parametrize(
    "words", [("mine", "-1"), ("mine", "0"), ("mine", "x"), ("mine", "²"), ("\udcff", "2")], ids=str
)
def test_wrong_use_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path, "claim", *words)
    assert done.returncode == 2
    assert re.search(r"^consumer.py claim: error: argument \w+: must ", done.stderr, re.MULTILINE)


def test_near_takes_digits_of_a_number_only(daemon: Daemon) -> None:
    done = run(daemon.data, "claim", "mine", "2", "--near", "²")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Field 'near' must be a NUMA node, a PCI address or a network interface")


@pytest.mark.parametrize(("ends", "code"), [("signal", 130), ("pipe", 0)])
def test_watch_ends_without_a_traceback(daemon: Daemon, ends: str, code: int) -> None:
    command = [sys.executable, str(PROGRAM), "watch", "mine"]
    with subprocess.Popen(
        command, env=environment(daemon.data), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline() == "no CPUs\n"
        if ends == "signal":
            watching.send_signal(signal.SIGINT)
        else:
            watching.stdout.close()
            daemon.cores("mine", 2)
        assert watching.wait(PATIENCE) == code
        assert watching.stderr.read() == ""


def test_missing_connection_names_the_command(tmp_path: Path) -> None:
    done = run(tmp_path, "list")
    assert done.returncode == 3
    assert done.stderr.endswith("run: sudo snap connect epa-consumer:epa-info epa-orchestrator:epa-info\n")


def test_watch_prints_the_cpus_at_each_change(daemon: Daemon) -> None:
    command = [sys.executable, str(PROGRAM), "watch", "mine"]
    with subprocess.Popen(command, env=environment(daemon.data), stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            assert watching.stdout.readline() == "no CPUs\n"
            daemon.cores("other", 1)
            daemon.cores("mine", 2)
            assert watching.stdout.readline() == "2,10\n"
            daemon.cores("mine", -1)
            assert watching.stdout.readline() == "no CPUs\n"
        finally:
            watching.kill()
