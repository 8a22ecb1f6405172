# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A hostile snap in the socket's directory: the daemon gets its socket back from every obstacle at every moment.

Obstacles of every kind replace every name in the directory before each system call by which the daemon looks after its
socket. Afterwards the daemon's own files have their earlier modes and contents, a client that connects to the path
reaches the daemon, and the daemon still looks after the socket.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import resource
import shutil
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import pytest

from tests.functional.harness import PATIENCE, Daemon, decode, encode, read_to_end, run_all, wait_until
from tests.functional.systemd import listening, start_activated

from .preload import compile_library
from .stepping import Stepper

LISTING: Final = encode("list_allocations", {})

SOCKET: Final = "epa.sock"
#: The name under which earlier versions made the socket.
STAGED: Final = "epa.sock.new"
#: A name by which the hostile snap keeps the daemon's own socket.
KEPT: Final = "kept"

#: How long the race lasts (seconds).
RACE_SECONDS: Final = 3.0


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that stops the daemon before its calls."""
    return compile_library("stepper.c", tmp_path_factory.mktemp("stepper"))


class Snap:
    """The hostile snap: its attacks on the directory, with sockets of its own that it never serves."""

    def __init__(self, daemon: Daemon) -> None:
        self.directory = daemon.socket_path.parent
        self._victim = daemon.common / "state.db"
        self._sockets: list[socket.socket] = []

    def close(self) -> None:
        """Close its sockets."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    def keep_socket(self) -> None:
        """Give the daemon's socket a second name."""
        kept = self.directory / KEPT
        kept.unlink(missing_ok=True)
        os.link(self.directory / SOCKET, kept)

    def other_names(self) -> list[str]:
        """The other names in the directory that the daemon made."""
        return [name for name in os.listdir(self.directory) if name not in (SOCKET, STAGED, KEPT)]

    def clear(self, name: str) -> None:
        """Remove a name, whatever it is."""
        path = self.directory / name
        try:
            path.unlink(missing_ok=True)
        except IsADirectoryError:
            shutil.rmtree(path, ignore_errors=True)

    def clean_up(self) -> None:
        """Remove all but the socket."""
        for name in (*self.other_names(), STAGED, KEPT):
            self.clear(name)
        self.close()

    def put(self, name: str, kind: str) -> None:
        """Replace a name by an obstacle of a kind."""
        self.clear(name)
        OBSTACLES[kind](self, self.directory / name)

    def link_to_victim(self, path: Path) -> None:
        path.symlink_to(self._victim)

    def link_to_socket(self, path: Path) -> None:
        path.symlink_to(KEPT)

    def link_to_nothing(self, path: Path) -> None:
        path.symlink_to("nothing")

    def directory_with_content(self, path: Path) -> None:
        (path / "below").mkdir(parents=True)
        (path / "file").write_text("theirs")

    def own_socket(self, path: Path) -> None:
        self._listen(path, 128)

    def own_busy_socket(self, path: Path) -> None:
        self._listen(path, 0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = socket.socket(socket.AF_UNIX)
                self._sockets.append(client)
                client.setblocking(False)
                client.connect(str(path))

    def closed_socket(self, path: Path) -> None:
        """The daemon's own socket, to which only the daemon's user may connect."""
        try:
            os.link(self.directory / KEPT, path)
        except FileNotFoundError:
            self._listen(path, 128)
        path.chmod(0o600)

    def _listen(self, path: Path, backlog: int) -> None:
        listener = socket.socket(socket.AF_UNIX)
        self._sockets.append(listener)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(backlog)


OBSTACLES: Final[dict[str, Callable[[Snap, Path], None]]] = {
    "link to state.db": Snap.link_to_victim,
    "link to the daemon's socket": Snap.link_to_socket,
    "dangling link": Snap.link_to_nothing,
    "directory": lambda _, path: path.mkdir(),
    "directory with content": Snap.directory_with_content,
    "FIFO": lambda _, path: os.mkfifo(path),
    "foreign socket": Snap.own_socket,
    "foreign socket with a full backlog": Snap.own_busy_socket,
    "socket of mode 0600": Snap.closed_socket,
}


def reaches(daemon: Daemon) -> bool:
    """Whether a client of any user that connects to the path itself arrives at the daemon's process."""
    try:
        mode = daemon.socket_path.lstat().st_mode
        if not stat.S_ISSOCK(mode) or stat.S_IMODE(mode) != 0o666:
            return False
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(daemon.socket_path))
            listening_pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if listening_pid != daemon.pid:
                return False
            client.settimeout(PATIENCE)
            client.sendall(LISTING)
            return "error" not in decode(read_to_end(client))
    except OSError:
        return False


def own_files(daemon: Daemon) -> dict[str, tuple[str, str]]:
    """The modes and (hashed) contents of the files that only the daemon's user may write."""
    return {
        path.name: (stat.filemode(path.lstat().st_mode), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(daemon.common.iterdir())
    }


def start_with_claims(daemon: Daemon, environment: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """Start a daemon that holds claims and writes nothing more; returns the state of its own files."""
    daemon.start()
    daemon.cores("svc", 2)
    daemon.restart(environment)
    return own_files(daemon)


def leave_nothing(snap: Snap) -> None:
    """The socket is removed."""
    snap.clear(SOCKET)


def leave_directory(snap: Snap) -> None:
    """A directory in place of the socket, so that the daemon has to move it aside."""
    snap.put(SOCKET, "directory with content")


def attack(
    daemon: Daemon, stepper: Stepper, snap: Snap, loss: Callable[[Snap], None], number: int, strike: Callable[[], None]
) -> list[str]:
    """Remove the socket at the daemon's next call, and strike before the call of that number; the calls until then."""
    calls: list[str] = []
    struck = threading.Event()

    def before(call: str) -> None:
        if struck.is_set():
            return
        if not calls:
            snap.keep_socket()
            loss(snap)
        if len(calls) == number:
            strike()
            stepper.off()
            struck.set()
        calls.append(call)

    stepper.on(before)
    assert struck.wait(PATIENCE), f"the daemon has stopped looking after its socket: {daemon.log()[-500:]}"
    return calls


def calls_of_putting_back(daemon: Daemon, stepper: Stepper, snap: Snap, loss: Callable[[Snap], None]) -> list[str]:
    """The calls from the loss of the socket until the next look has connected to the new one."""
    calls = attack(daemon, stepper, snap, loss, 40, lambda: None)
    assert "bind" in calls, f"the socket is not put back: {calls}"
    return calls[: calls.index("connect") + 1]


def strikes(snap: Snap, kind: str, names: Iterable[str]) -> Callable[[], None]:
    """Replace names by obstacles of a kind; "*" stands for all other names."""

    def strike() -> None:
        for name in names:
            for each in snap.other_names() if name == "*" else [name]:
                snap.put(each, kind)

    return strike


def strike_at_every_call(
    library: Path, kind: str, plans: Iterable[tuple[Callable[[Snap], None], tuple[str, ...]]]
) -> int:
    """Strike at each call of each plan (what is lost, which names are struck) with one kind of obstacle; how often."""
    struck = 0
    with Stepper(library) as stepper, Daemon() as daemon:
        before = start_with_claims(daemon, stepper.environment)
        snap = Snap(daemon)
        for loss, names in plans:
            calls = calls_of_putting_back(daemon, stepper, snap, loss)
            for number, call in enumerate(calls):
                attack(daemon, stepper, snap, loss, number, strikes(snap, kind, names))
                where = f"{kind} at {', '.join(names)} before call {number} ({call}) of {calls}"
                wait_until(lambda: reaches(daemon), f"the socket is the daemon's: {where}")
                changed = own_files(daemon).items() - before.items()
                assert not changed, f"{changed}: {where}"
                snap.clean_up()
                struck += 1
        assert "unexpectedly" not in daemon.log()
        snap.close()
    return struck


def test_socket_returns_after_every_obstacle_at_every_call(library: Path, long: bool) -> None:
    everything = (SOCKET, STAGED, "*")
    plans = [(leave_nothing, (STAGED, "*")), (leave_nothing, (SOCKET,)), (leave_directory, everything)]
    if long:
        plans = list(itertools.product((leave_nothing, leave_directory), ((STAGED,), ("*",), (SOCKET,), everything)))
    counts: dict[str, int] = {}
    failures: list[str] = []

    def strike(kind: str) -> None:
        try:
            counts[kind] = strike_at_every_call(library, kind, plans)
        except AssertionError as error:
            failures.append(f"{kind}: {error}")

    run_all([lambda kind=kind: strike(kind) for kind in OBSTACLES])
    print("\n".join(f"{count:5} strikes: {kind}" for kind, count in counts.items()))
    assert not failures, "\n\n".join(failures)
    assert len(counts) == len(OBSTACLES)


def test_activation_replaces_every_obstacle() -> None:
    """The daemon serves the socket that systemd hands over, and puts its file back."""

    def activate(kind: str) -> None:
        with Daemon() as daemon, listening(daemon.socket_path) as listener:
            snap = Snap(daemon)
            snap.keep_socket()
            for name in (SOCKET, STAGED):
                snap.put(name, kind)
            start_activated(daemon, listener, wait=False)
            wait_until(lambda: reaches(daemon) or not running(daemon), f"the socket is the daemon's: {kind}")
            assert running(daemon), f"{kind}: {daemon.log()}"
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                (snap.directory / KEPT).chmod(0o666)
                client.connect(str(snap.directory / KEPT))
                client.sendall(LISTING)
                assert "error" not in decode(read_to_end(client)), "the handed-over socket is served"
            snap.close()

    run_all([lambda kind=kind: activate(kind) for kind in OBSTACLES])


#: Obstacles without a server: without systemd's socket the daemon does not replace one that another process serves.
UNSERVED: Final = ("link to state.db", "dangling link", "directory", "directory with content", "FIFO")


def test_start_replaces_every_obstacle() -> None:
    def start(kind: str) -> None:
        with Daemon() as daemon:
            daemon.start()
            daemon.cores("svc", 2)
            assert daemon.stop() == 0
            before = own_files(daemon)["state.db"]
            snap = Snap(daemon)
            for name in (SOCKET, STAGED):
                snap.put(name, kind)
            daemon.launch()
            wait_until(lambda: reaches(daemon) or not running(daemon), f"the socket is the daemon's: {kind}")
            assert running(daemon), f"{kind}: {daemon.log()}"
            assert own_files(daemon)["state.db"] == before

    run_all([lambda kind=kind: start(kind) for kind in UNSERVED])


def test_socket_returns_after_a_race(long: bool) -> None:
    """The daemon's files keep their modes, and after the race the socket is the daemon's, even with obstacles."""
    with Daemon() as daemon:
        before = start_with_claims(daemon)
        snap = Snap(daemon)
        snap.keep_socket()
        rounds = 0
        deadline = time.monotonic() + (60 if long else RACE_SECONDS)
        for kind in itertools.cycle(OBSTACLES):
            for name in (SOCKET, STAGED, *snap.other_names()):
                with contextlib.suppress(OSError):  # the daemon was faster
                    snap.put(name, kind)
            rounds += 1
            if len(os.listdir("/proc/self/fd")) > 300:
                snap.close()
            if time.monotonic() > deadline and kind == "directory with content":
                break
        wait_until(lambda: reaches(daemon), "the socket is the daemon's")
        assert own_files(daemon) == before
        assert rounds > 100
        snap.close()


def limit_that_leaves(spare: int, pid: int) -> int:
    """The limit that lets a process open `spare` more descriptors than it holds all the time."""
    used = set(range(1024))
    for _ in range(10):
        used &= {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        time.sleep(0.01)
    return next(itertools.islice((number for number in itertools.count() if number not in used), spare, None))


def test_socket_returns_after_a_lack_of_descriptors() -> None:
    """A lack of any descriptor is logged, and the socket is back when there are descriptors again."""
    with Daemon() as daemon:
        daemon.start()
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        starved = 0
        for spare in range(8):
            wait_until(lambda: reaches(daemon), "the socket is the daemon's")
            said = daemon.log().count("Too many open files")
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit_that_leaves(spare, daemon.pid), limits[1]))
            daemon.socket_path.unlink()
            wait_until(
                lambda said=said: daemon.log().count("Too many open files") > said or daemon.socket_path.is_socket(),
                f"the log names the lack, with {spare} descriptors",
            )
            starved += not daemon.socket_path.is_socket()
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        wait_until(lambda: reaches(daemon), "the socket is the daemon's")
        assert starved >= 3


def running(daemon: Daemon) -> bool:
    """Whether the daemon's process has not ended."""
    return daemon.process is not None and daemon.process.running
