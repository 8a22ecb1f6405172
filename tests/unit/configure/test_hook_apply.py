# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Options that fit become the settings; others are refused, and no file changes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.settings import SettingsError, load_settings, parse_settings
from epa_orchestrator.configure.hook import ConfigureError
from epa_orchestrator.configure.proposal import NotAcceptable
from epa_orchestrator.hardware.sysfs import SysfsTree
from tests.unit.configure.builders import USED, Snap


def test_first_options_become_the_settings(installed: Snap) -> None:
    installed.put(USED)
    assert json.loads(installed.settings.read_text()) == USED
    assert load_settings(installed.settings) == parse_settings(USED)
    assert installed.content().keys() == {"data/settings.json"}


def test_options_replace_the_settings_as_a_whole(installed: Snap) -> None:
    installed.put(USED)
    installed.put({"reserved-cpus": "3"})
    assert load_settings(installed.settings) == parse_settings({"reserved-cpus": "3"})
    installed.put({})
    assert load_settings(installed.settings) == parse_settings({})
    assert installed.content().keys() == {"data/settings.json"}


def older_claims(installed: Snap, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the older daemon's state, which the first start imports."""
    monkeypatch.setenv("SNAP_DATA", str(installed.data))
    (installed.data / "data").mkdir()
    (installed.data / "data" / "state.json").write_text(content)


def test_claims_of_the_older_daemon_count_before_their_import(installed: Snap, monkeypatch: pytest.MonkeyPatch) -> None:
    older_claims(installed, '{"version": 1, "allocations_db": {"allocations": {"ceph-osd": "6-7"}}}', monkeypatch)
    assert "7 (held by ceph-osd)" in installed.refusal({"reserved-cpus": "7"}, NotAcceptable)
    installed.put({"reserved-cpus": "5"})


def test_no_cpu_leaves_a_pool_while_the_older_daemons_claims_are_unreadable(
    installed: Snap, monkeypatch: pytest.MonkeyPatch
) -> None:
    older_claims(installed, "[]", monkeypatch)
    sentence = installed.refusal({"reserved-cpus": "7"}, NotAcceptable)
    assert "the claims cannot be read: the older daemon's state cannot be imported" in sentence
    installed.put({"numa-reclaim": "never"})


def test_reader_sees_the_old_or_the_new_settings(installed: Snap) -> None:
    installed.put(USED)
    with installed.settings.open() as old:
        installed.put({})
        assert json.loads(old.read()) == USED


def test_invalid_option_is_refused(installed: Snap) -> None:
    installed.put(USED)
    sentence = installed.refusal({"numa-policy": "sideways"}, SettingsError)
    assert sentence.startswith("numa-policy='sideways' is not valid: set it to 'best-effort'")


def test_options_that_do_not_fit_the_machine_are_refused(installed: Snap) -> None:
    installed.put(USED)
    assert installed.refusal({"cpu-pool": "0,9"}, NotAcceptable) == (
        "cpu-pool=0,9 names CPUs 9, which this machine does not have: choose from 0-7"
    )
    assert installed.refusal({"reserved-hugepages": "1:2048:9"}, NotAcceptable) == (
        "reserved-hugepages=1:2M:9 reserves more than the 8 hugepages of 2M that NUMA node 1 has: reserve fewer"
    )


def test_options_that_take_cpus_or_pages_from_claims_are_refused(installed: Snap) -> None:
    installed.claim("2,6", pages=5)
    installed.put(USED)
    assert installed.refusal({"reserved-cpus": "2-3"}, NotAcceptable) == (
        "cpu-pool=empty and reserved-cpus=2-3 would remove CPUs in use from their pool: 2 (held by nova);"
        " release them first, or choose other CPUs"
    )
    assert installed.refusal(USED | {"reserved-hugepages": "0:2048:4"}, NotAcceptable) == (
        "reserved-hugepages=0:2M:4 leaves 4 of 8 pages, but 5 are in use (5 by nova): release some first, or"
        " reserve fewer"
    )
    installed.put(USED | {"reserved-cpus": "3,7", "reserved-hugepages": "0:2048:3"})


def test_invalid_settings_can_be_replaced(installed: Snap) -> None:
    installed.settings.write_text("{")
    installed.put(USED)
    assert load_settings(installed.settings) == parse_settings(USED)


def test_unreadable_host_prevents_no_options(installed: Snap) -> None:
    installed.sys = installed.base / "nothing"
    options = {"cpu-pool": "0,64", "reserved-cpus": "1", "reserved-hugepages": "0:2048:99"}
    installed.put(options)
    assert load_settings(installed.settings) == parse_settings(options)


def test_claims_count_while_the_host_is_unreadable(installed: Snap) -> None:
    installed.claim("6")
    installed.sys = installed.base / "nothing"
    assert "6 (held by nova)" in installed.refusal({"reserved-cpus": "6"}, NotAcceptable)


def test_hidden_hugepages_are_not_judged(installed: Snap, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its plug is connected, a snap may read files of the nodes, but no directories."""
    assert "has no hugepages" in installed.refusal({"reserved-hugepages": "0:4:1"}, NotAcceptable)
    names = SysfsTree.names

    def hide(tree: SysfsTree, directory: str) -> list[str] | None:
        return None if directory.endswith("hugepages") else names(tree, directory)

    monkeypatch.setattr(SysfsTree, "names", hide)
    installed.put({"reserved-hugepages": "0:4:1"})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty, although it once held the claims"),
        (b"rubbish" * 1000, "cannot be read: file is not a database"),
    ],
)
def test_unreadable_claims_prevent_only_options_that_could_take_their_cpus(
    content: bytes, why: str, installed: Snap
) -> None:
    installed.database.write_bytes(content)
    assert installed.refusal({"reserved-cpus": "3"}, NotAcceptable) == (
        f"CPUs cannot leave a pool while the claims cannot be read: the state database {why}"
    )
    installed.put(USED)
    assert installed.database.read_bytes() == content


def test_missing_directory_is_an_error(installed: Snap) -> None:
    installed.settings = installed.base / "gone" / "settings.json"
    assert installed.refusal(USED, ConfigureError) == (
        f"The settings {installed.settings} cannot be written: No such file or directory"
    )


@pytest.fixture
def read_only(installed: Snap) -> Iterator[Snap]:
    """A snap with a read-only directory of settings."""
    if os.geteuid() == 0:  # permissions do not stop root
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(installed.data)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("no permission to mount here")
        yield installed
        subprocess.run(["umount", "-l", str(installed.data)], check=True)
    else:
        installed.data.chmod(0o500)
        yield installed
        installed.data.chmod(0o700)


def test_read_only_directory_is_an_error(read_only: Snap) -> None:
    sentence = read_only.refusal(USED, ConfigureError)
    assert sentence.startswith(f"The settings {read_only.settings} cannot be written: ")
    assert sentence.endswith(("Read-only file system", "Permission denied"))


def test_failed_write_is_an_error_and_leaves_no_file(installed: Snap) -> None:
    installed.put(USED)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        sentence = installed.refusal({}, ConfigureError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sentence == f"The settings {installed.settings} cannot be written: File too large"


def test_directory_in_the_place_of_the_settings_is_an_error(installed: Snap) -> None:
    installed.settings.mkdir()
    sentence = installed.refusal(USED, ConfigureError)
    assert str(installed.settings) in sentence
    assert "it is not a regular file" in sentence


def test_fifo_in_the_place_of_the_settings_is_an_error(installed: Snap) -> None:
    os.mkfifo(installed.settings)
    assert "it is not a regular file" in installed.refusal(USED, ConfigureError)


def fill_at(monkeypatch: pytest.MonkeyPatch, full: Callable[[], bool]) -> None:
    """Make fsync(2) fail as on a full disk while `full` returns true."""
    sync = os.fsync

    def fail(fd: int) -> None:
        if full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.parametrize("before", [USED, None])
def test_refused_settings_are_undone_even_on_a_full_disk(
    before: dict[str, Any] | None, installed: Snap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the daemon would use refused settings at its next start."""
    if before is not None:
        installed.put(before)
    (installed.common / "lock").mkdir()
    written: list[int] = []
    fill_at(monkeypatch, lambda: written.append(0) or len(written) > 2)
    installed.refusal({"numa-reclaim": "always"}, ConfigureError)
    assert len(written) > 2


@pytest.mark.parametrize("before", [USED, None])
@pytest.mark.parametrize("nth", [1, 2])
def test_settings_whose_sync_fails_are_refused(
    nth: int, before: dict[str, Any] | None, installed: Snap, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is not None:
        installed.put(before)
    synced: list[int] = []
    fill_at(monkeypatch, lambda: synced.append(0) or len(synced) == nth)
    sentence = installed.refusal({"numa-reclaim": "always"}, ConfigureError)
    assert sentence == f"The settings {installed.settings} cannot be written: No space left on device"


def test_settings_longer_than_the_daemon_reads_are_refused(installed: Snap) -> None:
    sentence = installed.refusal({"allowed-uids": [2**32 - 1] * 100_000}, ConfigureError)
    assert sentence.endswith("more than 1048576: shorten their lists")


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch], ids=["a FIFO", "a file"])
@pytest.mark.parametrize("name", [".settings.json.new", ".settings.json.old"])
def test_leftover_of_a_killed_hook_is_replaced(name: str, make: Callable[[Path], None], installed: Snap) -> None:
    make(installed.data / name)
    installed.put(USED)
    assert load_settings(installed.settings) == parse_settings(USED)
    assert sorted(os.listdir(installed.data)) == [".settings.json.lock", "settings.json"]


def test_second_hook_waits_for_the_first(installed: Snap) -> None:
    held = os.open(installed.data / ".settings.json.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    other = threading.Thread(target=installed.put, args=(USED,))
    other.start()
    other.join(0.3)
    assert os.listdir(installed.data) == [".settings.json.lock"]
    os.close(held)
    other.join(30)
    assert load_settings(installed.settings) == parse_settings(USED)


@pytest.mark.parametrize(
    ("nohz_full", "refused"),
    [("6-7\n", "2 (held by nova)"), ("2-3\n", "6 (held by nova)"), ("(null)\n", "2,6 (held by nova)"), ("2,6\n", None)],
)
def test_source_of_isolated_cpus_may_not_take_cpus_in_use(nohz_full: str, refused: str | None, installed: Snap) -> None:
    installed.claim("2,6")
    (installed.sys / "devices/system/cpu/nohz_full").write_text(nohz_full)
    options = {"isolated-cpus-from": "nohz_full"}
    if refused is None:
        installed.put(options)
        assert load_settings(installed.settings) == parse_settings(options)
    else:
        sentence = installed.refusal(options, NotAcceptable)
        assert sentence.startswith("isolated-cpus-from=nohz_full would remove CPUs in use from their pool: ")
        assert f": {refused};" in sentence


def test_source_that_cannot_be_read_yet_is_accepted(installed: Snap) -> None:
    """A snap is configured before its plugs are connected; the daemon grants nothing until it can read the file."""
    installed.claim("2,6")
    (installed.sys / "fs/cgroup").mkdir(parents=True)
    (installed.sys / "fs/cgroup/cpuset.cpus.isolated").symlink_to("missing")
    installed.put({"isolated-cpus-from": "cpuset"})
    assert load_settings(installed.settings).isolated_cpus_from == "cpuset"
