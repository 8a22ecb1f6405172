"""The socket file: stale ones are replaced, live ones left alone, and only our own is removed.

Whether the file still leads to us is the socket keeper's to find out, and tested there.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import stat
import struct
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from epa_orchestrator.daemon.socket_file import BACKLOG, PRIVATE_NAME, ListenError, SocketFile, connect, is_served


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
        assert os.listdir(path.parent) == ["epa.sock"]
        private = path.parent.with_name(PRIVATE_NAME)
        assert stat.S_IMODE(private.lstat().st_mode) == 0o700
        assert os.listdir(private) == []


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
    private = path.parent.with_name(PRIVATE_NAME)
    private.mkdir()
    leave(private / "f00d")
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)
        assert os.listdir(private) == []


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
        listener.accept()[0].close()  # the probe
        assert serves(listener, path)


def of_length(length: int, directory: Path) -> Path:
    return directory / "data" / ("x" * (length - len(str(directory / "data")) - 1))


@pytest.mark.parametrize("length", [108, 109, 300, 5000])
def test_a_path_that_is_too_long_is_refused_with_the_limit(length: int, directory: Path) -> None:
    sentence = refusal(SocketFile(of_length(length, directory)))
    assert "too long" in sentence
    assert "107" in sentence
    assert os.listdir(directory) == []


@pytest.mark.parametrize("length", [106, 107])
def test_a_long_path_that_fits_is_served(length: int, directory: Path) -> None:
    path = of_length(length, directory)
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)


def test_the_deepest_snap_data_that_fits_is_served(directory: Path) -> None:
    """The private path is not longer than the one that clients know."""
    path = directory / ("x" * (107 - len(str(directory)) - 1 - len("/data/epa.sock"))) / "data" / "epa.sock"
    assert len(str(path)) == 107
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)


def test_the_length_of_a_path_is_counted_in_bytes(directory: Path) -> None:
    """60 characters that have 4 bytes each."""
    assert "too long" in refusal(SocketFile(directory / "data" / ("\N{GRINNING FACE}" * 60)))


def test_an_empty_directory_in_its_place_is_removed(path: Path) -> None:
    path.mkdir(parents=True)
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)
        assert os.listdir(path.parent) == ["epa.sock"]


def test_a_directory_with_content_in_its_place_is_moved_aside(path: Path) -> None:
    (path / "below").mkdir(parents=True)
    (path / "below" / "file").write_text("theirs")
    with SocketFile(path).bind() as listener:
        assert serves(listener, path)
        (aside,) = set(os.listdir(path.parent)) - {"epa.sock"}
        assert (path.parent / aside / "below" / "file").read_text() == "theirs"


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_a_non_directory_in_place_of_its_directory_is_refused(kind: str, path: Path) -> None:
    elsewhere = path.parent.with_name("elsewhere")
    if kind == "file":
        path.parent.touch()
    else:
        path.parent.symlink_to("elsewhere")
    if kind == "link":
        elsewhere.mkdir()
    open_files = len(os.listdir("/proc/self/fd"))
    assert f"{path.parent} is a link or not a directory: replace it" in refusal(SocketFile(path))
    assert len(os.listdir("/proc/self/fd")) == open_files
    if kind == "link":
        assert os.listdir(elsewhere) == []
    else:
        assert not elsewhere.exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_non_directory_in_place_of_the_private_one_is_refused(kind: str, path: Path) -> None:
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
def test_a_private_directory_of_another_user_is_refused(path: Path) -> None:
    private = path.parent.with_name(PRIVATE_NAME)
    private.mkdir()
    os.chown(private, 65534, 65534)
    assert f"{private} is not a directory of the daemon's user" in refusal(SocketFile(path))


def test_a_private_directory_that_others_may_read_is_closed(path: Path) -> None:
    private = path.parent.with_name(PRIVATE_NAME)
    private.mkdir()
    private.chmod(0o777)
    with SocketFile(path).bind():
        assert stat.S_IMODE(private.stat().st_mode) == 0o700


# --- putting it back ---


@pytest.mark.parametrize("loss", ["removed", "directory removed", "socket", "file", "link"])
def test_it_is_put_back(loss: str, path: Path) -> None:
    """In place of another socket, even a live one: nobody else has a right to the path."""
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
        assert first.fileno() != -1, "who had connected before is still served"


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


def test_a_hostile_thread_that_puts_directories_there_does_not_keep_it_away(path: Path) -> None:
    """The thread wins the race sometimes; then the obstacle is moved aside again."""
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
        open_files = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ListenError):
            socket_file.put_back()
        assert len(os.listdir("/proc/self/fd")) == open_files
        path.parent.unlink()
        with socket_file.put_back() as second:
            assert serves(second, path)


def test_without_file_descriptors_it_fails_with_a_sentence_and_leaves_nothing(path: Path) -> None:
    """For each descriptor that can be missing."""
    socket_file = SocketFile(path)
    with socket_file.bind():
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
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
    os.close(lowest_free)


# --- open ---


def test_the_socket_is_opened(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind() as listener:
        fd = socket_file.open()
        assert fd is not None
        path.unlink()
        connection = connect(fd)
        os.close(fd)
        assert connection is not None, "it uses the descriptor, not the name"
        with connection, listener.accept()[0]:
            pass


@pytest.mark.parametrize(
    "leave",
    [Path.touch, Path.mkdir, leave_dangling_link, leave_symbolic_link, os.mkfifo, None],
    ids=["file", "directory", "dangling link", "link", "fifo", "nothing"],
)
def test_only_a_socket_is_opened(leave: Callable[[Path], None] | None, path: Path) -> None:
    path.parent.mkdir()
    if leave is not None:
        leave(path)
    open_files = len(os.listdir("/proc/self/fd"))
    assert SocketFile(path).open() is None
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_link_to_the_socket_is_not_opened(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.rename(path.with_name("moved"))
        path.symlink_to("moved")
        assert socket_file.open() is None


def test_a_link_to_its_directory_is_not_followed(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.parent.rename(path.parent.with_name("moved"))
        path.parent.symlink_to("moved")
        assert socket_file.open() is None
        assert not is_served(path)


def set_access_list(path: Path, kind: str = "access") -> None:
    """Everybody may do everything, but user 65534 nothing; acl(5), in the kernel's form (posix_acl_xattr.h)."""
    everyone = 0xFFFFFFFF
    entries = [(1, 6, everyone), (2, 0, 65534), (4, 6, everyone), (0x10, 6, everyone), (0x20, 6, everyone)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, f"system.posix_acl_{kind}", packed)
    except OSError as error:
        pytest.skip(f"no access control lists on this file system: {error.strerror}")


def test_a_socket_with_an_access_control_list_is_not_opened(path: Path) -> None:
    """It can shut out a user although the mode says that everybody may connect."""
    file = SocketFile(path)
    with file.bind():
        set_access_list(path)
        assert stat.S_IMODE(path.lstat().st_mode) == 0o666
        assert file.open() is None
        with file.put_back():
            assert "system.posix_acl_access" not in os.listxattr(path)
            fd = file.open()
            assert fd is not None
            os.close(fd)


def test_a_default_access_control_list_is_not_inherited(path: Path) -> None:
    file = SocketFile(path)
    with file.bind():
        set_access_list(path.parent.with_name(PRIVATE_NAME), "default")
        with file.put_back():
            assert stat.S_IMODE(path.lstat().st_mode) == 0o666
            assert "system.posix_acl_access" not in os.listxattr(path)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o667, 0o777, 0o1666, 0o4666, 0])
def test_a_socket_of_another_mode_is_not_opened(mode: int, path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        path.chmod(mode)
        assert socket_file.open() is None


# --- remove ---


def opened(socket_file: SocketFile) -> int:
    fd = socket_file.open()
    assert fd is not None
    return fd


def test_its_own_file_is_removed(path: Path) -> None:
    socket_file = SocketFile(path)
    with socket_file.bind():
        fd = opened(socket_file)
        socket_file.remove(fd)
        assert not path.exists()
        socket_file.remove(fd)
        os.close(fd)
        assert path.parent.is_dir()
        assert os.listdir(path.parent.with_name(PRIVATE_NAME)) == []


@pytest.mark.parametrize("replacement", ["socket", "file", "link", "directory"])
def test_somebody_elses_file_is_not_removed(replacement: str, path: Path) -> None:
    """Not even when it comes after the proof."""
    socket_file = SocketFile(path)
    with socket_file.bind():
        fd = opened(socket_file)
        path.rename(path.with_name("moved"))
        if replacement == "socket":
            leave_stale(path)
        elif replacement == "file":
            path.touch()
        elif replacement == "directory":
            (path / "below").mkdir(parents=True)
        else:
            path.symlink_to("moved")
        inode = path.lstat().st_ino
        socket_file.remove(fd)
        os.close(fd)
        assert path.lstat().st_ino == inode


# --- who is served ---


def test_who_is_served(path: Path) -> None:
    assert not is_served(path)
    with listening_at(path):
        assert is_served(path)
    assert not is_served(path)
    path.unlink()
    with listening_at(path.with_name("elsewhere")):
        path.symlink_to("elsewhere")
        assert not is_served(path), "that is another path"
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
