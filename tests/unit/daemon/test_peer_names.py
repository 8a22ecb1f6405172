# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Peer names: what the kernel tells of a process, as far as it does, and never an error."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest

from epa_orchestrator.daemon.peer_names import NameReader, reads_cgroups_at_once, snap_of, snap_of_label
from epa_orchestrator.daemon.peers import peer_of
from epa_orchestrator.peer import UNNAMED, Peer, PeerNames


@pytest.mark.parametrize(
    ("label", "snap"),
    [
        ("snap.openstack-hypervisor.nova-compute (enforce)", "openstack-hypervisor"),
        ("snap.lxd.daemon (complain)", "lxd"),
        ("snap.nova_blue.api (enforce)", "nova_blue"),
        ("snap.nova.hook.configure (enforce)", "nova"),
        ("snap.nova.api//null-/usr/bin/x (complain)", "nova"),
        # An ordinary user has entered the profile.
        ("snap.nova.api//&unconfined (enforce)", None),
        ("unconfined//&snap.nova.api (enforce)", None),
        # Root in a container has loaded the profile.
        (":lxd-c1_<var-snap-lxd>:snap.nova.api (enforce)", None),
        ("lxd-c1_</var/snap/lxd>//&:lxd-c1_<var-snap-lxd>:snap.nova.api (enforce)", None),
        ("unconfined", None),
        ("", None),
        ("/usr/sbin/cupsd (enforce)", None),
        ("snap-update-ns.nova (enforce)", None),
        ("/home/x/snap.nova.api (enforce)", None),
        ("snap.NOVA.api (enforce)", None),
        (f"snap.{'x' * 41}.api (enforce)", None),
        ("system_u:system_r:init_t:s0", None),
    ],
)
def test_the_snap_of_a_label(label: str, snap: str | None) -> None:
    assert snap_of_label(label) == snap


NOVA = "snap.nova.api (enforce)"


@pytest.mark.parametrize(
    ("label", "unit", "uid", "snap"),
    [
        (NOVA, None, 0, "nova"),
        (NOVA, "session-4.scope", 0, "nova"),
        (NOVA, "snap.nova.api.service", 1000, "nova"),
        ("unconfined", "snap.nova.api.service", 0, None),
        (None, "snap.nova.api.service", 1000, "nova"),
        (None, "snap.juju.juju-0a1b.scope", 0, "juju"),
        (None, "ovs.service", 0, None),
        (None, "user@1000.service", 1000, None),
        # Any user may enter a profile with aa-exec.
        (NOVA, None, 1000, None),
        (NOVA, "session-4.scope", 1000, None),
        (NOVA, "snap.other.x.service", 1000, None),
    ],
)
def test_the_snap_of_a_process(label: str | None, unit: str | None, uid: int, snap: str | None) -> None:
    assert snap_of(label, unit, uid) == snap


@contextlib.contextmanager
def connected_pair() -> Generator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def proc(base: Path, pid: int, comm: bytes, cgroup: bytes = b"0::/\n") -> Path:
    directory = base / str(pid)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "comm").write_bytes(comm)
    (directory / "cgroup").write_bytes(cgroup)
    return base


def test_a_real_peer_has_its_own_names() -> None:
    with connected_pair() as connection:
        names = NameReader().names_of(connection, peer_of(connection))
    assert names.comm == Path(f"/proc/{os.getpid()}/comm").read_text().removesuffix("\n")


def test_a_peer_under_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "s"
    code = (
        "import ctypes, socket, sys; ctypes.CDLL(None).prctl(15, b'nova\\x1b[2J\\xff');"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"
    )
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
            accepted, _ = listening.accept()
            with accepted:
                names = NameReader().names_of(accepted, peer_of(accepted))
            assert process.wait(30) == 0
    assert names.comm == "nova\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"


def test_a_peer_that_is_gone_has_no_names(tmp_path: Path) -> None:
    path = tmp_path / "s"
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)
        accepted, _ = listening.accept()
        with accepted:
            peer = peer_of(accepted)
            # Another process may have the number by now.
            reader = NameReader(proc(tmp_path / "proc", peer.pid, b"other\n"))
            assert reader.names_of(accepted, peer) == UNNAMED


def test_a_peer_in_another_pid_namespace_has_no_names(tmp_path: Path) -> None:
    reader = NameReader(proc(tmp_path, 0, b"idle\n"))
    with connected_pair() as connection:
        assert reader.names_of(connection, Peer(0, 0, 0)) == UNNAMED


def test_a_closed_connection_has_no_names() -> None:
    with connected_pair() as connection:
        peer = peer_of(connection)
    reader = NameReader(Path("/nowhere"))
    assert reader.names_of(connection, peer) == UNNAMED


@pytest.mark.parametrize("comm", [b"", b"\n"])
def test_an_empty_name_is_none(comm: bytes, tmp_path: Path) -> None:
    with connected_pair() as connection:
        reader = NameReader(proc(tmp_path, os.getpid(), comm))
        assert reader.names_of(connection, peer_of(connection)).comm is None


def test_names_are_bounded(tmp_path: Path) -> None:
    cgroup = b"0::/" + b"x" * 3000 + b".service\n"
    with connected_pair() as connection:
        names = NameReader(proc(tmp_path, os.getpid(), b"y" * 5000, cgroup)).names_of(connection, peer_of(connection))
    assert (len(names.comm or ""), len(names.unit or "")) == (255, 255)


def test_names_are_remembered_for_a_moment(tmp_path: Path) -> None:
    now = 100.0
    reader = NameReader(proc(tmp_path, os.getpid(), b"first\n"), lambda: now)
    with connected_pair() as connection:
        peer = peer_of(connection)
        assert reader.names_of(connection, peer).comm == "first"
        proc(tmp_path, os.getpid(), b"second\n")
        assert reader.names_of(connection, peer).comm == "first"
        now += 1.1
        assert reader.names_of(connection, peer).comm == "second"
    reader.close()


def test_a_few_processes_are_remembered(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    reader = NameReader(tmp_path)
    with connected_pair() as connection:
        for pid in range(1, 21):
            reader.names_of(connection, Peer(pid, 0, 0))
        assert len(os.listdir("/proc/self/fd")) == before + 18
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_that_are_denied_are_tried_again_after_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each denial would be a line in the kernel's log."""
    opened: list[str] = []

    def denied(path: str, *_: object) -> int:
        opened.append(path.rpartition("/")[2])
        raise PermissionError

    now = 100.0
    reader = NameReader(tmp_path, lambda: now)
    monkeypatch.setattr("epa_orchestrator.daemon.peer_names.os.open", denied)
    with connected_pair() as connection:
        for _ in range(3):
            assert reader.names_of(connection, peer_of(connection)) == PeerNames()
            reader.close()
        assert opened == ["comm", "cgroup"]
        now += 61
        reader.names_of(connection, peer_of(connection))
        assert opened == ["comm", "cgroup"] * 2


# --- kernels that tell less ---

LABEL = 31
PIDFD = 77


class Told:
    """A connection of which the kernel tells other things, or fails to."""

    def __init__(self, connection: socket.socket, told: dict[int, bytes | int]) -> None:
        self._connection = connection
        self.told = told

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        told = self.told.get(option)
        if isinstance(told, int):
            raise OSError(told, os.strerror(told))
        return told if told is not None else self._connection.getsockopt(level, option, size)


def names_when(told: dict[int, bytes | int], base: Path, reader: NameReader | None = None) -> PeerNames:
    """The names of a peer of root whose process id belongs to a process that lives."""
    reader = reader or NameReader(proc(base, os.getpid(), b"other\n", b"0::/system.slice/snap.other.x.service\n"))
    with connected_pair() as connection:
        return reader.names_of(cast("socket.socket", Told(connection, told)), peer_of(connection)._replace(uid=0))


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ESRCH, errno.ENOPROTOOPT, errno.EMFILE])
def test_without_a_pidfd_of_the_peer_only_its_label_counts(error: int, tmp_path: Path) -> None:
    """The process with its id may be another one, which was started after the peer ended."""
    assert names_when({PIDFD: error, LABEL: b"snap.nova.api (enforce)\0"}, tmp_path) == PeerNames(snap="nova")
    assert names_when({PIDFD: error, LABEL: errno.ENOPROTOOPT}, tmp_path) == UNNAMED


def test_a_peer_that_is_gone_does_not_get_the_names_of_the_next_process(tmp_path: Path) -> None:
    """The next process with its id was asked for its names just before."""
    reader = NameReader(proc(tmp_path, os.getpid(), b"other\n"))
    assert names_when({}, tmp_path, reader).comm == "other"
    assert names_when({PIDFD: errno.ESRCH}, tmp_path, reader) == UNNAMED
    reader.close()


def test_a_long_label_is_no_snap_and_hides_no_others(tmp_path: Path) -> None:
    reader = NameReader(proc(tmp_path, os.getpid(), b"other\n", b"0::/system.slice/snap.other.x.service\n"))
    assert names_when({LABEL: errno.ERANGE}, tmp_path, reader).snap is None
    assert names_when({LABEL: b"snap.nova.api (enforce)\0"}, tmp_path, reader).snap == "nova"
    reader.close()


def test_without_labels_the_control_group_tells_the_snap(tmp_path: Path) -> None:
    reader = NameReader(proc(tmp_path, os.getpid(), b"other\n", b"0::/system.slice/snap.other.x.service\n"))
    assert names_when({LABEL: errno.ENOPROTOOPT}, tmp_path, reader).snap == "other"
    reader.close()


@pytest.mark.parametrize(
    ("release", "reads"),
    [
        ("6.8.0-45-generic", True),
        ("6.7.0", True),
        ("10.0", True),
        ("6.5.0-1-generic", False),
        ("5.15.0-122-generic", False),
        ("", False),
    ],
)
def test_the_control_group_is_read_where_that_takes_no_lock(release: str, reads: bool) -> None:
    assert reads_cgroups_at_once(release) is reads


def test_an_older_kernel_tells_no_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epa_orchestrator.daemon.peer_names._CGROUP_KERNEL", (999, 0))
    assert names_when({LABEL: errno.ENOPROTOOPT}, tmp_path) == PeerNames(comm="other")
