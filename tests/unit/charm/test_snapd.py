# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Calls of snapd and its command: results, retries and errors, against a stand-in for snapd."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from charmlibs import snap
from charmlibs.snap import _client as snapd_client

import snapd
from errors import CharmError
from snapd import Connection
from tests.fake_snapd.server import replace_snapd
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import CONSUMER, NAME, Snap, write_snap
from tests.fake_snapd.troubles import BUSY, ChangeFails, Refusal, Silence

ATTEMPTS = 4

UNSEEDED = Refusal("too early for operation, device not yet seeded or device model not acknowledged")
REBOOTING = Refusal("snapd is about to reboot the system", "system-restart", 503)
RESTARTING = Refusal("snapd daemon is restarting", "daemon-restart", 503)
EXCLUSIVE = Refusal(
    'other changes in progress (conflicting change "remodel"), change "hold" not allowed until they are done'
)
RUNNING = Refusal('snap "hello" has running apps (watch), pids: 4711')


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapd]:
    with replace_snapd(monkeypatch) as fake:
        yield fake


@pytest.fixture
def ours(fake: Snapd, tmp_path: Path) -> Snap:
    """Our snap, installed from a file."""
    snapd.run("install", "--dangerous", str(write_snap(tmp_path / "a.snap", "2.0")))
    fake.requests.clear()
    fake.commands.clear()
    return fake.snaps[NAME]


def test_installed_snap_is_described(fake: Snapd) -> None:
    fake.add(Snap("hello", "29", "2.10", "latest/stable", held=True))
    info = snapd.installed("hello")
    assert info is not None
    assert (info.revision, info.version, info.tracking) == ("29", "2.10", "latest/stable")
    assert info.hold is not None


@pytest.mark.usefixtures("fake")
def test_missing_snap_is_none() -> None:
    assert snapd.installed("hello") is None


@pytest.mark.usefixtures("ours")
def test_connections_list_unconnected_plugs_but_no_unconnected_slots() -> None:
    assert snapd.connections(NAME) == [
        Connection("network-bind", (NAME, "network-bind"), ":network-bind"),
        Connection("system-files", (NAME, "isolation"), None),
        Connection("system-files", (NAME, "sys-devices-system-node"), None),
        Connection("system-files", (NAME, "topology"), None),
        Connection("system-observe", (NAME, "system-observe"), None),
    ]


@pytest.mark.usefixtures("ours")
def test_connections_list_a_content_interface_without_its_attribute(fake: Snapd) -> None:
    fake.add_consumer()
    snap.connect((CONSUMER, "epa-info"), (NAME, "epa-info"))
    snap.connect((NAME, "topology"))
    assert snapd.connections(NAME) == [
        Connection("content", (CONSUMER, "epa-info"), f"{NAME}:epa-info"),
        Connection("network-bind", (NAME, "network-bind"), ":network-bind"),
        Connection("system-files", (NAME, "isolation"), None),
        Connection("system-files", (NAME, "sys-devices-system-node"), None),
        Connection("system-files", (NAME, "topology"), ":system-files"),
        Connection("system-observe", (NAME, "system-observe"), None),
    ]


@pytest.mark.usefixtures("ours")
def test_stand_in_prints_connections_as_snapd_does(fake: Snapd) -> None:
    fake.add_consumer()
    assert snapd.run("connections", NAME).splitlines() == [
        "Interface       Plug                                      Slot                       Notes",
        "content         -                                         epa-orchestrator:epa-info  -",
        "network-bind    epa-orchestrator:network-bind             :network-bind              -",
        "system-files    epa-orchestrator:isolation                -                          -",
        "system-files    epa-orchestrator:sys-devices-system-node  -                          -",
        "system-files    epa-orchestrator:topology                 -                          -",
        "system-observe  epa-orchestrator:system-observe           -                          -",
    ]
    snap.connect((CONSUMER, "epa-info"), (NAME, "epa-info"))
    snap.connect((NAME, "topology"))
    assert snapd.run("connections", NAME).splitlines() == [
        "Interface          Plug                                      Slot                       Notes",
        "content[epa-info]  openstack-hypervisor:epa-info             epa-orchestrator:epa-info  manual",
        "network-bind       epa-orchestrator:network-bind             :network-bind              -",
        "system-files       epa-orchestrator:isolation                -                          -",
        "system-files       epa-orchestrator:sys-devices-system-node  -                          -",
        "system-files       epa-orchestrator:topology                 :system-files              manual",
        "system-observe     epa-orchestrator:system-observe           -                          -",
    ]


@pytest.mark.usefixtures("fake")
def test_failed_command_raises_its_message_without_the_word_error() -> None:
    with pytest.raises(snap.ChangeError) as caught:
        snapd.run("connections", "hello")
    assert caught.value.message == 'snap "hello" not found'
    assert str(caught.value) == 'snap "hello" not found (connections hello)'


def test_missing_command_is_reported_with_its_package(fake: Snapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapd, "_COMMAND", "/nonexistent/snap")
    with pytest.raises(CharmError, match=r"^snapd is not installed: run 'sudo apt install snapd'$"):
        snapd.run("connections", NAME)
    assert fake.requests == []


def attempts(caplog: pytest.LogCaptureFixture) -> int:
    """The number of tries, according to the log."""
    return 1 + sum(line.startswith("trying again in 0.01 seconds: ") for line in caplog.messages)


@pytest.mark.usefixtures("ours")
def test_hanging_command_is_not_run_again(
    fake: Snapd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Snapd may still be working on it."""
    monkeypatch.setattr(snapd, "_COMMAND_TIMEOUT", 1.0)
    fake.fail_next("snap connections", Silence.HANG)
    with pytest.raises(snap.ChangeError, match=r"^snap connections took more than 1 seconds: see 'snap changes'"):
        snapd.connections(NAME)
    assert attempts(caplog) == 1


@pytest.mark.usefixtures("fake")
def test_hanging_program_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "snap"
    program.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(snapd, "_COMMAND", str(program))
    monkeypatch.setattr(snapd, "_COMMAND_TIMEOUT", 0.2)
    with pytest.raises(snap.ChangeError, match=r"^snap connections took more than 0\.2 seconds: "):
        snapd.run("connections", NAME)


@pytest.mark.parametrize("trouble", [BUSY, EXCLUSIVE, RUNNING, UNSEEDED, REBOOTING, RESTARTING, Silence.DROP])
@pytest.mark.parametrize("times", [1, ATTEMPTS - 1])
def test_temporary_failure_is_retried(
    fake: Snapd, trouble: Refusal | Silence, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    fake.add(Snap("hello", "29", "2.10"))
    fake.fail_next("POST hold", trouble, times)
    snapd.with_retries(lambda: snap.hold("hello"))
    assert fake.snaps["hello"].held
    assert fake.request_count("POST hold") == times + 1
    assert attempts(caplog) == times + 1


def test_busy_snapd_is_raised_after_the_last_try(fake: Snapd) -> None:
    fake.add(Snap("hello", "29", "2.10"))
    fake.fail_next("POST hold", BUSY, ATTEMPTS)
    with pytest.raises(snap.APIError, match="change in progress"):
        snapd.with_retries(lambda: snap.hold("hello"))
    assert fake.request_count("POST hold") == ATTEMPTS
    assert not fake.snaps["hello"].held


@pytest.mark.usefixtures("ours")
def test_busy_snapd_is_retried_by_the_command(fake: Snapd) -> None:
    fake.fail_next("snap connections", BUSY, ATTEMPTS - 1)
    assert len(snapd.connections(NAME)) == 5
    assert fake.request_count("snap connections") == ATTEMPTS


def test_slow_answer_is_retried_then_raised(
    fake: Snapd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(snapd_client, "_REQUEST_TIMEOUT", 0.2)
    fake.fail_next("GET snap", Silence.HANG, ATTEMPTS)
    with pytest.raises(snap.TimeoutError):
        snapd.installed(NAME)
    assert attempts(caplog) == ATTEMPTS


def test_lost_connection_is_retried_then_raised(fake: Snapd) -> None:
    fake.fail_next("POST hold", Silence.DROP, ATTEMPTS)
    with pytest.raises(snap.ConnectionError, match="lost"):
        snapd.with_retries(lambda: snap.hold(NAME))
    assert fake.request_count("POST hold") == ATTEMPTS


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (Refusal("snap not found", "snap-not-found", 404), snap.APIError),
        (Refusal("access denied", "login-required", 401), snap.APIError),
        (ChangeFails("cannot perform the following tasks:\n- Hold (no)"), snap.ChangeError),
    ],
)
def test_lasting_failure_is_raised_at_once(fake: Snapd, trouble: Refusal | ChangeFails, kind: type[snap.Error]) -> None:
    fake.add(Snap("hello", "29", "2.10"))
    fake.fail_next("POST hold", trouble)
    with pytest.raises(kind):
        snapd.with_retries(lambda: snap.hold("hello"))
    assert fake.request_count("POST hold") == 1


def test_missing_snapd_is_not_retried(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(snapd_client, "_SOCKET_PATH", "/nonexistent/snapd.socket")
    with pytest.raises(CharmError, match=r"^snapd is not installed: "):
        snapd.installed(NAME)
    assert not any("trying again" in line for line in caplog.messages)


@pytest.mark.usefixtures("ours")
def test_jujus_proxies_reach_the_command_in_lower_and_upper_case(
    fake: Snapd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUJU_CHARM_HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("JUJU_CHARM_HTTPS_PROXY", "http://proxy.test:3129")
    monkeypatch.setenv("JUJU_CHARM_NO_PROXY", "localhost,10.0.0.0/8")
    monkeypatch.setenv("http_proxy", "http://other.test")
    monkeypatch.setenv("PATH", str(tmp_path))  # charmhelpers warns with juju-log about the range of addresses
    snapd.run("connections", NAME)
    assert "WARNING: Passing NO_PROXY string that includes a cidr." in capfd.readouterr().err
    environment = fake.commands[-1].environment
    for name, value in (
        ("http_proxy", "http://proxy.test:3128"),
        ("https_proxy", "http://proxy.test:3129"),
        ("no_proxy", "localhost,10.0.0.0/8"),
    ):
        assert (environment[name], environment[name.upper()]) == (value, value)


@pytest.mark.usefixtures("ours")
def test_command_has_our_environment_without_jujus_proxies(fake: Snapd, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv(f"JUJU_CHARM_{name.upper()}", "")
    monkeypatch.setenv("MARK", "ours")
    snapd.run("connections", NAME)
    environment = fake.commands[-1].environment
    assert environment["MARK"] == "ours"
    assert not {name.lower() for name in environment} & {"http_proxy", "https_proxy", "no_proxy"}


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"[" * 100_000,
        b'{"type": "error", "result": "no"}',
        b"[]",
        b"{}",
        b"",
        b'{"type": "sync", "result": 5}',
    ],
)
def test_malformed_answer_is_an_error_of_the_library(
    body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The charm turns such errors into the failure of an action, and Juju retries a failed event."""
    monkeypatch.setattr(snapd_client, "_SOCKET_PATH", str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(snap.BadResponseError):
            snapd.installed(NAME)
        thread.join()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("#!/bin/sh\necho Interface; echo; echo rubbish", snap.BadResponseError),
        ("#!/bin/sh\nprintf 'x\\n\\377'", snap.BadResponseError),
        ("#!/nonexistent/sh", CharmError),
        ("no program", snap.ChangeError),
    ],
)
def test_broken_command_snap_is_reported(
    body: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "snap"
    command.write_text(body)
    command.chmod(0o755 if body.startswith("#!") else 0o644)
    monkeypatch.setattr(snapd, "_COMMAND", str(command))
    with pytest.raises(error):
        snapd.connections(NAME)
