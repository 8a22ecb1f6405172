# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command line, run on a real daemon as the charm's actions run it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import command_line
import daemon_health
from tests.service import Service

from .workload import error_of


def test_output_is_that_of_the_command(daemon: Service) -> None:
    daemon.client.allocate("nova", 2)
    assert "nova" in command_line.run("list")


def test_refusal_comes_before_the_table(daemon: Service) -> None:
    del daemon
    text = command_line.run("explain", "--cpu-thread-policy=require", "nova", "3")
    assert text.splitlines()[0].startswith("3 CPUs cannot be placed: cpu-thread-policy=require")
    assert len(text.splitlines()) > 5


def test_long_refusal_is_folded(daemon: Service) -> None:
    del daemon
    text = command_line.run("explain", "--cpu-thread-policy=require", "nova", "3")
    assert all(len(line) <= 110 for line in text.splitlines())


@pytest.mark.usefixtures("daemon")
def test_wrong_use_is_an_error() -> None:
    assert "--nothing" in error_of(lambda: command_line.run("list", "--nothing"))


@pytest.mark.usefixtures("service")
def test_missing_daemon_is_an_error() -> None:
    assert error_of(lambda: command_line.run("list")).startswith("No daemon serves ")


def test_json_is_the_object_of_the_command(daemon: Service) -> None:
    daemon.client.allocate("nova", 2)
    found = command_line.run_json("list")
    assert [claim["service_name"] for claim in found["allocations"]] == ["nova"]


def test_json_of_a_command_that_fails_is_an_error(daemon: Service) -> None:
    del daemon
    assert error_of(lambda: command_line.run_json("why", "nobody")).startswith("Service 'nobody' holds nothing")
    assert "--nothing" in error_of(lambda: command_line.run_json("list", "--nothing"))


def test_slow_command_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "_TIME", 0.01)
    assert error_of(lambda: command_line.run("list")) == "epa-orchestrator list did not end within 0.01 seconds"


def test_command_without_a_word_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(daemon_health, "SOCKET", tmp_path / "x1" / "data" / "epa.sock")
    assert error_of(lambda: command_line.run("list")) == "epa-orchestrator list failed with exit code 1"


def test_output_directory_is_the_snaps(service: Service) -> None:
    assert command_line.output_directory() == service.log.parent


def test_output_directory_needs_the_snap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(daemon_health, "SOCKET", tmp_path / "x1" / "data" / "epa.sock")
    assert error_of(command_line.output_directory) == "the snap is not installed: see 'juju debug-log'"
