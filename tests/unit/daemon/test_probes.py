# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Probes: a server recognises only its own probes among the connections that it accepts."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from epa_orchestrator.daemon.peers import peer_of
from epa_orchestrator.daemon.probes import Probe, Probes
from epa_orchestrator.descriptors import SlowCloser
from epa_orchestrator.peer import Peer


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:  # pyright: ignore[reportUnusedFunction]
    return tmp_path / "s"


@pytest.fixture(name="listener")
def _listener(path: Path) -> Generator[socket.socket]:  # pyright: ignore[reportUnusedFunction]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(200)
        yield listener


def made() -> Probes:
    """Probes whose slow closer has nothing to close, as nobody here passes descriptors."""

    def call_later(_seconds: float, _call: Callable[[], None]) -> None:
        pytest.fail("a socket with descriptors")

    return Probes(SlowCloser(call_later))


def send(probes: Probes, path: Path) -> Probe | None:
    fd = os.open(path, os.O_PATH)
    try:
        return probes.send(fd)
    finally:
        os.close(fd)


def accept(listener: socket.socket) -> tuple[socket.socket, Peer]:
    accepted, _ = listener.accept()
    return accepted, peer_of(accepted)


def test_a_probe_is_recognised_by_the_listener_that_accepts_it(path: Path, listener: socket.socket) -> None:
    probes = made()
    probe = send(probes, path)
    assert probe is not None
    assert probe.arrived_at is None
    accepted, peer = accept(listener)
    assert probes.recognise(accepted, peer)
    assert probe.arrived_at == str(path)
    assert accepted.fileno() == -1, "it is closed"
    probe.close()


def test_a_number_counts_once(path: Path, listener: socket.socket) -> None:
    probes = made()
    probe = send(probes, path)
    assert probe is not None
    accepted, peer = accept(listener)
    nonce = accepted.recv(16, socket.MSG_PEEK)
    assert probes.recognise(accepted, peer)
    with socket.socket(socket.AF_UNIX) as copy:
        copy.connect(str(path))
        copy.send(nonce)
        accepted, peer = accept(listener)
        with accepted:
            assert not probes.recognise(accepted, peer)
    probe.close()


def test_takes_no_bytes_from_a_client_of_the_same_process(path: Path, listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.send(b'{"action": "list')
        accepted, peer = accept(listener)
        with accepted:
            assert not made().recognise(accepted, peer)
            assert accepted.recv(100) == b'{"action": "list'


def test_a_connection_of_another_process_is_no_probe(path: Path, listener: socket.socket) -> None:
    probes = made()
    probe = send(probes, path)
    assert probe is not None
    accepted, peer = accept(listener)
    with accepted:
        assert not probes.recognise(accepted, peer._replace(pid=peer.pid + 1))
        assert probe.arrived_at is None
        assert probes.recognise(accepted, peer)
    probe.close()


def test_does_not_wait_for_a_silent_client_of_the_same_process(path: Path, listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        accepted, peer = accept(listener)
        with accepted:
            assert not made().recognise(accepted, peer)


def test_sends_no_probe_without_a_listener(path: Path, listener: socket.socket) -> None:
    listener.close()
    assert send(made(), path) is None


def test_a_full_backlog_raises_blocking_io_error(path: Path, listener: socket.socket) -> None:
    listener.listen(0)
    probes = made()
    first = send(probes, path)
    assert first is not None
    with pytest.raises(BlockingIOError):
        send(probes, path)
    first.close()


def test_remembers_the_last_64_probes(path: Path, listener: socket.socket) -> None:
    probes = made()
    sent = [send(probes, path) for _ in range(65)]
    recognised: list[bool] = []
    for probe in sent:
        assert probe is not None
        accepted, peer = accept(listener)
        with accepted:
            recognised.append(probes.recognise(accepted, peer))
        probe.close()
    assert recognised == [False] + [True] * 64
