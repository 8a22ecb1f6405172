# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`--machine` takes a recording by file or by name, and `machine --record` writes one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.builders import Command
from tools.synthetic import Shape, build, write_tree

#: The names of the machines that ship.
SHIPPED = ("altra-q80-1s", "demo-48", "epyc-9654-2s", "vm-8", "xeon-8380-2s-snc2")


@pytest.mark.parametrize("as_json", [False, True])
def test_recording_shows_the_machine_that_it_was_made_of(as_json: bool, offline: Command) -> None:
    shape = Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="1-3", offline="5", hugepages={2048: (9, 8)})
    write_tree(build(shape), offline.base / "sys")
    host = {"EPA_SYSFS": str(offline.base / "sys")}
    recording = offline.base / "host.json"
    arguments = ["machine", "--record", str(recording), *(["--json"] if as_json else [])]
    result = offline.run(*arguments, env=host)
    assert result.exit_code == 0
    assert f"epa-orchestrator serve --machine {recording}" in result.stderr
    shown = offline.run("machine", "--json", env=host).stdout
    assert result.stdout == (shown if as_json else "")
    assert offline.text("machine", "--machine", str(recording), "--json") == shown


def test_recording_to_a_dash_is_printed(offline: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(offline.base)
    result = offline.run("machine", "--machine", "vm-8", "--record", "-")
    offline.run("machine", "--machine", "vm-8", "--record", "vm-8.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == Path("vm-8.json").read_text()
    assert not Path("-").exists()


def test_recording_to_a_dash_does_not_go_with_json(offline: Command) -> None:
    assert "both print on stdout" in offline.misuse("machine", "--record", "-", "--json")


def test_unwritable_recording_is_an_error(offline: Command) -> None:
    sentence = offline.failure(1, "machine", "--machine", "vm-8", "--record", str(offline.base / "missing" / "x.json"))
    assert sentence.endswith("No such file or directory")
    assert offline.failure(1, "machine", "--machine", "vm-8", "--record", str(offline.base)).endswith("Is a directory")


@pytest.mark.parametrize(
    "name", ["vm-9", "VM-8", "vm-8.json", "vm-8/", "/missing.json", "a\x1b[2J\n", "a\udcff", "x" * 5000]
)
def test_missing_machine_is_an_error(name: str, offline: Command) -> None:
    sentence = offline.failure(1, "machine", "--machine", name)
    assert "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name) in sentence


def test_missing_machine_lists_the_shipped_ones(offline: Command) -> None:
    assert offline.failure(1, "machine", "--machine", "vm-9").endswith(f"choose one of {', '.join(SHIPPED)}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"format": "epa-orchestrator-machine/1", "files": {"a\x1b[2J": 1}}',
        b'{"format": "epa-orchestrator-machine/1", "files": {"a\\u001b[2J\\n": 1}}',
        b'{"format": "epa-orchestrator-machine/1", "files": {"a/cpu{}/b": {"x": "3-1"}}}',
    ],
)
def test_invalid_recording_is_an_error(content: bytes, offline: Command) -> None:
    path = offline.base / "machine.json"
    path.write_bytes(content)
    sentence = offline.failure(1, "machine", "--machine", str(path))
    assert sentence.startswith(f"The recorded machine '{path}' cannot be used: ")


def test_recording_without_cpus_is_an_error(offline: Command) -> None:
    path = offline.base / "machine.json"
    for files in ({}, {"devices/system/cpu/present": "0-x\x1b[2J\n"}):
        path.write_text(json.dumps({"format": "epa-orchestrator-machine/1", "files": files}))
        assert "sysfs" in offline.failure(1, "machine", "--machine", str(path))


def test_file_has_precedence_over_a_shipped_machine(offline: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(offline.base)
    Path("vm-8").write_text("not a recording")
    assert "cannot be used" in offline.failure(1, "machine", "--machine", "vm-8")


def test_recording_has_the_devices(offline: Command) -> None:
    recording = offline.base / "host.json"
    offline.run("machine", "--machine", "demo-48", "--record", str(recording))
    files = json.loads(recording.read_text())["files"]
    assert (files["class/net/eth1/device/numa_node"], files["bus/pci/devices/0000:b1:00.0/numa_node"]) == ("1", "2")
