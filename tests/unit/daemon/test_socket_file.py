# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The socket file: stale ones are replaced, live ones are kept, and a lost one is put back."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from epa_orchestrator.daemon.socket_file import BACKLOG, PRIVATE_NAME, ListenError, SocketFile

from .sockets import leave_dangling_link, leave_link, leave_stale_socket, listening_at, open_files


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "data" / "epa.sock"


def serves(listener: socket.socket, path: Path) -> bool:
    """Whether a connection to the path arrives at the listener."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"x")
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(10)
            return accepted.recv(10) == b"x"


def refusal(socket_file: SocketFile) -> str:
    with pytest.raises(ListenError) as caught:
        socket_file.bind()
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- bind ---


def test_makes_its_directory_and_listens_there(path: Path) -> None:
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)


def test_leaves_nothing_but_the_socket(path: Path) -> None:
    with SocketFile(path).bind():
        assert os.listdir(path.parent) == ["epa.sock"]
        assert os.listdir(path.parent.with_name(PRIVATE_NAME)) == []


def test_only_the_daemons_user_may_enter_the_private_directory(path: Path) -> None:
    with SocketFile(path).bind():
        assert stat.S_IMODE(path.parent.with_name(PRIVATE_NAME).lstat().st_mode) == 0o700


def test_the_listener_does_not_block(path: Path) -> None:
    with SocketFile(path).bind() as listener:
        assert not listener.getblocking()


def test_the_listener_is_not_inherited(path: Path) -> None:
    with SocketFile(path).bind() as listener:
        assert not listener.get_inheritable()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_everybody_may_connect_whatever_the_umask(umask: int, path: Path) -> None:
    path.parent.mkdir()
    before = os.umask(umask)
    try:
        with SocketFile(path).bind():
            status = path.stat()
    finally:
        os.umask(before)
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o666


def test_the_backlog_holds_hundreds_of_clients(path: Path) -> None:
    """As many as the system allows; the kernel's own default is 4096."""
    most = min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()), 500)
    clients: list[socket.socket] = []
    with SocketFile(path).bind():
        for _ in range(most):
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.setblocking(False)
            client.connect(str(path))
    for client in clients:
        client.close()
    assert len(clients) == most


@pytest.mark.parametrize(
    "leave",
    [
        leave_stale_socket,
        Path.touch,
        leave_link,
        leave_dangling_link,
        os.mkfifo,
    ],
    ids=["socket", "file", "link", "dangling link", "fifo"],
)
def test_replaces_a_file_that_nobody_serves(leave: Callable[[Path], None], path: Path) -> None:
    path.parent.mkdir()
    leave(path)
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)
        assert stat.S_ISSOCK(path.lstat().st_mode)
    if (path.parent / "elsewhere").exists():
        assert (path.parent / "elsewhere").read_text() == "other", "the link was replaced, not its target"


@pytest.mark.parametrize("leave", [leave_stale_socket, Path.touch], ids=["socket", "file"])
def test_removes_files_that_a_killed_start_left(leave: Callable[[Path], None], path: Path) -> None:
    private = path.parent.with_name(PRIVATE_NAME)
    private.mkdir()
    leave(private / "f00d")
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)
        assert os.listdir(private) == []


def test_refuses_to_replace_the_socket_of_a_live_daemon(path: Path) -> None:
    with listening_at(path) as other:
        sentence = refusal(SocketFile(path))
        assert str(path) in sentence
        assert "already" in sentence
        assert "stop it" in sentence
        other.settimeout(10)
        accepted, _ = other.accept()  # the probe
        accepted.close()
        assert serves(other, path)


def test_refuses_to_replace_a_socket_with_a_full_backlog(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        assert "already serves" in refusal(SocketFile(path))


def test_the_second_of_two_daemons_fails_and_the_first_still_serves(path: Path) -> None:
    first, second = SocketFile(path), SocketFile(path)
    with first.bind() as listener:
        assert "already serves" in refusal(second)
        listener.accept()[0].close()  # the probe
        assert serves(listener, path)


def of_length(length: int, directory: Path) -> Path:
    return directory / "data" / ("x" * (length - len(str(directory / "data")) - 1))


@pytest.mark.parametrize("length", [108, 109, 300, 5000])
def test_refuses_a_path_that_is_too_long(length: int, directory: Path) -> None:
    sentence = refusal(SocketFile(of_length(length, directory)))
    assert "too long" in sentence
    assert "107" in sentence
    assert os.listdir(directory) == []


@pytest.mark.parametrize("length", [106, 107])
def test_serves_a_path_of_the_maximum_length(length: int, directory: Path) -> None:
    path = of_length(length, directory)
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)


def test_serves_the_deepest_snap_data_that_fits(directory: Path) -> None:
    """The private path is not longer than the one that clients know."""
    path = directory / ("x" * (107 - len(str(directory)) - 1 - len("/data/epa.sock"))) / "data" / "epa.sock"
    assert len(str(path)) == 107
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)


def test_the_length_of_a_path_is_counted_in_bytes(directory: Path) -> None:
    """60 characters that have 4 bytes each."""
    assert "too long" in refusal(SocketFile(directory / "data" / ("\N{GRINNING FACE}" * 60)))


def test_removes_an_empty_directory_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)
        assert os.listdir(path.parent) == ["epa.sock"]


def test_moves_a_full_directory_in_its_place_aside(path: Path) -> None:
    (path / "below").mkdir(parents=True)
    (path / "below" / "file").write_text("theirs")
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)
        (aside,) = set(os.listdir(path.parent)) - {"epa.sock"}
        assert (path.parent / aside / "below" / "file").read_text() == "theirs"


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_refuses_a_link_or_file_in_place_of_its_directory(kind: str, path: Path) -> None:
    elsewhere = path.parent.with_name("elsewhere")
    if kind == "file":
        path.parent.touch()
    else:
        path.parent.symlink_to("elsewhere")
    if kind == "link":
        elsewhere.mkdir()
    before = open_files()
    assert f"{path.parent} is a link or not a directory: replace it" in refusal(SocketFile(path))
    assert open_files() == before
    if kind == "link":
        assert os.listdir(elsewhere) == []
    else:
        assert not elsewhere.exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_refuses_a_link_or_file_in_place_of_the_private_directory(kind: str, path: Path) -> None:
    private = path.parent.with_name(PRIVATE_NAME)
    elsewhere = path.parent.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    if kind == "file":
        private.touch()
    else:
        private.symlink_to("elsewhere")
    assert f"{private} is not a directory of the daemon's user: remove it" in refusal(SocketFile(path))
    assert os.listdir(elsewhere) == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_refuses_a_private_directory_of_another_user(path: Path) -> None:
    private = path.parent.with_name(PRIVATE_NAME)
    private.mkdir()
    os.chown(private, 65534, 65534)
    assert f"{private} is not a directory of the daemon's user" in refusal(SocketFile(path))


def test_closes_a_private_directory_that_others_may_read(path: Path) -> None:
    private = path.parent.with_name(PRIVATE_NAME)
    private.mkdir()
    private.chmod(0o777)
    with SocketFile(path).bind():
        assert stat.S_IMODE(private.stat().st_mode) == 0o700


# --- putting it back ---


@pytest.mark.parametrize("loss", ["removed", "directory removed", "socket", "file", "link"])
def test_puts_back_a_lost_or_replaced_socket(loss: str, path: Path) -> None:
    """It replaces even a live socket: nobody else has a right to the path."""
    socket_file = SocketFile(path)
    with socket_file.bind() as first, socket.socket(socket.AF_UNIX) as other:
        path.rename(path.with_name("moved"))
        if loss == "directory removed":
            shutil.rmtree(path.parent)
        elif loss == "socket":
            other.bind(str(path))
            other.listen()
        elif loss == "file":
            path.touch()
        elif loss == "link":
            path.symlink_to("moved")
        with socket_file.put_back() as second:
            assert serves(second, path)
            assert stat.S_IMODE(path.lstat().st_mode) == 0o666
        assert first.fileno() != -1, "clients that have connected before are still served"


@contextlib.contextmanager
def repeating(action: Callable[[], None]) -> Generator[None]:
    """Repeat an action in another thread as long as the body runs."""
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            action()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_puts_it_back_while_a_thread_makes_directories_there(path: Path) -> None:
    """The thread sometimes wins the race. Then the obstacle is moved aside again."""
    socket_file = SocketFile(path)
    listeners = [socket_file.bind()]
    made = 0

    def obstruct() -> None:
        nonlocal made
        try:
            path.mkdir()
            made += 1
        except FileExistsError:
            with contextlib.suppress(OSError):
                path.unlink()

    with repeating(obstruct):
        listeners.extend(socket_file.put_back() for _ in range(100))
    for listener in listeners:
        listener.close()
    assert len(listeners) == 101
    assert made > 0


def test_clients_never_find_a_path_that_nobody_serves(path: Path) -> None:
    """It is put back a hundred times while a client connects all the time."""
    socket_file = SocketFile(path)
    listeners = [socket_file.bind()]
    failures: list[OSError] = []
    connected = 0

    def connect() -> None:
        nonlocal connected
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError as error:
                failures.append(error)
            connected += 1

    with repeating(connect):
        listeners.extend(socket_file.put_back() for _ in range(100))
    for listener in listeners:
        listener.close()
    assert failures == []
    assert connected > 0


def test_a_failed_attempt_can_be_repeated(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.unlink()
        path.parent.rmdir()
        path.parent.touch()
        before = open_files()
        with pytest.raises(ListenError):
            socket_file.put_back()
        assert open_files() == before
        path.parent.unlink()
        with socket_file.put_back() as second:
            assert serves(second, path)


def test_without_file_descriptors_it_fails_and_leaks_none(path: Path) -> None:
    """Each descriptor that it needs is missing once."""
    socket_file = SocketFile(path)
    with socket_file.bind():
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    fillers: list[int] = []
    while (lowest_free := os.dup(0)) < highest:  # another test may have left a gap below an open descriptor
        fillers.append(lowest_free)
    os.close(lowest_free)
    failures: list[str] = []
    try:
        for spare in range(10):
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + spare, hard))
            try:
                socket_file.bind().close()
                break
            except ListenError as error:
                failures.append(str(error))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failures == [f"The socket {path} cannot be made: Too many open files"] * 3, "two directories and the socket"
    assert os.dup(0) == lowest_free
    for descriptor in (lowest_free, *fillers):
        os.close(descriptor)
