# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What is installed: the snap that the options ask for, but never the older one."""

from __future__ import annotations

from pathlib import Path

import pytest

import installation
from installation import Plan
from snap_sources import FileSource, Source, StoreSource
from store_offer import Offer
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import NAME, Snap, write_snap

from .workload import EDGE, STABLE, error_of

OLDER = StoreSource("2026.1/stable")
NOTE = (
    "set snap-channel to '' (with Sunbeam, in its manifest): revision 3 in 2026.1/stable is the older snap, which this"
    " charm does not run"
)


def plan(wanted: Source, bundled: FileSource, known: Offer | None = None, *, refresh: bool = False) -> Plan:
    return installation.plan(wanted, bundled, known, refresh=refresh)


@pytest.fixture
def store(fake: Snapd) -> Snapd:
    """The store offers the older snap in 2026.1/stable."""
    fake.store.publish(NAME, "2026.1/stable", 3, "1.0", older=True)
    return fake


@pytest.fixture
def with_older(store: Snapd, file: FileSource) -> Snapd:
    """The older snap runs, as the older charm has left it: from the channel, and not held."""
    store.add(Snap(NAME, "3", "1.0", "2026.1/stable", older=True))
    store.blobs.mkdir(parents=True)
    (store.blobs / f"{NAME}_3.snap").write_bytes(store.store.content(NAME, 3))
    return store


@pytest.mark.usefixtures("fake")
def test_file_is_installed_if_nothing_is(file: FileSource) -> None:
    assert plan(file, file) == Plan(file)


@pytest.mark.usefixtures("ours")
def test_installed_file_stays(file: FileSource) -> None:
    assert plan(file, file, refresh=True) == Plan(None)


@pytest.mark.parametrize("exists", [True, False])
def test_missing_file_is_reported_with_a_remedy(fake: Snapd, tmp_path: Path, exists: bool) -> None:
    empty = FileSource(tmp_path / "epa-orchestrator.snap")
    if exists:
        empty.path.touch()
    assert error_of(lambda: plan(empty, empty)) == (
        "attach the resource epa-orchestrator-snap, or set snap-channel: the charm contains no snap"
        " (epa-orchestrator.snap)"
    )
    assert fake.commands == []


@pytest.mark.usefixtures("ours")
def test_older_snap_in_a_file_is_refused(file: FileSource, tmp_path: Path) -> None:
    older = FileSource(write_snap(tmp_path / "attached.snap", "1.0", older=True))
    assert error_of(lambda: plan(older, file)) == (
        "attach another snap as the resource epa-orchestrator-snap, or an empty file: the file attached.snap is the"
        " older snap (version 1.0), which this charm does not run"
    )


def test_channel_is_installed_with_the_revision_that_was_read(fake: Snapd, file: FileSource) -> None:
    assert plan(STABLE, file) == Plan(StoreSource("latest/stable", 5), offer=Offer(5, is_ours=True))
    assert (fake.request_count("POST peek"), fake.request_count("POST download")) == (1, 1)


def test_known_revision_is_not_downloaded_again(fake: Snapd, file: FileSource) -> None:
    assert plan(STABLE, file, Offer(5, is_ours=True)).source == StoreSource("latest/stable", 5)
    assert plan(STABLE, file, Offer(4, is_ours=False)).source == StoreSource("latest/stable", 5)
    assert fake.request_count("POST download") == 1


def test_pinned_revision_is_read_and_installed(fake: Snapd, file: FileSource) -> None:
    pinned = StoreSource("latest/stable", 4)
    assert plan(pinned, file) == Plan(pinned, offer=Offer(4, is_ours=True))


def test_snap_of_the_channel_stays_until_a_refresh(fake: Snapd, file: FileSource) -> None:
    installation.install(StoreSource("latest/stable", 4))
    assert plan(STABLE, file) == Plan(None)
    assert fake.request_count("POST peek") == 0, "the store is not asked at every event"
    assert plan(STABLE, file, refresh=True).source == StoreSource("latest/stable", 5)
    installation.install(StoreSource("latest/stable", 5))
    assert plan(STABLE, file, refresh=True).source is None


def test_older_snap_in_the_channel_leaves_the_snap_in_the_charm(store: Snapd, file: FileSource) -> None:
    assert plan(OLDER, file) == Plan(file, NOTE, Offer(3, is_ours=False))
    installation.install(file)
    known = Offer(3, is_ours=False)
    for refresh in (False, True):
        assert plan(OLDER, file, known, refresh=refresh) == Plan(None, NOTE, known)
    assert store.request_count("POST download") == 1
    assert store.snaps[NAME].revision == "x1"


def test_running_older_snap_gives_way_to_the_snap_in_the_charm(with_older: Snapd, file: FileSource) -> None:
    assert plan(OLDER, file).source == file
    installation.install(file)
    assert with_older.snaps[NAME].revision == "x1"
    assert plan(OLDER, file).source is None


def test_update_of_the_snap_in_the_charm_is_installed_while_the_channel_offers_the_older_one(
    store: Snapd, ours: Snapd, other_file: FileSource
) -> None:
    assert plan(OLDER, other_file, Offer(3, is_ours=False)).source == other_file


def test_channel_that_offers_ours_later_is_taken(store: Snapd, ours: Snapd, file: FileSource) -> None:
    known = Offer(3, is_ours=False)
    assert plan(OLDER, file, known).source is None
    store.store.publish(NAME, "2026.1/stable", 9, "3.0")
    chosen = plan(OLDER, file, known)
    assert chosen == Plan(StoreSource("2026.1/stable", 9), offer=Offer(9, is_ours=True))
    assert chosen.source is not None
    installation.install(chosen.source)
    assert (store.snaps[NAME].revision, store.snaps[NAME].tracking) == ("9", "2026.1/stable")


def test_channel_that_goes_back_to_the_older_snap_leaves_the_newer_one(store: Snapd, file: FileSource) -> None:
    store.store.publish(NAME, "2026.1/stable", 9, "3.0")
    installation.install(StoreSource("2026.1/stable", 9))
    store.store.publish(NAME, "2026.1/stable", 3, "1.0", older=True)
    assert plan(OLDER, file, refresh=True) == Plan(None, NOTE, Offer(3, is_ours=False))


def test_older_revision_that_is_pinned_is_not_run(store: Snapd, ours: Snapd, file: FileSource) -> None:
    assert plan(StoreSource("2026.1/stable", 3), file).source is None


def test_revision_that_changes_after_it_was_read_is_not_installed(store: Snapd, file: FileSource) -> None:
    chosen = plan(EDGE, file).source
    store.store.publish(NAME, "latest/edge", 3, "1.0", older=True)
    assert chosen is not None
    installation.install(chosen)
    assert store.snaps[NAME].revision == "7"


def test_unreachable_store_keeps_ours_and_says_so(ours: Snapd, file: FileSource) -> None:
    ours.store.down = True
    chosen = plan(STABLE, file)
    assert chosen.source is None
    assert chosen.note.startswith("the store cannot be reached for latest/stable in the store (persistent network")
    assert chosen.unreachable == chosen.note


def test_unreachable_store_leaves_the_snap_in_the_charm(fake: Snapd, file: FileSource) -> None:
    fake.store.down = True
    chosen = plan(STABLE, file)
    assert chosen.source == file
    assert chosen.unreachable.startswith("the store cannot be reached")


def test_running_older_snap_gives_way_while_the_store_cannot_be_reached(with_older: Snapd, file: FileSource) -> None:
    with_older.store.down = True
    assert plan(OLDER, file).source == file


@pytest.mark.usefixtures("ours")
def test_missing_channel_is_reported(file: FileSource) -> None:
    assert error_of(lambda: plan(StoreSource("2.4/stable"), file)).startswith(
        "set another channel or revision, or reset snap-channel: there is no 2.4/stable in the store ("
    )
