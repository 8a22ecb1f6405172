# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Fixtures: a unit with stand-ins for its workload; the workload with a stand-in for snapd and a real daemon."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import actions
import audit
import daemon_health
import installation
import isolation
import older_daemon
import orchestrator_snap
import ownership
import snap_file
from epa_orchestrator.state import database_files
from snap_sources import FileSource
from tests.fake_snapd.server import replace_snapd
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import NAME, write_snap
from tests.service import Service
from tools.synthetic import build, write_tree

from .unit import OK, REAL_FUNCTIONS, SHAPE, Unit
from .workload import PLUG, new_service


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Undo what ops does to the root logger, so that other tests log as usual."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unit:
    """A unit whose snap is not installed yet."""
    made = Unit(tmp_path)
    for module, functions in REAL_FUNCTIONS.items():
        for name in functions:
            monkeypatch.setattr(module, name, getattr(made.workload, name))
    monkeypatch.setattr(isolation, "read", made.read_isolation)
    monkeypatch.setattr(audit, "note", lambda: made.broken)
    monkeypatch.setattr(ownership, "_AGENTS", tmp_path / "agents")
    write_tree(build(SHAPE), tmp_path / "sys")
    monkeypatch.setattr(actions, "SysfsTree", made.sysfs)
    return made


@pytest.fixture
def settled(unit: Unit) -> Unit:
    """A unit without problems."""
    assert unit.status("install") == OK
    unit.workload.calls.clear()
    unit.workload.isolated.clear()
    return unit


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapd]:
    """A stand-in for snapd, whose store has our snap in two channels."""
    with replace_snapd(monkeypatch) as fake:
        monkeypatch.setattr(snap_file, "INSTALLED_FILES", fake.blobs)
        monkeypatch.setattr(older_daemon, "_SNAP", fake.blobs.parent / "data")
        monkeypatch.setattr(orchestrator_snap, "_MOUNT_PROFILES", fake.mounts)
        monkeypatch.setattr(daemon_health, "SOCKET", fake.blobs.parent / "epa.sock")
        fake.store.publish(NAME, "latest/stable", 4, "1.9")
        fake.store.publish(NAME, "latest/stable", 5, "2.0.5")
        fake.store.publish(NAME, "latest/edge", 7, "2.1")
        yield fake


@pytest.fixture
def file(tmp_path: Path) -> FileSource:
    return FileSource(write_snap(tmp_path / "epa-orchestrator.snap", "2.0"))


@pytest.fixture
def other_file(tmp_path: Path) -> FileSource:
    return FileSource(write_snap(tmp_path / "attached.snap", "2.2"))


@pytest.fixture
def ours(fake: Snapd, file: FileSource) -> Snapd:
    """Our snap is installed from the file."""
    installation.install(file)
    fake.requests.clear()
    fake.commands.clear()
    return fake


@pytest.fixture
def connected(ours: Snapd) -> Snapd:
    """A consumer is connected."""
    ours.add_consumer()
    orchestrator_snap.connect_consumers([PLUG])
    ours.requests.clear()
    return ours


@pytest.fixture
def service(fake: Snapd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """This test's own daemon, not started yet."""
    with new_service() as service:
        monkeypatch.setattr(daemon_health, "SOCKET", service.socket)
        yield service


@pytest.fixture(scope="module")
def shared_service() -> Iterator[Service]:
    """A running daemon for all tests of a module, because its start is slow."""
    with new_service() as service:
        yield service.start()


@pytest.fixture
def daemon(fake: Snapd, shared_service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A running daemon without claims."""
    monkeypatch.setattr(daemon_health, "SOCKET", shared_service.socket)
    yield shared_service
    for pool in ("isolated", "general"):
        for claim in shared_service.client.list_allocations(pool).allocations:
            shared_service.client.allocate(claim.service_name, -1, pool)
    for service in shared_service.client.memory_info().numa_hugepages["node0"].allocations:
        shared_service.client.set_hugepages(service, 0, 2048, -1)


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    """A daemon on which nova holds two CPUs."""
    with new_service() as service:
        service.start().client.allocate("nova", 2)
        yield service


@pytest.fixture
def served(settled: Unit, running: Service, monkeypatch: pytest.MonkeyPatch) -> Unit:
    """A unit whose actions ask that daemon."""
    monkeypatch.setattr(daemon_health, "SOCKET", running.socket)
    return settled


@pytest.fixture
def damaged_daemon(service: Service) -> Service:
    """A running daemon that cannot read its state."""
    (service.log.parent / database_files.FILE_NAME).write_text("no database", encoding="utf-8")
    return service.start()
