# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Installing the snap from each source, and what snapd and the store can refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from charmlibs import snap
from charmlibs.snap import _client as snapd_client

import installation
import orchestrator_snap
import snapd
from snap_sources import FileSource, StoreSource
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import BASE, NAME, write_snap
from tests.fake_snapd.troubles import BUSY, ChangeFails, Refusal, Silence

from .workload import ATTEMPTS, EDGE, PLUG, STABLE, error_of, snap_state, temporary


def test_file_is_installed(fake: Snapd, file: FileSource) -> None:
    assert not installation.is_installed_from(file)
    installation.install(file)
    assert snap_state(fake) == ("x1", "")
    assert fake.commands_of("install") == [["install", "--dangerous", str(file.path)]]
    assert installation.is_installed_from(file)
    info = orchestrator_snap.installed()
    assert info is not None
    assert info.version == "2.0"


def test_other_file_replaces_the_installed_snap(ours: Snapd, file: FileSource, other_file: FileSource) -> None:
    assert not installation.is_installed_from(other_file)
    installation.install(other_file)
    assert snap_state(ours) == ("x2", "")
    assert installation.is_installed_from(other_file)
    assert not installation.is_installed_from(file)


def test_same_content_under_another_name_is_the_same_snap(ours: Snapd, tmp_path: Path) -> None:
    assert installation.is_installed_from(FileSource(write_snap(tmp_path / "renamed.snap", "2.0")))
    assert ours.commands == []


def test_file_that_is_not_a_snap_is_named(fake: Snapd, tmp_path: Path) -> None:
    (tmp_path / "broken.snap").write_text("not a snap", encoding="utf-8")
    sentence = error_of(lambda: installation.install(FileSource(tmp_path / "broken.snap")))
    assert sentence.startswith(
        "see 'snap changes' on the machine: failed to install the snap from the file broken.snap: cannot open snap file"
    )
    assert NAME not in fake.snaps


def test_store_channel_is_installed(fake: Snapd) -> None:
    assert not installation.is_installed_from(STABLE)
    installation.install(STABLE)
    assert snap_state(fake) == ("5", "latest/stable")
    assert installation.is_installed_from(STABLE)
    assert fake.commands == []


def test_other_risk_is_another_channel(fake: Snapd) -> None:
    installation.install(STABLE)
    assert installation.is_installed_from(STABLE)
    assert not installation.is_installed_from(EDGE)
    assert fake.request_count("POST refresh") == 0


def test_branch_is_another_channel(fake: Snapd) -> None:
    fake.store.publish(NAME, "latest/edge/fix-1", 8, "2.1")
    installation.install(StoreSource("edge/fix-1"))
    assert snap_state(fake) == ("8", "latest/edge/fix-1")
    assert installation.is_installed_from(StoreSource("latest/edge/fix-1"))
    assert not installation.is_installed_from(EDGE)


def test_revision_is_pinned_and_unpinned(fake: Snapd) -> None:
    pinned = StoreSource("latest/stable", 4)
    installation.install(pinned)
    assert snap_state(fake) == ("4", "latest/stable")
    assert installation.is_installed_from(pinned)
    assert not installation.is_installed_from(StoreSource("latest/stable", 5))
    assert installation.is_installed_from(STABLE), "a newer one in the channel does not count"


def test_pinned_revision_replaces_another(fake: Snapd) -> None:
    installation.install(STABLE)
    installation.install(StoreSource("latest/stable", 4))
    assert snap_state(fake) == ("4", "latest/stable")


def test_other_channel_is_a_refresh(fake: Snapd) -> None:
    installation.install(STABLE)
    installation.install(EDGE)
    assert snap_state(fake) == ("7", "latest/edge")
    assert fake.request_count("POST install") == 1
    assert fake.request_count("POST refresh") == 1


def test_sources_replace_each_other(fake: Snapd, file: FileSource, other_file: FileSource) -> None:
    for source, expected in (
        (file, ("x1", "")),
        (STABLE, ("5", "latest/stable")),
        # snapd keeps the channel of a snap that a file replaces.
        (file, ("x2", "latest/stable")),
        (EDGE, ("7", "latest/edge")),
        (other_file, ("x3", "latest/edge")),
        (EDGE, ("7", "latest/edge")),
    ):
        assert not installation.is_installed_from(source), source
        installation.install(source)
        assert snap_state(fake) == expected
        assert installation.is_installed_from(source), source
    assert fake.commands_of("refresh") == [
        ["refresh", "--amend", "--channel", channel, NAME]
        for channel in ("latest/stable", "latest/edge", "latest/edge")
    ]


def test_store_revision_replaces_a_file(ours: Snapd) -> None:
    installation.install(StoreSource("latest/stable", 4))
    assert snap_state(ours) == ("4", "latest/stable")
    assert ours.commands_of("refresh") == [
        ["refresh", "--amend", "--channel", "latest/stable", "--revision", "4", NAME]
    ]


def test_connections_and_options_survive_a_new_source(connected: Snapd, other_file: FileSource) -> None:
    orchestrator_snap.ensure_config({"reserved-cpus": "2"})
    for source in (STABLE, other_file, EDGE):
        installation.install(source)
        assert connected.slot_of(PLUG) == f"{NAME}:epa-info"
        assert orchestrator_snap.options() == {"reserved-cpus": "2"}


@pytest.mark.parametrize("snap_is_there", [True, False])
def test_unreachable_store_is_temporary_and_names_remedies(fake: Snapd, snap_is_there: bool) -> None:
    if snap_is_there:
        installation.install(EDGE)
    fake.store.down = True
    sentence = temporary(lambda: installation.install(STABLE))
    assert sentence.startswith("the store cannot be reached for latest/stable in the store (persistent network error")
    assert sentence.endswith("fix the machine's network or the model's snap-http-proxy, or reset snap-channel")


def test_unreachable_store_keeps_the_snap_from_a_file(ours: Snapd) -> None:
    ours.store.down = True
    assert "unable to contact snap store" in temporary(lambda: installation.install(STABLE))
    assert snap_state(ours) == ("x1", "")


def test_slow_store_is_unreachable(fake: Snapd) -> None:
    slow = 'Post "https://store.test/v2/snaps/refresh": net/http: request canceled (Client.Timeout exceeded)'
    fake.fail_next("POST install", Refusal(slow, "network-timeout"), ATTEMPTS)
    assert temporary(lambda: installation.install(STABLE)).startswith("the store cannot be reached")


def test_snap_missing_from_the_store_is_reported(fake: Snapd) -> None:
    fake.store.versions.clear()
    assert error_of(lambda: installation.install(STABLE)) == (
        "reset snap-channel to use the snap in the charm: the store has no snap epa-orchestrator"
    )


@pytest.mark.parametrize("from_file", [True, False])
def test_channel_missing_from_the_store_is_reported(fake: Snapd, file: FileSource, from_file: bool) -> None:
    if from_file:
        installation.install(file)
    sentence = error_of(lambda: installation.install(StoreSource("2.4/stable")))
    assert "2.4/stable" in sentence
    assert "set another channel or revision, or reset" in sentence
    assert (NAME in fake.snaps) == from_file


@pytest.mark.parametrize("from_file", [True, False])
def test_revision_missing_from_the_store_is_reported(fake: Snapd, file: FileSource, from_file: bool) -> None:
    if from_file:
        installation.install(file)
    sentence = error_of(lambda: installation.install(StoreSource("latest/stable", 99)))
    assert "revision 99" in sentence
    assert "reset" in sentence
    assert (NAME in fake.snaps) == from_file


def test_failed_change_is_reported(fake: Snapd) -> None:
    text = 'cannot perform the following tasks:\n- Mount snap "epa-orchestrator" (5) (disk full)'
    fake.fail_next("POST install", ChangeFails(text))
    assert error_of(lambda: installation.install(STABLE)) == (
        "see 'snap changes' on the machine: failed to install the snap from latest/stable in the store: cannot"
        " perform the following tasks: - Mount snap"
        ' "epa-orchestrator" (5) (disk full)'
    )


@pytest.mark.parametrize("source", [STABLE, None])
def test_busy_snapd_is_retried(fake: Snapd, file: FileSource, source: StoreSource | None) -> None:
    fake.fail_next("POST install" if source else "snap install", BUSY, ATTEMPTS - 1)
    installation.install(source or file)
    assert snap_state(fake) == (("5", "latest/stable") if source else ("x1", ""))


def test_busy_snapd_is_raised_after_the_last_try(fake: Snapd) -> None:
    fake.fail_next("POST install", BUSY, ATTEMPTS)
    with pytest.raises(snap.APIError, match="change in progress"):
        installation.install(STABLE)
    assert fake.request_count("POST install") == ATTEMPTS


def test_busy_snapd_is_raised_while_a_file_is_installed(fake: Snapd, file: FileSource) -> None:
    fake.fail_next("snap install", BUSY, ATTEMPTS)
    with pytest.raises(snap.APIError, match="change in progress"):
        installation.install(file)
    assert fake.request_count("snap install") == ATTEMPTS


def test_unanswered_request_is_raised(fake: Snapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd_client, "_REQUEST_TIMEOUT", 0.5)
    fake.fail_next("POST install", Silence.HANG, ATTEMPTS)
    with pytest.raises(snap.TimeoutError):
        installation.install(STABLE)
    assert NAME not in fake.snaps


@pytest.mark.usefixtures("fake")
def test_missing_socket_of_snapd_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd_client, "_SOCKET_PATH", "/nonexistent/snapd.socket")
    assert error_of(lambda: installation.install(STABLE)).startswith("snapd is not installed: ")


def test_missing_command_snap_is_reported(fake: Snapd, file: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd, "_COMMAND", "/nonexistent/snap")
    assert error_of(lambda: installation.install(file)).startswith("snapd is not installed: ")
    assert NAME not in fake.snaps


def test_missing_base_is_reported_without_a_network(fake: Snapd, file: FileSource) -> None:
    del fake.snaps[BASE]
    fake.store.down = True
    sentence = error_of(lambda: installation.install(file))
    assert sentence.startswith(
        "run 'sudo snap install core24', or without a network 'sudo snap ack' and 'sudo snap install' with its files:"
        " this base snap is not installed and cannot be downloaded ("
    )
    assert NAME not in fake.snaps


def test_missing_base_is_downloaded(fake: Snapd, file: FileSource) -> None:
    del fake.snaps[BASE]
    installation.install(file)
    assert {BASE, NAME} <= set(fake.snaps)


def test_hold_is_set_once_and_on_this_snap_only(ours: Snapd) -> None:
    ours.add_consumer()
    ours.snaps[NAME].held = False
    installation.hold()
    installation.hold()
    assert ours.request_count("POST hold") == 1
    assert [name for name, each in ours.snaps.items() if each.held] == [NAME]


def test_hold_does_nothing_without_a_snap(fake: Snapd) -> None:
    installation.hold()
    assert fake.requests == ["GET snap"]
