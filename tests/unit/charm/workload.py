# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Sources and helpers that the tests of the workload share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

import pytest

from errors import CharmError, TemporaryError
from snap_sources import StoreSource
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import CONSUMER, NAME
from tests.service import Service, short_directory

#: How often a request to snapd is tried.
ATTEMPTS = 4
STABLE, EDGE = StoreSource("latest/stable"), StoreSource("latest/edge")
PLUG = (CONSUMER, "epa-info")


def error_of(action: Callable[[], object]) -> str:
    """The message of the error with which a call must end."""
    with pytest.raises(CharmError) as caught:
        action()
    return str(caught.value)


def temporary(action: Callable[[], object]) -> str:
    """The message of the error that goes away by itself, with which a call must end."""
    with pytest.raises(TemporaryError) as caught:
        action()
    return str(caught.value)


def snap_state(fake: Snapd) -> tuple[str, str]:
    """Revision and channel of our snap."""
    snap = fake.snaps[NAME]
    return snap.revision, snap.tracking


@contextlib.contextmanager
def new_service() -> Generator[Service]:
    """A daemon, not started yet, on eight CPUs: the kernel isolates 2-7, and 0-1 are the general pool."""
    with short_directory() as base:
        settings = base / "settings.json"
        settings.write_text('{"cpu-pool": "0-1"}', encoding="utf-8")
        service = Service(base / "x1", base / "common", "--machine", "vm-8", EPA_SETTINGS=str(settings))
        try:
            yield service
        finally:
            service.stop()


def add_claims(daemon: Service) -> None:
    """Claims of three services: nova holds CPUs and hugepages, the others CPUs of one pool each."""
    daemon.client.allocate("nova", 2)
    daemon.client.set_hugepages("nova", 0, 2048, 16)
    daemon.client.allocate("ovs-dpdk", 2)
    daemon.client.allocate("ceph", 1, "general")
