# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The audit judges this host or a recorded one, with the options of its operator."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
import typer

from epa_orchestrator.cli import audited_host
from epa_orchestrator.cli.audited_host import live_files, options_of, recorded_host, terms_of, this_host
from epa_orchestrator.hardware.sysfs import FORMAT, REPORT_FORMAT
from epa_orchestrator.isolation.case import Terms
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.recording import record_host
from tests.small_hosts import host, write_host


def sentence_of(path: Path) -> str:
    with pytest.raises(typer.BadParameter) as error:
        recorded_host(path)
    return error.value.format_message()


def test_directory_with_the_files_of_a_host_is_judged(tmp_path: Path) -> None:
    found = recorded_host(write_host(host(), tmp_path))
    assert found.files.read("proc/uptime") == "100.00 300.00\n"
    assert (found.terms, found.claims.owners, found.is_live) == (Terms(), None, False)


def test_directory_without_proc_and_sys_is_wrong_use(tmp_path: Path) -> None:
    assert sentence_of(tmp_path) == f"{tmp_path} holds neither proc nor sys: give the directory that they are in"


def test_missing_path_is_wrong_use(tmp_path: Path) -> None:
    assert sentence_of(tmp_path / "x") == f"There is no directory or file {tmp_path / 'x'}"


def test_file_that_is_no_recording_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    assert sentence_of(tmp_path / "x").startswith(f"The recorded host {tmp_path / 'x'} cannot be used: its 'format' ")


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({"options": {"nohz-full": "none", "isolated-cpus-from": "nohz_full"}}, Terms("nohz_full", "none")),
        ({"options": {"nohz-full": "x"}}, Terms()),
        ({"options": []}, Terms()),
        (1, Terms()),
        (None, Terms()),
    ],
)
def test_report_has_its_own_time_and_options(settings: object, terms: Terms, tmp_path: Path) -> None:
    recording = {"format": FORMAT, "files": {}, "host": record_host(RecordedHost(host()), 5.5)[1]}
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"format": REPORT_FORMAT, "recording": recording, "settings": settings}))
    found = recorded_host(report)
    assert (found.clock(), found.terms) == (5.5, terms)


def test_a_host_without_recorded_options_is_judged_by_those_of_the_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.json").write_text('{"nohz-full": "none"}')
    monkeypatch.setenv("EPA_SETTINGS", str(tmp_path / "settings.json"))
    recording = {"format": FORMAT, "files": {}, "host": record_host(RecordedHost(host()), 5.5)[1]}
    (tmp_path / "machine.json").write_text(json.dumps(recording))
    directory = write_host(host(), tmp_path / "copy")
    for path in (directory, tmp_path / "machine.json"):
        assert recorded_host(path).terms == Terms(nohz_full="none")


def test_this_host_has_the_options_of_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.json").write_text('{"nohz-full": "none"}')
    monkeypatch.setenv("EPA_SETTINGS", str(tmp_path / "settings.json"))
    monkeypatch.setenv("EPA_SYSFS", str(write_host(host(), tmp_path) / "sys"))
    monkeypatch.setenv("SNAP_DATA", str(tmp_path))
    found = this_host()
    assert found.files.read("proc/uptime") == "100.00 300.00\n"
    assert (found.terms, found.is_live) == (Terms(nohz_full="none"), True)


def test_sysfs_root_of_no_host_is_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPA_SYSFS", str(tmp_path))
    with pytest.raises(typer.BadParameter, match="is no directory sys of a host"):
        this_host()


def test_settings_that_nobody_may_read_are_the_defaults(tmp_path: Path) -> None:
    assert options_of(tmp_path / "missing") is options_of(None) is None
    assert terms_of(None) == Terms()


def test_snap_sees_no_boot_loader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SNAP_NAME", "epa-orchestrator")
    monkeypatch.setenv("SNAP_DATA", str(tmp_path))
    monkeypatch.setenv("EPA_SYSFS", str(tmp_path / "sys"))
    for files in (live_files(tmp_path), this_host().files):
        unread = files.read("boot/grub/grub.cfg")
        assert isinstance(unread, Unread)
        assert unread.needs.endswith("run the charm's action audit-isolation")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user who may not read a file")
@pytest.mark.parametrize(
    ("snap", "remedy"),
    [
        ("", "which this process may not read: run it as root"),
        ("epa-orchestrator", "which the snap may not read: run: sudo snap connect epa-orchestrator:isolation"),
    ],
)
def test_denied_file_says_how_to_read_it(snap: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAP_NAME", snap)
    with tempfile.TemporaryDirectory() as root:  # pytest's own directories are closed to other users
        Path(root).chmod(0o755)
        (Path(root) / "proc").mkdir()
        (Path(root) / "proc" / "interrupts").touch(0)
        monkeypatch.setenv("EPA_SYSFS", f"{root}/sys")
        monkeypatch.setenv("SNAP_DATA", root)
        os.seteuid(65534)
        try:
            unread = this_host().files.read("proc/interrupts")
        finally:
            os.seteuid(0)
    assert isinstance(unread, Unread)
    assert unread.needs == f"/proc/interrupts, {remedy}"


def test_file_without_an_end_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audited_host, "_MOST_CHARACTERS", 1000)
    sentence = "The recorded host /dev/zero cannot be used: it has more than 1,000 characters"
    assert sentence_of(Path("/dev/zero")) == sentence
