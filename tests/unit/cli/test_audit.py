# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`audit` says what is wrong with the isolation of a host, and its exit code whether a check fails."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.isolation.findings import CHECKS
from tests.small_hosts import host, task, write_host
from tests.unit.cli.builders import Command, HostileServer, rows

BROKEN = host("isolcpus=managed_irq,2-3", isolated="")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_host(host(), tmp_path / "good")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return write_host(BROKEN, tmp_path / "broken")


def checks(command: Command, *arguments: str) -> dict[str, dict[str, str]]:
    result = command.run("audit", "--json", *arguments)
    assert result.stderr == ""
    document: dict[str, Any] = json.loads(result.stdout)
    assert list(document) == ["checks"]
    found = {check["id"]: check for check in document["checks"]}
    assert result.exit_code == int(any(check["result"] == "fail" for check in found.values()))
    return found


def test_every_check_has_one_result(offline: Command, good: Path, broken: Path) -> None:
    for root in (good, broken):
        found = checks(offline, "--root", str(root))
        assert list(found) == list(CHECKS)
        for name, check in found.items():
            assert list(check) == ["id", "result", "seen", "why", "remedy", "since"]
            assert check["result"] in ("pass", "warn", "fail", "not-checked")
            assert (check["result"] != "fail") or CHECKS[name].may_fail
            assert re.fullmatch(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", check["since"])


def test_good_host_ends_with_0_and_broken_one_with_1(offline: Command, good: Path, broken: Path) -> None:
    assert offline.run("audit", "--root", str(good)).exit_code == 0
    result = offline.run("audit", "--root", str(broken))
    assert (result.exit_code, result.stderr) == (1, "")
    failed = [row[0] for row in rows(result.stdout.splitlines()) if row[1] == "fail"]
    assert "A3" in failed
    assert result.stdout.splitlines()[-1].startswith(f"{len(failed)} check")


def test_screen_has_the_summary_first(offline: Command, broken: Path) -> None:
    shown = offline.run("audit", "--root", str(broken), env={"EPA_FOLD": "1"}).stdout.splitlines()
    assert re.match(r"[0-9]+ checks? fail", shown[0])
    assert shown[2].startswith("FAIL ")
    assert shown[-1].startswith("Pass: ")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_terminal_has_lines_that_fit(columns: int, offline: Command, good: Path) -> None:
    shown = offline.drawn("audit", "--root", str(good), environment={"TERM": "xterm", "NO_COLOR": "1"}, columns=columns)
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines() if " | " not in line]
    assert lines[0].split(", ")[0].endswith(("pass", "passes", "warn", "warns", "not made"))
    assert max(map(len, lines)) <= columns


def test_worst_is_red_on_a_terminal_with_colours(offline: Command, broken: Path) -> None:
    arguments = ("audit", "--root", str(broken))
    assert "\x1b[1;31mFAIL" in offline.drawn(*arguments, environment={"TERM": "xterm"}, columns=100)
    assert "\x1b[1;31m" not in offline.drawn(*arguments, environment={"TERM": "xterm", "NO_COLOR": "1"}, columns=100)


def test_recording_has_the_same_results_as_the_host(offline: Command, broken: Path, tmp_path: Path) -> None:
    host_environment = {"EPA_SYSFS": str(broken / "sys")}
    report, recording = str(tmp_path / "report.json"), str(tmp_path / "recording.json")
    assert offline.run("report", report, env=host_environment).exit_code == 0
    offline.run("machine", "--record", recording, env=host_environment)

    def results(*arguments: str) -> list[tuple[str, ...]]:
        document = json.loads(offline.run("audit", "--json", *arguments, env=host_environment).stdout)
        return [tuple(check[name] for name in ("id", "result", "remedy")) for check in document["checks"]]

    assert results("--root", report) == results("--root", recording) == results()
    assert json.loads(Path(report).read_text())["isolation"]["checks"][0]["id"] == "A1"


def test_daemon_is_never_asked_about_a_recorded_host(offline: Command, good: Path) -> None:
    server = HostileServer(offline.socket)
    try:
        checks(offline, "--root", str(good))
        assert server.received == []
    finally:
        server.stop()


def test_owner_checks_say_why_they_are_not_made(offline: Command, good: Path) -> None:
    recorded = checks(offline, "--root", str(good))
    offline.environment["EPA_SYSFS"] = str(good / "sys")
    here = checks(offline)
    for name in ("B3", "E1", "E2", "E3"):
        assert recorded[name]["result"] == here[name]["result"] == "not-checked"
        assert (
            recorded[name]["seen"] == "needs the daemon's claims: they are not in this recording, and a report has them"
        )
        assert here[name]["seen"].startswith(f"needs the daemon's claims: No daemon serves {offline.socket}: ")


def test_older_daemon_makes_no_owner_checks(offline: Command, good: Path) -> None:
    offline.environment["EPA_SYSFS"] = str(good / "sys")
    server = HostileServer(offline.socket, escapes="")
    try:
        seen = checks(offline)["E1"]["seen"]
    finally:
        server.stop()
    assert seen == "needs the daemon's claims: this daemon is older than this command: upgrade the daemon"


def test_measured_checks_need_two_readings(offline: Command, good: Path) -> None:
    offline.environment["EPA_SYSFS"] = str(good / "sys")
    assert checks(offline)["C2"]["seen"] == "needs two readings: run it with --measure 5"
    measured = checks(offline, "--measure", "1.5")
    assert measured["C2"]["since"] < measured["C1"]["since"]  # the time of the earlier reading
    assert checks(offline, "--root", str(good))["C2"]["seen"] == "needs two readings: a recording has one"


def test_cpu_chooses_what_is_judged(offline: Command, tmp_path: Path) -> None:
    files = host("isolcpus=2-3 nohz_full=2-3 rcu_nocbs=2-3") | task(401, "kworker/u8:1", "0-1,3", flags=0x00200000)
    root = str(write_host(files, tmp_path / "host"))
    assert checks(offline, "--root", root, "--cpu", "2")["B4"]["result"] == "pass"
    assert checks(offline, "--root", root, "--cpu", "3")["B4"]["result"] == "warn"
    seen = checks(offline, "--root", root, "--cpu", "0-1")["B4"]["seen"]
    assert seen == "needs an isolated CPU: CPUs 0-1 are not among CPUs 2-3"


def test_terminal_sees_that_measuring_takes_time(offline: Command, good: Path) -> None:
    command = [sys.executable, "-m", "epa_orchestrator", "audit", "--measure", "1"]
    environment = offline.process_environment(EPA_SYSFS=str(good / "sys"))
    ours, terminal = pty.openpty()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=terminal, check=False)
    os.close(terminal)
    with os.fdopen(ours, "rb", buffering=0) as screen:
        assert screen.read(4096) == b"measuring: the second reading follows in 1 s\r\n"
    assert done.stdout.startswith(b"CHECK")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--measure 0", "must be from 1 to 3600, not '0'"),
        ("--measure 3600.5", "must be from 1 to 3600, not '3600.5'"),
        ("--measure -5", "must be from 1 to 3600, not '-5'"),
        ("--measure nan", "must be a number such as 5 or 2.5, not 'nan'"),
        ("--measure 1e3", "must be a number such as 5 or 2.5, not '1e3'"),
        ("--cpu x", "must be a list of CPUs such as 2-5,8: 'x' is not a CPU or a range of CPUs such as 4-7"),
        ("--cpu ,", "must be a list of CPUs such as 2-5,8"),
        ("--cpu 5-2", "must be a list of CPUs such as 2-5,8"),
        ("--root ROOT --cpu 99", "This host has no CPU 99. It has CPUs 0-3"),
        ("--root ROOT --cpu 2,8-9", "This host has no CPUs 8-9. It has CPUs 0-3"),
        ("--cpu 2 --service nova", "--cpu and --service both choose CPUs: give one of them"),
        (
            "--root ROOT --measure 5",
            "--measure reads a host twice, and a recorded host holds one reading: leave one of",
        ),
        (
            "--root ROOT --service nova",
            "--service needs the claims: they are not in this recording, and a report has them",
        ),
        ("--root /nowhere", "There is no directory or file /nowhere"),
        ("--service \x1b", "holds characters that cannot be printed"),
    ],
)
def test_wrong_use_says_what_is_wrong(arguments: str, sentence: str, offline: Command, good: Path) -> None:
    words = [str(good) if word == "ROOT" else word for word in arguments.split(" ")]
    assert sentence in offline.misuse("audit", *words)


def test_daemon_that_was_named_has_to_answer(offline: Command, tmp_path: Path) -> None:
    missing = str(tmp_path / "x")
    assert offline.failure(3, "audit", "--socket", missing).startswith(f"No daemon serves {missing}")
    assert offline.failure(3, "audit", "--service", "nova").startswith("No daemon serves ")
    assert offline.failure(3, "audit", "--service", "nova", "--json").startswith("No daemon serves ")


def test_older_daemon_cannot_tell_the_cpus_of_a_service(offline: Command) -> None:
    server = HostileServer(offline.socket, escapes="")
    try:
        sentence = offline.failure(1, "audit", "--service", "nova")
    finally:
        server.stop()
    assert sentence == "This daemon is older than this command and cannot tell who owns which CPUs: upgrade the daemon"
