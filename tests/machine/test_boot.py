# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machine itself works, so that a failure of a later test is the charm's."""

from __future__ import annotations

import pytest

from tests.machine.emulator import CommandError
from tests.machine.machine import Machine


def read(machine: Machine, path: str) -> str:
    """Read one of the kernel's one-line files; their size is not known before."""
    return machine.run("cat", path).out.strip()


def test_cpus_are_isolated(machine: Machine) -> None:
    assert read(machine, "/sys/devices/system/cpu/online") == "0-15"
    assert read(machine, "/sys/devices/system/cpu/isolated") == "4-7,12-15"


def test_node_has_the_cpus_of_one_package(machine: Machine) -> None:
    assert read(machine, "/sys/devices/system/node/online") == "0-1"
    assert [read(machine, f"/sys/devices/system/node/node{node}/cpulist") for node in (0, 1)] == ["0-7", "8-15"]
    packages = [read(machine, f"/sys/devices/system/cpu/cpu{cpu}/topology/package_cpus_list") for cpu in (0, 8)]
    assert packages == ["0-7", "8-15"]


@pytest.mark.parametrize("node", [0, 1])
def test_node_has_its_hugepages(machine: Machine, node: int) -> None:
    pages = f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB"
    assert read(machine, f"{pages}/nr_hugepages") == "64"
    assert read(machine, f"{pages}/free_hugepages") == "64"


def test_two_threads_share_a_core(machine: Machine) -> None:
    siblings = [read(machine, f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in (0, 1, 14)]
    assert siblings == ["0-1", "0-1", "14-15"]


def test_snapd_and_its_base_are_installed(machine: Machine) -> None:
    names = [line.split()[0] for line in machine.run("snap", "list").out.splitlines()[1:]]
    assert names == ["core24", "snapd"]


def test_strict_snaps_are_confined(machine: Machine) -> None:
    """Files, capabilities and signals are confined; snapd reports `partial`, as Debian's kernel ignores D-Bus."""
    assert read(machine, "/sys/module/apparmor/parameters/enabled") == "Y"
    mediated = set(machine.run("ls", "/sys/kernel/security/apparmor/features").out.split())
    assert mediated >= {"caps", "domain", "file", "mount", "ptrace", "signal"}
    assert machine.run("snap", "debug", "confinement").out.strip() == "partial"


def test_python_is_that_of_the_base(machine: Machine) -> None:
    version = machine.run("python3", "--version").out
    assert version.startswith("Python 3.13.")
    assert machine.run("/snap/core24/current/usr/bin/python3", "--version").out == version


def test_command_gets_input_environment_and_directory(machine: Machine) -> None:
    result = machine.run(
        "sh", "-c", 'cat; echo "$WORD" >&2; pwd; exit 3', env={"WORD": "é"}, cwd="/etc", stdin="a\n", check=False
    )
    assert (result.rc, result.out, result.err) == (3, "a\n/etc\n", "é\n")


def test_failed_command_raises_its_output(machine: Machine) -> None:
    with pytest.raises(CommandError, match="ended with status 1\nbefore\n"):
        machine.shell("echo before; false")


def test_time_out_kills_all_processes_and_keeps_the_output(machine: Machine) -> None:
    result = machine.shell("echo before; sleep 1234 & sleep 1234", timeout=5, check=False)
    assert result.timed_out
    assert result.out == "before\n"
    assert machine.run("pgrep", "-f", "sleep 123[4]", check=False).out == ""


def test_command_ends_before_its_background_process(machine: Machine) -> None:
    result = machine.shell("setsid sleep 60 & echo started")
    assert result.out == "started\n"
    assert result.seconds < 30


def test_files_are_copied_in_and_out(machine: Machine) -> None:
    content = bytes(range(256)) * 4096
    machine.put("/tmp/new/file", content, 0o751)
    assert machine.get("/tmp/new/file") == content
    assert machine.run("stat", "--format=%a", "/tmp/new/file").out == "751\n"
    with pytest.raises(CommandError, match="No such file"):
        machine.get("/tmp/none")
