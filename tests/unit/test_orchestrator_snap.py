"""So that installing, connecting and removing survive all that snapd and the daemon can answer.

src/orchestrator_snap.py against a stand-in for snapd, and a real daemon.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from charmlibs import snap
from charmlibs.snap import _client as snapd_client

import orchestrator_snap
import snapd
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.state import database_files
from orchestrator_snap import FileSource, SnapError, StoreSource
from tests.fake_snapd import (
    BASE,
    BUSY,
    CONSUMER,
    NAME,
    ChangeFails,
    Refusal,
    Service,
    Silence,
    Snapd,
    in_place,
    mount_profile,
    short_directory,
    write_snap,
)

ATTEMPTS = 4
STABLE, EDGE = StoreSource("latest/stable"), StoreSource("latest/edge")
PLUG = (CONSUMER, "epa-info")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapd]:
    with in_place(monkeypatch) as fake:
        monkeypatch.setattr(orchestrator_snap, "_BLOBS", fake.blobs)
        monkeypatch.setattr(orchestrator_snap, "_MOUNTS", fake.mounts)
        monkeypatch.setattr(orchestrator_snap, "SOCKET", fake.blobs.parent / "epa.sock")
        fake.store.publish(NAME, "latest/stable", 4, "1.9")
        fake.store.publish(NAME, "latest/stable", 5, "2.0")
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
    orchestrator_snap.install(file)
    fake.requests.clear()
    fake.commands.clear()
    return fake


@pytest.fixture
def connected(ours: Snapd) -> Snapd:
    """A consumer is connected."""
    ours.add_consumer()
    orchestrator_snap.connect([PLUG])
    ours.requests.clear()
    return ours


@contextlib.contextmanager
def an_installed_service() -> Generator[Service]:
    """A daemon to start on eight CPUs, of which the kernel isolates 2-7, and 0-1 are the general pool."""
    with short_directory() as base:
        settings = base / "settings.json"
        settings.write_text('{"cpu-pool": "0-1"}', encoding="utf-8")
        service = Service(base / "x1", base / "common", "--machine", "vm-8", EPA_SETTINGS=str(settings))
        try:
            yield service
        finally:
            service.stop()


@pytest.fixture
def service(fake: Snapd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The daemon of this test, not yet started."""
    with an_installed_service() as service:
        monkeypatch.setattr(orchestrator_snap, "SOCKET", service.socket)
        yield service


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    """The daemon that tests have one after the other, because it takes its time to start."""
    with an_installed_service() as service:
        yield service.start()


@pytest.fixture
def daemon(fake: Snapd, shared: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A daemon that runs, and of which nobody holds anything."""
    monkeypatch.setattr(orchestrator_snap, "SOCKET", shared.socket)
    yield shared
    for pool in ("isolated", "general"):
        for claim in shared.client.list_allocations(pool).allocations:
            shared.client.allocate(claim.service_name, -1, pool)
    for service in shared.client.memory_info().numa_hugepages["node0"].allocations:
        shared.client.set_hugepages(service, 0, 2048, -1)


@pytest.fixture
def sick_daemon(service: Service) -> Service:
    """A daemon that cannot read its state."""
    (service.log.parent / database_files.FILE_NAME).write_text("no database", encoding="utf-8")
    return service.start()


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(SnapError) as caught:
        action()
    return str(caught.value)


def state(fake: Snapd) -> tuple[str, str, bool]:
    """Revision, channel, and whether it is held."""
    snap = fake.snaps[NAME]
    return snap.revision, snap.tracking, snap.held


# Installing


def test_a_file_is_installed_and_held(fake: Snapd, file: FileSource) -> None:
    assert not orchestrator_snap.is_wanted(file)
    orchestrator_snap.install(file)
    assert state(fake) == ("x1", "", True)
    assert fake.commands_of("install") == [["install", "--dangerous", str(file.path)]]
    assert orchestrator_snap.is_wanted(file)
    info = orchestrator_snap.installed()
    assert info is not None
    assert info.version == "2.0"


def test_another_file_is_wanted_only_until_it_is_installed(
    ours: Snapd, file: FileSource, other_file: FileSource
) -> None:
    assert not orchestrator_snap.is_wanted(other_file)
    orchestrator_snap.install(other_file)
    assert state(ours) == ("x2", "", True)
    assert orchestrator_snap.is_wanted(other_file)
    assert not orchestrator_snap.is_wanted(file)


def test_the_same_content_under_another_name_is_the_same_snap(ours: Snapd, tmp_path: Path) -> None:
    assert orchestrator_snap.is_wanted(FileSource(write_snap(tmp_path / "renamed.snap", "2.0")))
    assert ours.commands == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_charm_without_a_snap_says_what_to_attach(fake: Snapd, tmp_path: Path, exists: bool) -> None:
    empty = tmp_path / "epa-orchestrator.snap"
    if exists:
        empty.touch()
    assert not orchestrator_snap.is_wanted(FileSource(empty))
    assert error_of(lambda: orchestrator_snap.install(FileSource(empty))) == (
        "the charm carries no snap (epa-orchestrator.snap): attach the resource epa-orchestrator-snap, or set"
        " snap-channel"
    )
    assert fake.commands == []


def test_a_file_that_is_no_snap_is_named(fake: Snapd, tmp_path: Path) -> None:
    (tmp_path / "broken.snap").write_text("not a snap", encoding="utf-8")
    sentence = error_of(lambda: orchestrator_snap.install(FileSource(tmp_path / "broken.snap")))
    assert sentence.startswith("the snap cannot be installed from the file broken.snap: cannot open snap file")
    assert NAME not in fake.snaps


def test_a_channel_of_the_store_is_installed_and_held(fake: Snapd) -> None:
    assert not orchestrator_snap.is_wanted(STABLE)
    orchestrator_snap.install(STABLE)
    assert state(fake) == ("5", "latest/stable", True)
    assert orchestrator_snap.is_wanted(STABLE)
    assert fake.commands == []


def test_another_risk_is_another_channel(fake: Snapd) -> None:
    orchestrator_snap.install(STABLE)
    assert orchestrator_snap.is_wanted(STABLE)
    assert not orchestrator_snap.is_wanted(EDGE)
    assert fake.asked("POST refresh") == 0


def test_a_branch_is_another_channel(fake: Snapd) -> None:
    fake.store.publish(NAME, "latest/edge/fix-1", 8, "2.1")
    orchestrator_snap.install(StoreSource("edge/fix-1"))
    assert state(fake) == ("8", "latest/edge/fix-1", True)
    assert orchestrator_snap.is_wanted(StoreSource("latest/edge/fix-1"))
    assert not orchestrator_snap.is_wanted(EDGE)


def test_a_revision_is_pinned_and_let_go(fake: Snapd) -> None:
    pinned = StoreSource("latest/stable", 4)
    orchestrator_snap.install(pinned)
    assert state(fake) == ("4", "latest/stable", True)
    assert orchestrator_snap.is_wanted(pinned)
    assert not orchestrator_snap.is_wanted(StoreSource("latest/stable", 5))
    assert orchestrator_snap.is_wanted(STABLE), "a newer one in the channel does not count"


def test_a_pinned_revision_replaces_another(fake: Snapd) -> None:
    orchestrator_snap.install(STABLE)
    orchestrator_snap.install(StoreSource("latest/stable", 4))
    assert state(fake) == ("4", "latest/stable", True)


def test_the_newest_of_the_channel_is_taken_when_asked_for_only(fake: Snapd) -> None:
    orchestrator_snap.install(STABLE)
    fake.store.publish(NAME, "latest/stable", 6, "2.0.1")
    orchestrator_snap.install(STABLE)
    assert state(fake) == ("5", "latest/stable", True)
    orchestrator_snap.install(STABLE, newest=True)
    assert state(fake) == ("6", "latest/stable", True)
    orchestrator_snap.install(STABLE, newest=True)
    assert state(fake) == ("6", "latest/stable", True)


def test_another_channel_is_a_refresh(fake: Snapd) -> None:
    orchestrator_snap.install(STABLE)
    orchestrator_snap.install(EDGE)
    assert state(fake) == ("7", "latest/edge", True)
    assert fake.asked("POST install") == 1
    assert fake.asked("POST refresh") == 1


def test_from_a_file_to_the_store_and_back_and_again(fake: Snapd, file: FileSource, other_file: FileSource) -> None:
    for source, expected in (
        (file, ("x1", "", True)),
        (STABLE, ("5", "latest/stable", True)),
        # snapd keeps the channel of a snap that a file replaces.
        (file, ("x2", "latest/stable", True)),
        (EDGE, ("7", "latest/edge", True)),
        (other_file, ("x3", "latest/edge", True)),
        (EDGE, ("7", "latest/edge", True)),
    ):
        assert not orchestrator_snap.is_wanted(source), source
        orchestrator_snap.install(source)
        assert state(fake) == expected
        assert orchestrator_snap.is_wanted(source), source
    assert fake.commands_of("refresh") == [
        ["refresh", "--amend", "--channel", channel, NAME]
        for channel in ("latest/stable", "latest/edge", "latest/edge")
    ]


def test_from_a_file_to_a_revision_of_the_store(ours: Snapd) -> None:
    orchestrator_snap.install(StoreSource("latest/stable", 4))
    assert state(ours) == ("4", "latest/stable", True)
    assert ours.commands_of("refresh") == [
        ["refresh", "--amend", "--channel", "latest/stable", "--revision", "4", NAME]
    ]


def test_connections_and_options_stay_over_every_switch(connected: Snapd, other_file: FileSource) -> None:
    orchestrator_snap.configure({"reserved-cpus": "2"})
    for source in (STABLE, other_file, EDGE):
        orchestrator_snap.install(source)
        assert connected.slot_of(PLUG) == f"{NAME}:epa-info"
        assert orchestrator_snap.options() == {"reserved-cpus": "2"}


@pytest.mark.parametrize("snap_is_there", [True, False])
def test_a_store_that_is_down_is_named_with_remedies(fake: Snapd, snap_is_there: bool) -> None:
    if snap_is_there:
        orchestrator_snap.install(EDGE)
    fake.store.down = True
    sentence = error_of(lambda: orchestrator_snap.install(STABLE))
    assert sentence.startswith("the store cannot be reached for latest/stable in the store (persistent network error")
    assert sentence.endswith("mend the machine's network or the model's snap-http-proxy, or reset snap-channel")


def test_a_store_that_is_down_leaves_the_snap_from_a_file(ours: Snapd) -> None:
    ours.store.down = True
    sentence = error_of(lambda: orchestrator_snap.install(STABLE))
    assert sentence.startswith(
        "the store cannot be reached for latest/stable in the store (unable to contact snap store"
    )
    assert state(ours) == ("x1", "", True)


def test_a_store_that_is_too_slow_is_named_with_remedies(fake: Snapd) -> None:
    slow = 'Post "https://store.test/v2/snaps/refresh": net/http: request canceled (Client.Timeout exceeded)'
    fake.next("POST install", Refusal(slow, "network-timeout"), ATTEMPTS)
    assert error_of(lambda: orchestrator_snap.install(STABLE)).startswith("the store cannot be reached")


def test_a_snap_that_the_store_does_not_have_is_named(fake: Snapd) -> None:
    fake.store.versions.clear()
    assert error_of(lambda: orchestrator_snap.install(STABLE)) == (
        "the store has no snap epa-orchestrator: reset snap-channel to use the one in the charm"
    )


@pytest.mark.parametrize("from_file", [True, False])
def test_a_channel_that_the_store_does_not_have_is_named(fake: Snapd, file: FileSource, from_file: bool) -> None:
    if from_file:
        orchestrator_snap.install(file)
    sentence = error_of(lambda: orchestrator_snap.install(StoreSource("2.4/stable")))
    assert "2.4/stable" in sentence
    assert "set another channel or revision, or reset" in sentence
    assert (NAME in fake.snaps) == from_file


@pytest.mark.parametrize("from_file", [True, False])
def test_a_revision_that_the_store_does_not_have_is_named(fake: Snapd, file: FileSource, from_file: bool) -> None:
    if from_file:
        orchestrator_snap.install(file)
    sentence = error_of(lambda: orchestrator_snap.install(StoreSource("latest/stable", 99)))
    assert "revision 99" in sentence
    assert "reset" in sentence
    assert (NAME in fake.snaps) == from_file


def test_a_change_that_fails_is_told(fake: Snapd) -> None:
    text = 'cannot perform the following tasks:\n- Mount snap "epa-orchestrator" (5) (disk full)'
    fake.next("POST install", ChangeFails(text))
    assert error_of(lambda: orchestrator_snap.install(STABLE)) == (
        "the snap cannot be installed from latest/stable in the store: cannot perform the following tasks: - Mount snap"
        ' "epa-orchestrator" (5) (disk full)'
    )


@pytest.mark.parametrize("source", [STABLE, None])
def test_a_lock_is_waited_for(fake: Snapd, file: FileSource, source: StoreSource | None) -> None:
    fake.next("POST install" if source else "snap install", BUSY, ATTEMPTS - 1)
    orchestrator_snap.install(source or file)
    assert state(fake) == (("5", "latest/stable", True) if source else ("x1", "", True))


def test_a_lock_that_stays_is_raised_for_the_event_to_be_tried_again(fake: Snapd) -> None:
    fake.next("POST install", BUSY, ATTEMPTS)
    with pytest.raises(snap.APIError, match="change in progress"):
        orchestrator_snap.install(STABLE)
    assert fake.asked("POST install") == ATTEMPTS


def test_a_lock_that_stays_while_a_file_is_installed_is_raised(fake: Snapd, file: FileSource) -> None:
    fake.next("snap install", BUSY, ATTEMPTS)
    with pytest.raises(snap.APIError, match="change in progress"):
        orchestrator_snap.install(file)
    assert fake.asked("snap install") == ATTEMPTS


def test_a_request_without_an_answer_is_raised(fake: Snapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd_client, "_REQUEST_TIMEOUT", 0.5)
    fake.next("POST install", Silence.HANG, ATTEMPTS)
    with pytest.raises(snap.TimeoutError):
        orchestrator_snap.install(STABLE)
    assert NAME not in fake.snaps


@pytest.mark.usefixtures("fake")
def test_without_snapds_socket_snapd_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd_client, "_SOCKET_PATH", "/nonexistent/snapd.socket")
    assert error_of(lambda: orchestrator_snap.install(STABLE)).startswith("snapd is not on this machine: ")


def test_without_the_command_snap_its_package_is_named(
    fake: Snapd, file: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapd, "_COMMAND", "/nonexistent/snap")
    assert error_of(lambda: orchestrator_snap.install(file)).startswith("snapd is not on this machine: ")
    assert NAME not in fake.snaps


def test_a_base_that_is_missing_offline_is_named(fake: Snapd, file: FileSource) -> None:
    del fake.snaps[BASE]
    fake.store.down = True
    sentence = error_of(lambda: orchestrator_snap.install(file))
    assert sentence.startswith(
        "the base snap core24 is not installed and could not be fetched: 'sudo snap install core24', or offline"
        " 'sudo snap ack' and 'sudo snap install' its files ("
    )
    assert NAME not in fake.snaps


def test_a_base_that_is_missing_is_fetched_online(fake: Snapd, file: FileSource) -> None:
    del fake.snaps[BASE]
    orchestrator_snap.install(file)
    assert {BASE, NAME} <= set(fake.snaps)


@pytest.mark.parametrize("held", [True, False])
def test_after_a_failed_install_the_snap_that_is_there_is_held(ours: Snapd, held: bool) -> None:
    ours.snaps[NAME].held = held
    ours.store.down = True
    error_of(lambda: orchestrator_snap.install(STABLE))
    assert state(ours) == ("x1", "", True)
    assert ours.asked("POST hold") == (0 if held else 1)


def test_a_hold_is_put_on_once_and_on_this_snap_only(ours: Snapd) -> None:
    ours.add_consumer()
    ours.snaps[NAME].held = False
    orchestrator_snap.hold()
    orchestrator_snap.hold()
    assert ours.asked("POST hold") == 1
    assert [name for name, each in ours.snaps.items() if each.held] == [NAME]


def test_nothing_is_held_when_nothing_is_installed(fake: Snapd) -> None:
    orchestrator_snap.hold()
    assert fake.requests == ["GET snap"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (FileSource(Path("/charm/epa-orchestrator.snap")), "the file epa-orchestrator.snap"),
        (STABLE, "latest/stable in the store"),
        (StoreSource("latest/stable", 4), "revision 4 in latest/stable in the store"),
    ],
)
def test_a_status_names_the_source(source: FileSource | StoreSource, text: str) -> None:
    assert str(source) == text


# Options


def test_options_are_set_in_one_step_and_only_where_they_differ(ours: Snapd) -> None:
    orchestrator_snap.configure({"reserved-cpus": "2", "default-allocation-percent": 50})
    orchestrator_snap.configure({"reserved-cpus": "2", "default-allocation-percent": 60})
    orchestrator_snap.configure({"reserved-cpus": "2", "default-allocation-percent": 60})
    assert ours.asked("PUT conf") == 2
    assert orchestrator_snap.options() == {"reserved-cpus": "2", "default-allocation-percent": 60}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("reserved-cpus=2 would take CPU 2 from nova", "reserved-cpus=2 would take CPU 2 from nova"),
        ("a (b) c", "a (b) c"),
        ("line one\nline two", "line one line two"),
        ("the options:\n- one (1)\n- two (2)", "the options: - one (1) - two (2)"),
    ],
)
def test_what_the_configure_hook_said_is_told_alone(ours: Snapd, said: str, sentence: str) -> None:
    ours.configure_hook = lambda options: said if "reserved-cpus" in options else None
    orchestrator_snap.configure({"log-level": "info"})
    assert error_of(lambda: orchestrator_snap.configure({"reserved-cpus": "2", "log-level": "debug"})) == sentence
    assert orchestrator_snap.options() == {"log-level": "info"}


def test_a_change_of_options_that_fails_otherwise_is_told_whole(ours: Snapd) -> None:
    ours.next("PUT conf", ChangeFails("the disk\nis full"))
    assert error_of(lambda: orchestrator_snap.configure({"log-level": "debug"})) == "the disk is full"


@pytest.mark.usefixtures("fake")
def test_options_of_a_snap_that_is_not_installed_are_an_error() -> None:
    with pytest.raises(snap.NotInstalledError):
        orchestrator_snap.options()


# Connections


def test_the_plugs_that_see_the_host_are_connected_once(ours: Snapd) -> None:
    orchestrator_snap.connect_own()
    orchestrator_snap.connect_own()
    assert ours.slot_of((NAME, "topology")) == ":system-files"
    assert ours.asked("POST connect") == 1


def test_a_consumer_is_connected_once(ours: Snapd) -> None:
    ours.add_consumer()
    for _ in range(2):
        orchestrator_snap.connect([PLUG])
    assert ours.slot_of(PLUG) == f"{NAME}:epa-info"
    assert ours.asked("POST connect") == 1


def test_a_consumer_that_is_not_installed_is_left_for_later(ours: Snapd) -> None:
    ours.add_consumer("ovn-dpdk", "cpus")
    orchestrator_snap.connect([PLUG, ("ovn-dpdk", "cpus")])
    assert ours.slot_of(("ovn-dpdk", "cpus")) == f"{NAME}:epa-info"
    ours.add_consumer()
    orchestrator_snap.connect([PLUG, ("ovn-dpdk", "cpus")])
    assert ours.slot_of(PLUG) == f"{NAME}:epa-info"


def test_a_consumer_that_cannot_be_connected_does_not_keep_others_from_it(ours: Snapd) -> None:
    ours.add_consumer("ovn-dpdk", "cpus")
    ours.add_consumer()
    sentence = error_of(lambda: orchestrator_snap.connect([("ovn-dpdk", "typo"), PLUG]))
    assert sentence.startswith("ovn-dpdk:typo cannot be connected (")
    assert ours.slot_of(PLUG) == f"{NAME}:epa-info"


def test_a_consumer_without_that_plug_is_named(ours: Snapd) -> None:
    ours.add_consumer(plug="other")
    assert error_of(lambda: orchestrator_snap.connect([PLUG])) == (
        'openstack-hypervisor:epa-info cannot be connected (snap "openstack-hypervisor" has no plug named "epa-info"):'
        " correct connect-plugs"
    )


def test_a_connection_that_snapd_refuses_is_told(ours: Snapd) -> None:
    ours.add_consumer()
    ours.next("POST connect", ChangeFails("cannot perform the following tasks:\n- Connect (no)"))
    sentence = error_of(lambda: orchestrator_snap.connect([PLUG]))
    assert sentence.startswith(
        f"{CONSUMER}:epa-info cannot be connected (cannot perform the following tasks: - Connect"
    )
    assert ours.slot_of(PLUG) is None


def test_an_own_plug_that_snapd_refuses_is_not_blamed_on_connect_plugs(ours: Snapd) -> None:
    ours.next("POST connect", ChangeFails("cannot perform the following tasks:\n- Connect (no)"))
    sentence = error_of(orchestrator_snap.connect_own)
    assert sentence.startswith(f"{NAME}:topology cannot be connected")
    assert "connect-plugs" not in sentence


def test_a_lock_that_stays_while_connecting_is_raised(ours: Snapd) -> None:
    ours.add_consumer()
    ours.next("POST connect", BUSY, ATTEMPTS)
    with pytest.raises(snap.APIError, match="change in progress"):
        orchestrator_snap.connect([PLUG])
    assert ours.asked("POST connect") == ATTEMPTS


def test_a_link_that_a_refresh_has_left_stale_is_made_anew(connected: Snapd, other_file: FileSource) -> None:
    profile = connected.mounts / f"snap.{CONSUMER}.fstab"
    orchestrator_snap.install(other_file)
    assert "/x1/" in profile.read_text()
    orchestrator_snap.connect([PLUG])
    assert f"/var/snap/{NAME}/x2/data" in profile.read_text()
    assert connected.asked("POST disconnect") == 1
    assert connected.slot_of(PLUG) == f"{NAME}:epa-info"
    orchestrator_snap.connect([PLUG])
    assert connected.asked("POST disconnect") == 1


def test_a_link_that_leads_nowhere_is_made_anew(connected: Snapd) -> None:
    profile = connected.mounts / f"snap.{CONSUMER}.fstab"
    profile.write_text("tmpfs / tmpfs x-snapd.origin=rootfs 0 0\n", encoding="utf-8")
    orchestrator_snap.connect([PLUG])
    assert profile.read_text() == mount_profile(CONSUMER, NAME, "x1", "7")


def test_a_consumer_that_has_never_run_has_no_stale_link(connected: Snapd) -> None:
    (connected.mounts / f"snap.{CONSUMER}.fstab").unlink()
    orchestrator_snap.connect([PLUG])
    assert connected.asked("POST *connect") == 0


# Health


@pytest.mark.usefixtures("ours", "daemon")
def test_a_daemon_that_sees_the_isolated_cpus_is_well() -> None:
    orchestrator_snap.check_health(CpuSet.parse("2-7"))


@pytest.mark.usefixtures("ours", "service")
def test_a_daemon_that_does_not_run_is_told_how_to_start() -> None:
    sentence = error_of(lambda: orchestrator_snap.check_health(EMPTY))
    assert sentence.startswith("the daemon does not answer (No daemon serves ")
    assert sentence.endswith("see 'snap logs epa-orchestrator', then 'sudo snap start --enable epa-orchestrator'")


@pytest.mark.usefixtures("ours")
def test_a_daemon_that_was_killed_does_not_answer(service: Service) -> None:
    service.start().kill()
    assert service.socket.is_socket()
    assert error_of(lambda: orchestrator_snap.check_health(EMPTY)).startswith("the daemon does not answer")


@pytest.mark.usefixtures("ours", "sick_daemon")
def test_a_state_that_cannot_be_read_is_told_with_its_remedy() -> None:
    sentence = error_of(lambda: orchestrator_snap.check_health(EMPTY))
    assert sentence.startswith("the daemon serves reading requests only: The state database ")
    assert "restart this daemon" in sentence


@contextlib.contextmanager
def answering(socket: Path, answer: Callable[[dict[str, Any]], bytes]) -> Generator[None]:
    """A server in the daemon's place."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(answer(json.loads(self.request.recv(65536))))

    socket.parent.mkdir(parents=True, exist_ok=True)
    with socketserver.ThreadingUnixStreamServer(str(socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("answer", [b"", b"hello", b"[]", b'{"version": "1.0"}', b'{"version": "1.0", "error": "no"}'])
def test_an_answer_that_is_none_is_no_health(service: Service, answer: bytes) -> None:
    with answering(service.socket, lambda _: answer):
        assert error_of(lambda: orchestrator_snap.check_health(EMPTY)).startswith("the daemon does not answer (")


@pytest.mark.usefixtures("ours")
def test_a_daemon_that_hangs_is_not_waited_for_for_ever(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator_snap, "_ANSWER_TIMEOUT", 0.3)
    ended = threading.Event()

    def answer(_: dict[str, Any]) -> bytes:
        ended.wait(30)
        return b""

    with answering(service.socket, answer):
        try:
            sentence = error_of(lambda: orchestrator_snap.check_health(EMPTY))
        finally:
            ended.set()
    assert "did not answer within 0.3 seconds" in sentence


def seeing_nothing(daemon: Service) -> Callable[[dict[str, Any]], bytes]:
    """Answers of a daemon that sees no isolated CPUs."""

    def answer(request: dict[str, Any]) -> bytes:
        answer = daemon.client.ask(request)
        answer["cpu_pool"]["configured_cpus"] = ""
        return json.dumps(answer).encode()

    return answer


def test_a_daemon_that_does_not_see_the_isolated_cpus_is_told_which_plug_to_connect(
    ours: Snapd, daemon: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with short_directory() as base, answering(base / "epa.sock", seeing_nothing(daemon)):
        monkeypatch.setattr(orchestrator_snap, "SOCKET", base / "epa.sock")
        orchestrator_snap.check_health(EMPTY)
        assert error_of(lambda: orchestrator_snap.check_health(CpuSet.parse("2-7"))) == (
            "the daemon does not see the isolated CPUs 2-7: 'sudo snap connect epa-orchestrator:topology', then see"
            " 'snap logs epa-orchestrator'"
        )
        ours.snaps[NAME].options["reserved-cpus"] = "2-6"
        assert "isolated CPUs 7:" in error_of(lambda: orchestrator_snap.check_health(CpuSet.parse("2-7")))
        ours.snaps[NAME].options["reserved-cpus"] = "2-7"
        orchestrator_snap.check_health(CpuSet.parse("2-7"))


def test_a_general_pool_that_cannot_be_used_is_told(
    ours: Snapd, daemon: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: dict[str, Any]) -> bytes:
        answer = daemon.client.ask(request)
        if request.get("pool") == "general":
            answer["cpu_pool"]["eligible_cpus"] = ""
        return json.dumps(answer).encode()

    with short_directory() as base, answering(base / "epa.sock", answer):
        monkeypatch.setattr(orchestrator_snap, "SOCKET", base / "epa.sock")
        sentence = error_of(lambda: orchestrator_snap.check_health(EMPTY))
    assert sentence.startswith("no CPU of cpu-pool can be granted (")
    assert sentence.endswith("change cpu-pool")


# Claims


def claim_everything(daemon: Service) -> None:
    """Three services: one holds CPUs and hugepages, the others CPUs of one pool each."""
    daemon.client.allocate("nova", 2)
    daemon.client.set_hugepages("nova", 0, 2048, 16)
    daemon.client.allocate("ovs-dpdk", 2)
    daemon.client.allocate("ceph", 1, "general")


@pytest.mark.usefixtures("ours")
def test_holdings_name_everyone_who_holds_anything(daemon: Service) -> None:
    assert orchestrator_snap.holdings().services == []
    claim_everything(daemon)
    daemon.client.set_hugepages("swift", 0, 2048, 8)
    held = orchestrator_snap.holdings()
    assert held.services == ["ceph", "nova", "ovs-dpdk", "swift"]
    assert [listing.pool for listing in held.listings] == ["isolated", "general"]


@pytest.mark.usefixtures("ours")
def test_release_takes_all_of_one_service_and_nothing_of_another(daemon: Service) -> None:
    claim_everything(daemon)
    assert orchestrator_snap.release("nova") == ["CPUs 2-3 of pool isolated", "16 hugepages of 2048 KiB on node0"]
    assert orchestrator_snap.holdings().services == ["ceph", "ovs-dpdk"]
    assert orchestrator_snap.release("ceph") == ["CPUs 0 of pool general"]
    assert orchestrator_snap.holdings().services == ["ovs-dpdk"]
    assert orchestrator_snap.release("nova") == []


@pytest.mark.usefixtures("ours")
def test_a_release_that_stops_half_way_tells_what_was_released(
    daemon: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_everything(daemon)

    def answer(request: dict[str, Any]) -> bytes:
        refused = {"version": "1.0", "error": "the disk is full"}
        return json.dumps(refused if request["action"] == "allocate_hugepages" else daemon.client.ask(request)).encode()

    with short_directory() as base, answering(base / "epa.sock", answer):
        monkeypatch.setattr(orchestrator_snap, "SOCKET", base / "epa.sock")
        assert error_of(lambda: orchestrator_snap.release("nova")) == (
            "released CPUs 2-3 of pool isolated, then failed: the disk is full"
        )


@pytest.mark.usefixtures("ours", "service")
@pytest.mark.parametrize("ask", [orchestrator_snap.holdings, lambda: orchestrator_snap.release("nova")])
def test_without_a_daemon_nobody_knows_who_holds_what(ask: Callable[[], object]) -> None:
    assert error_of(ask).startswith("the daemon does not answer: No daemon serves ")


# Removing


def test_what_is_not_installed_is_not_removed(fake: Snapd) -> None:
    assert orchestrator_snap.remove() is None
    assert fake.requests == ["GET snap"]


@pytest.mark.usefixtures("daemon")
def test_a_snap_that_nobody_uses_is_removed_with_its_connections(connected: Snapd) -> None:
    orchestrator_snap.connect_own()
    assert orchestrator_snap.remove() is None
    assert NAME not in connected.snaps
    assert sorted(connected.commands_of("disconnect")) == [
        ["disconnect", "--forget", f"{NAME}:topology", ":system-files"],
        ["disconnect", "--forget", f"{CONSUMER}:epa-info", f"{NAME}:epa-info"],
    ]
    assert connected.connections == {}


def is_left_alone(fake: Snapd) -> bool:
    """Whether the snap is there, without a hold and with no connections but snapd's own."""
    own = {((NAME, "network-bind"), ("", "network-bind")): "-"}
    return NAME in fake.snaps and not fake.snaps[NAME].held and fake.connections == own


def test_a_snap_with_claims_stays_and_the_reason_names_who_holds_them(connected: Snapd, daemon: Service) -> None:
    claim_everything(daemon)
    assert orchestrator_snap.remove() == (
        "ceph, nova, ovs-dpdk still hold CPUs or hugepages; when they are done, 'sudo epa-orchestrator release' for"
        " each and 'sudo snap remove epa-orchestrator'"
    )
    assert is_left_alone(connected)
    assert connected.asked("POST remove") == 0


@pytest.mark.usefixtures("service")
def test_a_snap_whose_daemon_does_not_answer_stays(connected: Snapd) -> None:
    reason = orchestrator_snap.remove()
    assert reason is not None
    assert reason.startswith("it is not known who holds what: the daemon does not answer: No daemon serves")
    assert is_left_alone(connected)


@pytest.mark.usefixtures("sick_daemon")
def test_a_snap_whose_state_cannot_be_read_stays(connected: Snapd) -> None:
    reason = orchestrator_snap.remove()
    assert reason is not None
    assert reason.startswith("it is not known who holds what: The state database ")
    assert is_left_alone(connected)


@pytest.mark.usefixtures("daemon")
def test_removing_waits_for_a_lock_then_raises(ours: Snapd) -> None:
    ours.next("POST remove", BUSY, ATTEMPTS)
    with pytest.raises(snap.APIError, match="change in progress"):
        orchestrator_snap.remove()
    assert ours.asked("POST remove") == ATTEMPTS
    assert orchestrator_snap.remove() is None
    assert NAME not in ours.snaps


def test_a_store_that_is_down_is_of_no_matter_once_the_snap_is_there(ours: Snapd) -> None:
    ours.store.down = True
    orchestrator_snap.hold()
    orchestrator_snap.connect_own()
    assert orchestrator_snap.links()[-1].slot == ":system-files"
