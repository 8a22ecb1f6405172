# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A client that watches a running daemon learns of every change, costs nobody else anything, and takes no room."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from typing import Final

import pytest

from .harness import Daemon, connect, cpu_seconds, decode, encode, error_of, read_to_end, run_all, wait_until
from .other_user import UID
from .watching import Watching

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


def test_tells_claims_takings_and_records(daemon: Daemon) -> None:
    daemon.cores("loser", 12)
    with Watching(daemon) as watching:
        daemon.numa("taker", 1, 6)
        lost, gained = watching.next(), watching.next()
        assert (lost["service_name"], lost["taken_by"]) == ("loser", "taker")
        assert (gained["service_name"], gained["taken_from"]) == ("taker", {"loser": "5-7,13-15"})
        daemon.pages("taker", 1, 2048, 4)
        assert watching.next()["event"] == "hugepages"
        daemon.refused("allocate_cores", service_name="third", num_of_cores=12)
        assert watching.is_quiet()
        watching.catch_up(daemon)


def test_hotplug_is_told_within_about_a_second(daemon: Daemon) -> None:
    with Watching(daemon) as watching:
        daemon.host.set_offline([15])
        begin = time.monotonic()
        line = watching.next()
        assert (line["event"], line["online_cpus"]) == ("machine", "0-14")
        assert time.monotonic() - begin < 5
        watching.catch_up(daemon)


def test_other_settings_are_told(daemon: Daemon) -> None:
    with Watching(daemon) as watching:
        daemon.reload({"cpu-pool": "0"})
        assert watching.next()["pools"]["general"]["cpu_pool"]["eligible_cpus"] == "0"
        watching.catch_up(daemon)


def test_an_unreadable_machine_is_told_once(daemon: Daemon) -> None:
    with Watching(daemon) as watching:
        daemon.host.put("devices/system/cpu/online", "nonsense")
        line = watching.next()
        assert line["pools"]["isolated"]["total_available_cpus"] == 0
        assert watching.is_quiet(2.5)
        daemon.host.restore()
        watching.catch_up(daemon)


def test_a_read_only_daemon_is_told() -> None:
    with Daemon() as daemon:
        daemon.start()
        daemon.cores("a", 1)
        with Watching(daemon) as watching:
            database = next(daemon.common.glob("*.db"), None) or next(daemon.common.rglob("*.db"))
            copy = database.with_suffix(".copy")
            copy.write_bytes(database.read_bytes())
            copy.rename(database)
            assert "can no longer be written" in watching.next()["state_error"]
            watching.catch_up(daemon)
            with Watching(daemon) as later:
                assert later.first["state_error"] == watching.replica.state_error


def test_the_stop_of_the_daemon_tells_the_last_changes_and_ends_every_watch() -> None:
    with Daemon() as daemon:
        daemon.start()
        with Watching(daemon) as watching, Watching(daemon) as stuck:
            daemon.cores("a", 1)
            daemon.cores("b", 1)
            begin = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - begin < 5
            for each in (watching, stuck):
                assert [each.next()["service_name"] for _ in range(2)] == ["a", "b"]
                with pytest.raises(EOFError):
                    each.line()


def test_a_client_that_shut_down_its_sending_side_goes_on_reading(daemon: Daemon) -> None:
    with Watching(daemon) as watching:
        watching.client.shutdown(socket.SHUT_WR)
        time.sleep(0.6)
        daemon.cores("a", 1)
        assert watching.next()["service_name"] == "a"


def test_a_request_with_descriptors_is_no_watch(daemon: Daemon) -> None:
    with connect(daemon.socket_path) as client:
        try:
            socket.send_fds(client, [encode("watch", {})], [0])
        except PermissionError:  # refused by the kernel
            return
        assert "File descriptors came" in error_of(decode(read_to_end(client)))


def test_clients_that_watch_from_different_moments_know_the_same() -> None:
    """64 clients change claims meanwhile, some of them many at a time."""
    with Daemon() as daemon:
        daemon.start()
        choose = random.Random(7)
        watching: list[Watching] = []

        def change(number: int) -> None:
            for _ in range(15):
                count = choose.choice([-1, 1, 2])
                node = {"numa_node": choose.randrange(2)} if number % 3 == 0 else {}
                action = "allocate_numa_cores" if node else "allocate_cores"
                daemon.call(action, service_name=f"s{number}", num_of_cores=count, **node)

        def watch() -> None:
            for _ in range(4):
                watching.append(Watching(daemon))
                time.sleep(0.05)

        run_all([*[lambda n=n: change(n) for n in range(16)], watch, watch])
        try:
            for each in watching:
                while not each.is_quiet():  # an earlier state may be the same as the last one
                    each.next()
                each.catch_up(daemon)
        finally:
            for each in watching:
                each.client.close()


#: Becomes another user, watches as often as it may, and prints how many watches and errors it got.
FLOOD: Final = """
import json, os, socket, sys
path, uid, request, count = json.loads(sys.stdin.readline())
os.setgroups([]); os.setgid(uid); os.setuid(uid)
held, errors = [], []
for _ in range(count):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(path)
    client.sendall(request.encode())
    first = client.recv(65536)
    (errors if b'"error"' in first[:40] else held).append((client, first.decode()))
print(json.dumps([len(held), sorted({each[1] for each in errors})]), flush=True)
sys.stdin.readline()
"""


@needs_root
def test_another_user_can_watch_with_half_of_its_connections() -> None:
    with Daemon() as daemon:
        daemon.start()
        for directory in (daemon.base, daemon.data, daemon.socket_path.parent):
            directory.chmod(0o755)
        order = [str(daemon.socket_path), UID, encode("watch", {}).decode(), 100]
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", FLOOD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as flood:
            assert flood.stdin is not None
            assert flood.stdout is not None
            flood.stdin.write(json.dumps(order) + "\n")
            flood.stdin.flush()
            held, errors = json.loads(flood.stdout.readline())
            assert held == 64
            assert [error_of(json.loads(error)) for error in errors] == [
                f"Too many connections of user {UID} watch: close some of them, or try again later"
            ]
            with Watching(daemon) as watching:  # root's own room is another one
                daemon.cores("a", 1)
                assert watching.next()["service_name"] == "a"
            flood.stdin.close()
        daemon.cores("b", 1)


def test_a_watch_that_ends_makes_room_for_another(daemon: Daemon) -> None:
    for _ in range(30):
        clients = [Watching(daemon) for _ in range(40)]
        for each in clients:
            each.client.close()
    with Watching(daemon) as watching:
        daemon.cores("a", 1)
        assert watching.next()["service_name"] == "a"


def test_a_stuck_client_is_dropped_and_delays_nobody() -> None:
    with Daemon() as daemon:
        daemon.start()
        long_names = [f"{number}" + "\N{GRINNING FACE}" * 250 for number in range(8)]
        with Watching(daemon) as stuck, Watching(daemon) as reading:

            def change_on(name: str) -> None:
                for count in [1, -1] * 50:
                    daemon.call("allocate_cores", service_name=name, num_of_cores=count)

            for _ in range(10):
                run_all([lambda name=name: change_on(name) for name in long_names])
                reading.catch_up(daemon)
                if "dropped: a watcher reads too slowly" in daemon.log():
                    break
            else:
                raise AssertionError("not dropped")
            read = 0
            while piece := stuck.client.recv(1 << 20):
                read += len(piece)
            assert read < 1_000_000, "more than a socket holds"


def test_watching_an_idle_daemon_costs_hardly_any_time(daemon: Daemon) -> None:
    clients = [Watching(daemon) for _ in range(50)]
    try:
        wait_until(lambda: all(each.is_quiet(0.01) for each in clients), "all is quiet")
        before = cpu_seconds(daemon.pid)
        time.sleep(3)
        assert cpu_seconds(daemon.pid) - before < 0.3
    finally:
        for each in clients:
            each.client.close()
