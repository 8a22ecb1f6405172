"""The socket file: stale ones are replaced, live ones left alone, lost ones put back, and only our own removed."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epa_orchestrator.listening import BACKLOG, ListenError, SocketFile, is_served


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for a socket's address, unlike pytest's tmp_path."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "data" / "epa.sock"


def serves(listener: socket.socket, path: Path) -> bool:
    """Whether who connects to the path arrives at the listener."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"x")
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(10)
            return accepted.recv(10) == b"x"


def listening_at(path: Path) -> socket.socket:
    """Somebody else's listener."""
    path.parent.mkdir(parents=True, exist_ok=True)
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(path))
    other.listen()
    return other


def leave_stale(path: Path) -> None:
    """The socket file of a daemon that was killed."""
    listening_at(path).close()


def leave_symbolic_link(path: Path) -> None:
    path.symlink_to("elsewhere")
    (path.parent / "elsewhere").write_text("other")


def leave_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def refusal(socket_file: SocketFile) -> str:
    with pytest.raises(ListenError) as caught:
        socket_file.bind()
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- bind ---


def test_it_listens_in_a_directory_that_it_makes(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind() as listener:
        assert serves(listener, path)
        assert socket_file.is_in_place()
        assert os.listdir(path.parent) == ["epa.sock"]


def test_the_listener_does_not_block_and_is_not_inherited(path: Path) -> None:
    with SocketFile(path).bind() as listener:
        assert not listener.getblocking()
        assert not listener.get_inheritable()
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


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


def test_hundreds_may_wait_in_the_backlog(path: Path) -> None:
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
        leave_stale,
        Path.touch,
        leave_symbolic_link,
        leave_dangling_link,
        os.mkfifo,
    ],
    ids=["socket", "file", "link", "dangling link", "fifo"],
)
def test_what_nobody_serves_is_replaced(leave: Callable[[Path], None], path: Path) -> None:
    path.parent.mkdir()
    leave(path)
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)
        assert stat.S_ISSOCK(path.lstat().st_mode)
    if (path.parent / "elsewhere").exists():
        assert (path.parent / "elsewhere").read_text() == "other", "the link went, not what it led to"


@pytest.mark.parametrize("leave", [leave_stale, Path.touch], ids=["socket", "file"])
def test_what_a_killed_start_left_is_no_hindrance(leave: Callable[[Path], None], path: Path) -> None:
    path.parent.mkdir()
    leave(path.with_name("epa.sock.new"))
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)
        assert os.listdir(path.parent) == ["epa.sock"]


def test_a_live_daemons_socket_is_left_alone(path: Path) -> None:
    with listening_at(path) as other:
        sentence = refusal(SocketFile(path))
        assert str(path) in sentence
        assert "already" in sentence
        assert "stop it" in sentence
        other.settimeout(10)
        accepted, _ = other.accept()  # the probe
        accepted.close()
        assert serves(other, path)


def test_a_live_daemon_with_a_full_backlog_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        assert "already serves" in refusal(SocketFile(path))


def test_the_second_of_two_gives_up_and_the_first_serves_on(path: Path) -> None:
    first, second = SocketFile(path), SocketFile(path)
    with first.bind() as listener:
        assert "already serves" in refusal(second)
        assert first.is_in_place()
        listener.accept()[0].close()  # the probe
        assert serves(listener, path)
        second.remove()
        assert first.is_in_place()


@pytest.mark.parametrize("length", [104, 105, 107, 108, 109, 300, 5000])
def test_a_path_that_is_too_long_is_refused_with_the_limit(length: int, directory: Path) -> None:
    path = directory / ("x" * (length - len(str(directory)) - 1))
    sentence = refusal(SocketFile(path))
    assert "too long" in sentence
    assert "107" in sentence
    assert os.listdir(directory) == []


def test_a_long_path_that_fits_is_served(directory: Path) -> None:
    path = directory / ("x" * (103 - len(str(directory)) - 1))
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)


def test_the_length_of_a_path_is_counted_in_bytes(directory: Path) -> None:
    """60 characters that have 4 bytes each."""
    assert "too long" in refusal(SocketFile(directory / ("\N{GRINNING FACE}" * 60)))


def test_a_directory_in_its_place_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "file").touch()
    open_files = len(os.listdir("/proc/self/fd"))
    sentence = refusal(SocketFile(path))
    assert str(path) in sentence
    assert "directory" in sentence
    assert (path / "file").exists()
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_file_in_place_of_its_directory_is_refused(path: Path) -> None:
    path.parent.touch()
    assert str(path) in refusal(SocketFile(path))


# --- looking after it ---


def test_it_is_put_back_when_removed(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind() as first:
        path.unlink()
        assert not socket_file.is_in_place()
        with socket_file.put_back() as second:
            assert socket_file.is_in_place()
            assert serves(second, path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert first.fileno() != -1, "who had connected before is still served"


def test_it_is_put_back_when_its_directory_is_removed(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        shutil.rmtree(path.parent)
        assert not socket_file.is_in_place()
        with socket_file.put_back() as second:
            assert socket_file.is_in_place()
            assert serves(second, path)


@pytest.mark.parametrize("replacement", ["socket", "file", "link"])
def test_it_is_put_back_when_replaced(replacement: str, path: Path) -> None:
    """By another socket, even a live one: nobody else has a right to the path."""
    socket_file = SocketFile(path)
    with socket_file.bind(), socket.socket(socket.AF_UNIX) as other:
        path.rename(path.with_name("moved"))
        if replacement == "socket":
            other.bind(str(path))
            other.listen()
        elif replacement == "file":
            path.touch()
        else:
            path.symlink_to("moved")
        assert not socket_file.is_in_place()
        with socket_file.put_back() as second:
            assert socket_file.is_in_place()
            assert serves(second, path)


def test_a_renamed_directory_is_not_in_place(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.parent.rename(path.parent.with_name("moved"))
        assert not socket_file.is_in_place()
        path.parent.with_name("moved").rename(path.parent)
        assert socket_file.is_in_place()


def test_clients_never_find_a_path_that_nobody_serves(path: Path) -> None:
    """It is put back a hundred times while a client connects all the time."""
    socket_file = SocketFile(path)
    listeners = [socket_file.bind()]
    failures: list[OSError] = []
    connected = 0
    done = threading.Event()

    def connect() -> None:
        nonlocal connected
        while not done.is_set():
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(path))
                except OSError as error:
                    failures.append(error)
                connected += 1

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        listeners.extend(socket_file.put_back() for _ in range(100))
    finally:
        done.set()
        thread.join()
        for listener in listeners:
            listener.close()
    assert failures == []
    assert connected > 0


def test_a_failed_attempt_can_be_repeated(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.unlink()
        path.mkdir()
        with pytest.raises(ListenError):
            socket_file.put_back()
        assert not socket_file.is_in_place()
        path.rmdir()
        with socket_file.put_back() as second:
            assert serves(second, path)


# --- remove ---


def test_its_own_file_is_removed(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        socket_file.remove()
        assert not path.exists()
        socket_file.remove()
        assert path.parent.is_dir()


def test_a_file_that_was_put_back_is_removed(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.unlink()
        with socket_file.put_back():
            socket_file.remove()
            assert not path.exists()


@pytest.mark.parametrize("replacement", ["socket", "file", "link"])
def test_somebody_elses_file_is_not_removed(replacement: str, path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.rename(path.with_name("moved"))
        if replacement == "socket":
            leave_stale(path)
        elif replacement == "file":
            path.touch()
        else:
            path.symlink_to("moved")
        inode = path.lstat().st_ino
        socket_file.remove()
        assert path.lstat().st_ino == inode


def test_what_was_never_bound_is_not_removed(path: Path) -> None:
    with listening_at(path):
        SocketFile(path).remove()
        assert path.exists()


def test_a_handed_over_file_is_known_as_it_is(path: Path) -> None:
    """The one that systemd made; when it is lost it is put back like any other."""
    socket_file = SocketFile(path)
    with listening_at(path) as handed_over:
        assert socket_file.adopt(handed_over)
        assert socket_file.is_in_place()
        path.unlink()
        assert not socket_file.is_in_place()
        with socket_file.put_back() as listener:
            assert serves(listener, path)
            socket_file.remove()
            assert not path.exists(), "the one that was put back is our own"


def test_a_handed_over_file_is_not_removed(path: Path) -> None:
    """It is systemd's, which serves the path on."""
    socket_file = SocketFile(path)
    with listening_at(path) as other:
        assert socket_file.adopt(other)
        other.accept()[0].close()  # what it probed with
        socket_file.remove()
        assert serves(other, path)


def test_a_handed_over_socket_whose_file_is_gone_is_not_adopted(path: Path) -> None:
    with listening_at(path) as handed_over:
        path.unlink()
        assert not SocketFile(path).adopt(handed_over)


def test_a_handed_over_socket_in_whose_place_a_dead_one_lies_is_not_adopted(path: Path) -> None:
    """What a daemon leaves that had put the file back and was killed."""
    with listening_at(path) as handed_over:
        path.unlink()
        with listening_at(path):
            pass
        assert path.is_socket()
        assert not SocketFile(path).adopt(handed_over)


def test_a_handed_over_socket_in_whose_place_another_process_serves_is_not_adopted(path: Path) -> None:
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('', flush=True);"
        " sys.stdin.read()"
    )
    with listening_at(path) as handed_over:
        path.unlink()
        command = [sys.executable, "-c", program, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            assert is_served(path)
            assert not SocketFile(path).adopt(handed_over)
            other.communicate(b"")


# --- probing ---


def test_who_is_served(path: Path) -> None:
    assert not is_served(path)
    with listening_at(path):
        assert is_served(path)
    assert not is_served(path)
    path.unlink()
    path.touch()
    assert not is_served(path)
    assert not is_served(path.parent)
    assert not is_served(path / "below")


def test_a_socket_that_is_bound_but_does_not_listen_is_not_served(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        assert not is_served(path)
