# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Paths and log level follow from the environment, inside a snap and outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epa_orchestrator import paths

VARIABLES = ("SNAP_DATA", "SNAP_COMMON", "EPA_SYSFS", "EPA_SETTINGS", "EPA_LOG_LEVEL", "XDG_STATE_HOME")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction]
    """Unset this machine's variables, and use an empty home."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_inside_the_snap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAP_DATA", "/var/snap/epa-orchestrator/42")
    monkeypatch.setenv("SNAP_COMMON", "/var/snap/epa-orchestrator/common")
    assert paths.socket_path() == Path("/var/snap/epa-orchestrator/42/data/epa.sock")
    assert paths.client_socket_path() == Path("/var/snap/epa-orchestrator/42/data/epa.sock")
    assert paths.data_directory() == Path("/var/snap/epa-orchestrator/42")
    assert paths.state_directory() == Path("/var/snap/epa-orchestrator/common")


def test_outside_a_snap(tmp_path: Path) -> None:
    user = tmp_path / "home" / ".local" / "state" / "epa-orchestrator"
    assert paths.socket_path() == user / "current" / "data" / "epa.sock"
    assert paths.state_directory() == user / "common"


def test_xdg_state_home_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert paths.socket_path() == Path("/elsewhere/epa-orchestrator/current/data/epa.sock")
    assert paths.state_directory() == Path("/elsewhere/epa-orchestrator/common")


def test_each_recorded_machine_has_its_own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    host, first, second = paths.state_directory(), paths.state_directory("vm-8"), paths.state_directory("other")
    assert len({host, first, second}) == 3
    assert first.name == "vm-8"


def test_recorded_machine_in_a_snap_uses_the_state_of_the_snap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAP_COMMON", "/common")
    assert paths.state_directory("vm-8") == Path("/common")


@pytest.mark.parametrize("name", VARIABLES)
def test_empty_variable_counts_as_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything() -> list[object]:
        return [
            paths.data_directory(),
            paths.state_directory(),
            paths.sysfs_root(),
            paths.settings_file(),
            paths.log_level(),
        ]

    before = everything()
    monkeypatch.setenv(name, "")
    assert everything() == before


@pytest.mark.parametrize(("level", "expected"), [(None, "info"), ("debug", "debug"), ("WARNING", "warning")])
def test_log_level(level: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if level is not None:
        monkeypatch.setenv("EPA_LOG_LEVEL", level)
    assert paths.log_level() == expected


def test_sysfs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.sysfs_root() == Path("/sys")
    monkeypatch.setenv("EPA_SYSFS", "/made/up")
    assert paths.sysfs_root() == Path("/made/up")


def test_settings_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.settings_file() is None
    monkeypatch.setenv("EPA_SETTINGS", "/etc/epa.json")
    assert paths.settings_file() == Path("/etc/epa.json")


@pytest.mark.parametrize(
    ("snap_data", "own", "installed", "expected"),
    [
        (None, False, True, "installed"),
        (None, True, True, "own"),
        (None, False, False, "own"),
        ("set", False, True, "set"),
        ("", False, True, "installed"),
    ],
)
def test_client_finds_the_installed_snap(
    snap_data: str | None,
    own: bool,
    installed: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The user's socket comes first; the installed snap's when only that one exists and SNAP_DATA is unset."""
    places = {
        "own": paths.socket_path(),
        "installed": tmp_path / "installed.sock",
        "set": tmp_path / "set" / "data" / "epa.sock",
    }
    monkeypatch.setattr(paths, "_SNAP_SOCKET", places["installed"])
    if snap_data is not None:
        monkeypatch.setenv("SNAP_DATA", str(tmp_path / "set") if snap_data else "")
    for name, exists in (("own", own), ("installed", installed)):
        if exists:
            places[name].parent.mkdir(parents=True, exist_ok=True)
            places[name].touch()
    assert paths.client_socket_path() == places[expected]


def test_client_of_an_unreadable_home_uses_the_installed_snap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    snap = tmp_path / "snap.sock"
    snap.touch()
    monkeypatch.setattr(paths, "_SNAP_SOCKET", snap)
    monkeypatch.setenv("XDG_STATE_HOME", "/" + "x" * 300)
    assert paths.client_socket_path() == snap


def test_user_without_a_home_uses_the_root_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    assert paths.socket_path() == Path("/.local/state/epa-orchestrator/current/data/epa.sock")


@pytest.mark.parametrize(
    ("sysfs_root", "root"),
    [
        ("/sys", "/"),
        ("/sys/", "/"),
        ("/x/sys", "/x"),
        ("/x/y/../sys/.", "/x"),
        ("/x/sysfs", None),
        ("/x/sys/devices", None),
        ("/", None),
    ],
)
def test_host_root_is_next_to_a_directory_named_sys(sysfs_root: str, root: str | None) -> None:
    assert paths.host_root(Path(sysfs_root)) == (None if root is None else Path(root))


def test_host_root_of_a_relative_sysfs_root_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.host_root(Path("sys")) == tmp_path
