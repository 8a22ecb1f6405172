# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Which snap a channel offers, and what snapd and the store can refuse meanwhile."""

from __future__ import annotations

import pytest

import snapd_api
import store_offer
from snap_sources import StoreSource
from store_offer import Offer
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import NAME
from tests.fake_snapd.troubles import BUSY, Silence

from .workload import EDGE, STABLE, error_of, temporary


@pytest.fixture
def store(fake: Snapd) -> Snapd:
    fake.store.publish(NAME, "2026.1/stable", 3, "1.0", older=True)
    return fake


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("source", "offer"),
    [
        (STABLE, Offer(5, is_ours=True)),
        (EDGE, Offer(7, is_ours=True)),
        (StoreSource("latest/stable", 4), Offer(4, is_ours=True)),
        (StoreSource("2026.1/stable"), Offer(3, is_ours=False)),
        (StoreSource("latest/stable", 3), Offer(3, is_ours=False)),
    ],
)
def test_offered_revision_is_read(source: StoreSource, offer: Offer) -> None:
    assert store_offer.look(source) == offer


@pytest.mark.parametrize("request_", ["POST peek", "POST download"])
@pytest.mark.parametrize("trouble", [BUSY, Silence.DROP])
def test_busy_snapd_is_temporary(fake: Snapd, request_: str, trouble: object) -> None:
    fake.fail_next(request_, trouble)  # pyright: ignore[reportArgumentType]
    assert temporary(lambda: store_offer.look(STABLE))
    assert store_offer.look(STABLE) == Offer(5, is_ours=True)


def test_silent_snapd_is_temporary(fake: Snapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd_api, "TIMEOUT", 0.2)
    fake.fail_next("POST peek", Silence.HANG)
    assert "did not answer" in temporary(lambda: store_offer.look(STABLE))


def test_incomplete_download_is_temporary(fake: Snapd) -> None:
    fake.cut_downloads = True
    assert "the download of epa-orchestrator is incomplete" in temporary(lambda: store_offer.look(STABLE))


def test_snap_that_is_too_large_is_not_ours(fake: Snapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd_api, "_MAX_DOWNLOAD", 1000)
    offer = store_offer.look(STABLE)
    assert offer == Offer(5, is_ours=False)
    assert store_offer.look(STABLE, offer) == offer
    assert fake.request_count("POST download") == 1


def test_unreadable_answer_is_temporary(fake: Snapd, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(_: object) -> tuple[dict[str, str], bytes]:
        return {"Content-Type": "text/html"}, b"<html>"

    monkeypatch.setattr(fake, "download", download)
    assert "does not name the revision" in temporary(lambda: store_offer.look(STABLE))


def test_missing_revision_is_reported(fake: Snapd) -> None:
    assert "revision 99" in error_of(lambda: store_offer.look(StoreSource("latest/stable", 99)))


def test_missing_snap_is_reported(fake: Snapd) -> None:
    fake.store.versions.clear()
    assert error_of(lambda: store_offer.look(STABLE)) == (
        "reset snap-channel to use the snap in the charm: the store has no snap epa-orchestrator"
    )
