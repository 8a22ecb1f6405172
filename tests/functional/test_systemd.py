# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The daemon under systemd: readiness, the watchdog, and socket activation."""

from __future__ import annotations

import os
import signal
import time

import pytest

from .harness import Daemon, check_listing, connect, decode, read_to_end, wait_until
from .starting import LISTING
from .systemd import Notifications, listening, start_activated


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_reports_readiness_and_stopping(kind: str) -> None:
    with Daemon() as daemon:
        address = str(daemon.base / "notify") if kind == "path" else f"@epa-test-{os.getpid()}-{id(daemon)}"
        notifications = Notifications(address)
        with notifications.socket:
            daemon.launch({"NOTIFY_SOCKET": address})
            notifications.wait_for("READY=1")
            daemon.cores("svc", 1)  # ready means that the first request succeeds
            daemon.send_signal(signal.SIGTERM)
            notifications.wait_for("STOPPING=1")
            assert daemon.wait() == 0


def test_sends_watchdog_messages() -> None:
    with Daemon() as daemon:
        address = str(daemon.base / "notify")
        notifications = Notifications(address)
        with notifications.socket:
            daemon.launch({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"})
            notifications.wait_for("READY=1")
            notifications.socket.settimeout(0.6)
            for _ in range(5):
                notifications.wait_for("WATCHDOG=1")


def test_sends_no_watchdog_messages_for_another_process() -> None:
    with Daemon() as daemon:
        address = str(daemon.base / "notify")
        notifications = Notifications(address)
        with notifications.socket:
            daemon.launch({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
            notifications.wait_for("READY=1")
            notifications.socket.settimeout(1)
            with pytest.raises(TimeoutError):
                notifications.wait_for("WATCHDOG=1")


def test_starts_without_its_notify_socket() -> None:
    with Daemon() as daemon:
        daemon.start({"NOTIFY_SOCKET": str(daemon.base / "gone")})
        daemon.cores("svc", 1)


def test_serves_the_socket_of_systemd() -> None:
    with Daemon() as daemon, listening(daemon.socket_path) as listener:
        with connect(daemon.socket_path) as early:
            early.sendall(LISTING)  # systemd accepts connections before the daemon runs
            before = daemon.socket_path.stat()
            start_activated(daemon, listener)
            assert check_listing(decode(read_to_end(early))) == {}
        held = daemon.cores("svc", 2)
        time.sleep(2)  # longer than the daemon needs to notice the loss of a socket file of its own
        after = daemon.socket_path.stat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode), "the socket file is systemd's"
        assert daemon.stop() == 0
        assert daemon.socket_path.is_socket(), "the daemon must not remove the socket file of systemd"
        start_activated(daemon, listener)
        assert daemon.claims() == {"svc": held}
        daemon.kill()
        assert daemon.socket_path.is_socket()


def test_activation_after_a_kill_replaces_the_socket_file() -> None:
    """systemd hands over its socket again, but the file leads to the socket of the killed daemon."""
    with Daemon() as daemon, listening(daemon.socket_path) as listener:
        start_activated(daemon, listener)
        handed_over = daemon.socket_path.stat().st_ino
        daemon.socket_path.unlink()
        wait_until(daemon.socket_path.is_socket, "the socket file is put back")
        held = daemon.cores("svc", 2)
        daemon.kill()
        assert daemon.socket_path.stat().st_ino != handed_over
        start_activated(daemon, listener)
        assert daemon.claims() == {"svc": held}


def test_ignores_activation_of_another_process() -> None:
    with Daemon() as daemon, listening(daemon.base / "foreign.sock") as listener:
        start_activated(daemon, listener, pid="1")
        daemon.cores("svc", 1)
        assert daemon.stop() == 0
        assert not daemon.socket_path.exists(), "the daemon made this socket file itself"
