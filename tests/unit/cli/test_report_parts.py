# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A report never fails for one part, keeps secrets out of it, and has a bounded size."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any, ClassVar

import pytest

from epa_orchestrator.cli import report_parts
from epa_orchestrator.cli.report_parts import Sources, build_report
from epa_orchestrator.client import Client
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from tools.synthetic import Shape, build


def sources(directory: Path) -> Sources:
    return Sources(Client(directory / "none.sock"), RecordedSysfs(build(Shape())), None, directory / "state.db", "x7")


def test_snap_revision_is_a_version(tmp_path: Path) -> None:
    assert build_report(sources(tmp_path))["versions"]["snap revision"] == "x7"


def test_every_dependency_has_a_version(tmp_path: Path) -> None:
    names = {name.lower() for name in build_report(sources(tmp_path))["versions"]}
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))["project"]
    assert {re.split("[<>=~;]", each)[0] for each in project["dependencies"]} <= names


def test_a_bug_in_one_part_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise KeyError("a\x1b[2J")

    monkeypatch.setattr(report_parts, "_pools", fail)
    found = build_report(sources(tmp_path))
    assert found["missing"]["pools"] == "KeyError: 'a\\x1b[2J'"
    assert "recording" in found


def test_a_part_that_is_too_large_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def many(_: object) -> str:
        return "x" * 9_000_000

    monkeypatch.setattr(report_parts, "_pools", many)
    found = build_report(sources(tmp_path))
    assert found["missing"]["pools"] == "it has 9000002 bytes, more than 8388608"
    assert len(json.dumps(found)) < 100_000


def test_other_kernel_parameters_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "root=UUID=1234 isolcpus=managed_irq,2-5 token=s3cret nosmt hugepages=16 ip=10.0.0.1\n"
    read: Any = Path.read_text

    def read_text(path: Path, **options: Any) -> str:
        return line if str(path) == "/proc/cmdline" else read(path, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    found = build_report(sources(tmp_path))
    assert found["kernel_parameters"] == ["isolcpus=managed_irq,2-5", "nosmt", "hugepages=16"]
    assert "s3cret" not in json.dumps(found)


def test_summary_names_what_is_missing(tmp_path: Path) -> None:
    summary = build_report(sources(tmp_path))["summary"]
    assert summary[0].startswith("epa-orchestrator ")
    assert any(
        line.startswith("missing: pools, hugepages, machine_of_the_daemon: No daemon serves ") for line in summary
    )


class Asked(Client):
    """A daemon that knows these events."""

    events: ClassVar[list[Any]] = []

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert request["action"] == "get_history"
        return {"events": self.events}


def history(directory: Path, events: list[Any]) -> Any:
    Asked.events = events
    asked = dataclasses.replace(sources(directory), client=Asked(directory / "none.sock"))
    return build_report(asked).get("history")


def test_history_is_the_daemons(tmp_path: Path) -> None:
    assert history(tmp_path, [{"id": 1}, {"id": 2}]) == [{"id": 1}, {"id": 2}]


def test_long_history_has_its_newest_events(tmp_path: Path) -> None:
    found = history(tmp_path, [{"id": number, "text": "x" * 100_000} for number in range(20)])
    assert [event["id"] for event in found] == list(range(11, 20))


def test_one_long_event_is_left_out(tmp_path: Path) -> None:
    assert history(tmp_path, [{"text": "x" * 2_000_000}]) == []
