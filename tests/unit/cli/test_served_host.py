# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Served host: a daemon audits the host that it serves, and a machine without a host not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epa_orchestrator.cli.served_host import served_host
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.recording import record_host
from tests.unit.daemon.audited import files_of


def test_a_sysfs_tree_belongs_to_the_host_around_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cmdline").write_text("quiet\n")
    monkeypatch.setenv("EPA_SYSFS", str(tmp_path / "sys"))
    files = served_host(None)
    assert files is not None
    assert files.read("proc/cmdline") == "quiet\n"


@pytest.mark.parametrize("name", ["sys", "tree"])
def test_a_sysfs_tree_alone_has_no_host(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setenv("EPA_SYSFS", str(tmp_path / name))
    assert served_host(None) is None


def test_a_machine_that_ships_has_no_host() -> None:
    assert served_host("vm-8") is None


def test_a_recorded_host_is_audited(tmp_path: Path) -> None:
    _, host = record_host(RecordedHost(files_of()), 5.0)
    path = tmp_path / "host.json"
    path.write_text(json.dumps({"format": "epa-orchestrator-machine/1", "name": "x", "files": {}, "host": host}))
    files = served_host(str(path))
    assert files is not None
    assert files.read("proc/cmdline") == "isolcpus=domain,managed_irq,2-3"


def test_a_recording_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match="not"):
        served_host(str(tmp_path / "x.json"))
