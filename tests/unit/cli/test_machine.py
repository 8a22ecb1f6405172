# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`machine` shows this host or a recorded machine as the daemon would discover it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from epa_orchestrator.hardware import sysfs
from epa_orchestrator.hardware.sysfs import load_recording
from tests.unit.cli.builders import Command, Daemon, HostileServer
from tools.synthetic import Shape, build, write_tree

#: CPUs of the shipped machines: 80 Neoverse N1; 2 x 96 Zen 4 cores and 2 x 40 Ice Lake cores of 2 threads; 8 vCPUs.
CPUS = {"altra-q80-1s": 80, "epyc-9654-2s": 384, "vm-8": 8, "xeon-8380-2s-snc2": 160}


def test_machine(offline: Command) -> None:
    text = offline.text("machine", "--machine", "vm-8")
    assert "8 of 8: 0-7" in text
    assert "2-7" in text
    assert "4, 2 threads each" in text
    assert "2048 x 2M (2048 free)" in text


def test_machine_json(offline: Command) -> None:
    assert offline.json("machine", "--machine", "vm-8") == {
        "present": "0-7",
        "online": "0-7",
        "isolated": "2-7",
        "packages": [{"id": "0", "cpus": "0-7"}],
        "nodes": [
            {
                "id": 0,
                "cpus": "0-7",
                "distances": [10],
                "memory_kb": 16 << 20,
                "hugepages": [
                    {"size_kb": 2048, "total": 2048, "free": 2048},
                    {"size_kb": 1048576, "total": 0, "free": 0},
                ],
            }
        ],
        "l3_domains": ["0-7"],
        "l2_clusters": [],
        "cores": [{"cpus": f"{cpu}-{cpu + 1}", "type": None} for cpu in (0, 2, 4, 6)],
    }


@pytest.mark.parametrize("name", CPUS)
def test_shipped_machine_is_shown(name: str, offline: Command) -> None:
    document = offline.json("machine", "--machine", name)
    assert document["isolated"]
    assert f"of {CPUS[name]}: " in offline.text("machine", "--machine", name)


def test_default_machine_is_this_host(offline: Command) -> None:
    shape = Shape(packages=2, cores_per_l3=3, isolated="1-2", hugepages={2048: (3, 1)})
    write_tree(build(shape), offline.base / "sys")
    result = offline.run("machine", "--json", env={"EPA_SYSFS": str(offline.base / "sys")})
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["online"], document["isolated"]) == ("0-5", "1-2")
    assert document["nodes"][1]["hugepages"] == [{"size_kb": 2048, "total": 3, "free": 1}]


def test_recording_has_the_promised_hugepages(offline: Command) -> None:
    promised = "kernel/mm/hugepages/hugepages-2048kB/resv_hugepages"
    files = build(Shape(isolated="1-2", hugepages={2048: (3, 1)})) | {promised: "1"}
    write_tree(files, offline.base / "sys")
    file = offline.base / "host.json"
    result = offline.run("machine", "--record", str(file), env={"EPA_SYSFS": str(offline.base / "sys")})
    assert result.exit_code == 0
    assert load_recording(file.read_text()).read(promised) == "1"


def test_host_without_cpus_is_an_error(offline: Command) -> None:
    root = offline.base / "sys"
    root.mkdir()
    for arguments in (["machine"], ["machine", "--json"]):
        result = offline.run(*arguments, env={"EPA_SYSFS": str(root)})
        assert result.exit_code == 1
        assert f"The machine in {root} cannot be shown: sysfs shows no CPUs" in result.stderr


def test_recording_of_a_host_with_a_cut_list_shows_the_same_error(offline: Command) -> None:
    write_tree(build(Shape(isolated="1-3")), offline.base / "sys")
    (offline.base / "sys/devices/system/cpu/isolated").write_text("1-3")
    file = offline.base / "recorded.json"
    first = offline.run("machine", "--record", str(file), env={"EPA_SYSFS": str(offline.base / "sys")})
    assert first.exit_code == 1
    assert "cpu/isolated is cut short after '1-3'" in first.stderr
    reason = offline.failure(1, "machine", "--machine", str(file)).partition(" cannot be shown: ")[2]
    assert reason in first.stderr


@pytest.mark.parametrize("arguments", [["machine"], ["machine", "--json"]])
def test_unreadable_host_is_an_error(arguments: list[str], offline: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose lxcfs has died: its files in /sys then fail with ENOTCONN."""
    write_tree(build(Shape()), offline.base / "sys")

    def fail(path: str, *_: object) -> int:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), path)

    monkeypatch.setattr(sysfs.os, "open", fail)
    result = offline.run(*arguments, env={"EPA_SYSFS": str(offline.base / "sys")})
    assert result.exit_code == 1
    assert "Transport endpoint is not connected" in result.stderr


def test_running_daemon_is_asked(daemon: Daemon) -> None:
    """Not this host, which has other CPUs."""
    root = {"EPA_SYSFS": "/nope"}
    shown, as_json = daemon.run("machine", env=root), daemon.run("machine", "--json", env=root)
    assert (shown.exit_code, shown.stderr, as_json.exit_code, as_json.stderr) == (0, "", 0, "")
    assert "8 of 8: 0-7" in shown.stdout
    assert json.loads(as_json.stdout) == daemon.json("machine", "--machine", "vm-8")


def test_without_a_daemon_the_command_says_that_it_reads_the_machine_itself(offline: Command) -> None:
    write_tree(build(Shape(cores_per_l3=3)), offline.base / "sys")
    result = offline.run("machine", env={"EPA_SYSFS": str(offline.base / "sys")})
    assert result.exit_code == 0
    assert "3 of 3: 0-2" in result.stdout
    assert result.stderr.startswith(f"note: No daemon serves {offline.socket}: ")
    assert result.stderr.endswith(". This is what the command reads itself\n")


def test_older_daemon_is_named(tmp_path: Path) -> None:
    command = Command(tmp_path)
    write_tree(build(Shape(cores_per_l3=3)), tmp_path / "sys")
    server = HostileServer(command.socket, escapes="")
    try:
        result = command.run("machine", env={"EPA_SYSFS": str(tmp_path / "sys")})
    finally:
        server.stop()
    assert result.exit_code == 0
    assert "3 of 3: 0-2" in result.stdout
    assert result.stderr.startswith(
        "note: This daemon is older than this command and cannot describe the machine: upgrade the daemon. "
    )
    assert server.requests[0]["action"] == "list_allocations"


def test_read_only_daemon_shows_its_machine(read_only: Daemon) -> None:
    result = read_only.run("machine", env={"EPA_SYSFS": "/nope"})
    assert result.exit_code == 4
    assert "8 of 8: 0-7" in result.stdout
    assert result.stderr.startswith("READ-ONLY: ")
