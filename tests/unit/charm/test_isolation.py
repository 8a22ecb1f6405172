# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The host's isolation as read from its sysfs tree, and whether systemd reports a container."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

import daemon_health
import isolation
from epa_orchestrator.hardware.sysfs import SysfsTree
from isolation import Isolation
from tools.synthetic import Shape, build, write_tree

#: Two cores with two threads each: CPUs 0 and 2 share a core, and CPUs 1 and 3.
SHAPE = Shape(cores_per_l3=2, threads_per_core=2)

ONLINE = Path("/sys/devices/system/cpu/online")

NONE = "no isolated CPUs: pinning requests will be refused; "
HERE = NONE + "set isolcpus= on the kernel command line and reboot"
ELSEWHERE = NONE + "set isolcpus= on the host's kernel command line and reboot the host"


@pytest.fixture
def detect_virt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs a shell script with this body as systemd-detect-virt."""

    def put(body: str) -> None:
        program = tmp_path / "bin" / "systemd-detect-virt"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setattr(isolation, "_DETECT_VIRT", str(program))

    return put


@pytest.fixture
def _not_a_container(detect_virt: Callable[[str], None]) -> None:  # pyright: ignore[reportUnusedFunction]
    detect_virt("exit 1")


def read(tmp_path: Path, shape: Shape) -> Isolation:
    write_tree(build(shape), tmp_path / "sys")
    return isolation.read(SysfsTree(tmp_path / "sys"))


def isolating(isolated: str, offline: str = "") -> Shape:
    return Shape(cores_per_l3=2, threads_per_core=2, isolated=isolated, offline=offline)


@pytest.mark.usefixtures("_not_a_container")
def test_host_with_isolated_cpus_has_no_problem(tmp_path: Path) -> None:
    host = read(tmp_path, isolating("1,3"))
    assert str(host.isolated) == "1,3"
    assert host.problem is None
    assert host.notes == []
    assert not host.container
    assert host.container_note == ""


@pytest.mark.usefixtures("_not_a_container")
def test_remedy_for_missing_isolation_is_the_kernel_command_line(tmp_path: Path) -> None:
    host = read(tmp_path, SHAPE)
    assert not host.isolated
    assert host.problem == HERE
    assert host.notes == []


def test_remedy_in_a_container_is_the_hosts_command_line(tmp_path: Path, detect_virt: Callable[[str], None]) -> None:
    detect_virt("exit 0")
    host = read(tmp_path, SHAPE)
    assert host.container
    assert host.problem == ELSEWHERE


def test_container_with_isolated_cpus_has_no_problem(tmp_path: Path, detect_virt: Callable[[str], None]) -> None:
    detect_virt("exit 0")
    host = read(tmp_path, isolating("1,3"))
    assert host.container
    assert host.problem is None
    assert host.container_note == (
        "this is a container: isolation belongs to the host, and an orchestrator there would grant the same CPUs"
    )


def test_detection_asks_systemd_for_containers_only(tmp_path: Path, detect_virt: Callable[[str], None]) -> None:
    """Without the option, systemd reports virtual machines too."""
    detect_virt(f'echo "$@" > {tmp_path}/asked')
    read(tmp_path, SHAPE)
    assert "--container" in (tmp_path / "asked").read_text().split()


def test_host_without_systemd_is_not_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_DETECT_VIRT", str(tmp_path / "missing"))
    host = read(tmp_path, SHAPE)
    assert not host.container
    assert host.problem == HERE


CPU = "devices/system/cpu"


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Stores a text as the settings of the daemon."""
    data = tmp_path / "current"
    (data / "data").mkdir(parents=True)
    monkeypatch.setattr(daemon_health, "SOCKET", data / "data" / "epa.sock")

    def store(text: str) -> None:
        (data / "settings.json").write_text(text)

    return store


@pytest.mark.usefixtures("_not_a_container")
@pytest.mark.parametrize(
    ("settings", "cpus"),
    [
        ("{}", "1"),
        ('{"isolated-cpus-from": "isolcpus"}', "1"),
        ('{"isolated-cpus-from": "nohz_full", "cpu-pool": "x"}', "2"),
        ('{"isolated-cpus-from": "cpuset"}', "3"),
        ('{"isolated-cpus-from": "rubbish"}', "1"),
        ("rubbish", "1"),
    ],
)
def test_isolated_cpus_come_from_where_the_daemons_settings_say(
    settings: str, cpus: str, tmp_path: Path, chosen: Callable[[str], None]
) -> None:
    chosen(settings)
    lists = {f"{CPU}/isolated": "1", f"{CPU}/nohz_full": "2", "fs/cgroup/cpuset.cpus.isolated": "3"}
    write_tree(build(SHAPE) | lists, tmp_path / "sys")
    host = isolation.read(SysfsTree(tmp_path / "sys"))
    assert (str(host.isolated), host.problem) == (cpus, None)


@pytest.mark.usefixtures("_not_a_container")
@pytest.mark.parametrize(
    ("source", "nohz_full", "remedy"),
    [
        ("isolcpus", "(null)", "set isolcpus= on the kernel command line and reboot"),
        ("nohz_full", "(null)", "set nohz_full= on the kernel command line and reboot"),
        ("cpuset", "(null)", "make an isolated cpuset partition"),
        ("cpuset", "2-3", "nohz_full has 2-3: set isolated-cpus-from=nohz_full"),
    ],
)
def test_remedy_fits_the_source_and_says_what_was_found_elsewhere(
    source: str, nohz_full: str, remedy: str, tmp_path: Path, chosen: Callable[[str], None]
) -> None:
    chosen(json.dumps({"isolated-cpus-from": source}))
    write_tree(build(SHAPE) | {f"{CPU}/nohz_full": nohz_full}, tmp_path / "sys")
    assert isolation.read(SysfsTree(tmp_path / "sys")).problem == NONE + remedy


@pytest.mark.usefixtures("_not_a_container")
def test_host_without_sysfs_is_reported(tmp_path: Path) -> None:
    host = isolation.read(SysfsTree(tmp_path / "nothing"))
    assert host.machine is None
    assert not host.isolated
    assert host.problem == (
        "the CPUs of this host cannot be read: sysfs shows no CPUs: devices/system/cpu is missing or cannot be listed;"
        " in a snap, connect its plugs"
    )
    assert host.notes == []


@pytest.mark.usefixtures("_not_a_container")
@pytest.mark.parametrize("text", ["rubbish", "3-1", "9" * 5000])
def test_malformed_sysfs_file_is_named(text: str, tmp_path: Path) -> None:
    write_tree(build(SHAPE) | {"devices/system/cpu/isolated": text}, tmp_path)
    problem = isolation.read(SysfsTree(tmp_path)).problem
    assert problem is not None
    assert problem.startswith("the CPUs of this host cannot be read: sysfs devices/system/cpu/isolated")
    assert len(problem) < 300


@pytest.mark.usefixtures("_not_a_container")
@pytest.mark.parametrize(
    ("isolated", "offline", "notes"),
    [
        ("1,3", "", []),
        ("1,3", "3", ["CPU 3 is isolated but offline"]),
        ("3", "", ["only some threads of these cores are isolated: 1,3"]),
        ("2-3", "", ["only some threads of these cores are isolated: 0,2, 1,3"]),
        ("0-3", "", ["all CPUs are isolated: none is left for the kernel and for other processes"]),
        (
            "1-3",
            "0",
            ["all CPUs are isolated: none is left for the kernel and for other processes"],
        ),
        (
            "2-3",
            "2",
            ["CPU 2 is isolated but offline", "only some threads of these cores are isolated: 1,3"],
        ),
    ],
)
def test_notes_name_flaws_of_the_isolation(isolated: str, offline: str, notes: list[str], tmp_path: Path) -> None:
    assert read(tmp_path, isolating(isolated, offline)).notes == notes


def test_failed_read_is_reported(tmp_path: Path) -> None:
    """A file that exists must not count as missing when it cannot be opened, and must not end in a traceback."""
    write_tree(build(SHAPE), tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_fd = os.dup(0)
    os.close(next_fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_fd, limits[1]))
    try:
        host = isolation.read(SysfsTree(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert host.machine is None
    assert host.problem is not None
    assert "Too many open files" in host.problem


@pytest.mark.usefixtures("_not_a_container")
@pytest.mark.skipif(not ONLINE.exists(), reason="this host has no list of CPUs in sysfs")
def test_default_is_this_host() -> None:
    host = isolation.read()
    assert host.machine is not None
    assert str(host.machine.online) == ONLINE.read_text().strip()
