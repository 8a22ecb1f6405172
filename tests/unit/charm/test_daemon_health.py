# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The daemon's health, claims and releases, asked of a real daemon and of servers that answer something else."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import daemon_health
from epa_orchestrator.cpuset import EMPTY, CpuSet
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import NAME
from tests.service import Service, short_directory

from .workload import add_claims, error_of

START = "run 'sudo snap start --enable epa-orchestrator': the daemon does not answer"


@pytest.mark.usefixtures("ours", "daemon")
def test_daemon_that_sees_the_isolated_cpus_is_healthy() -> None:
    daemon_health.check(CpuSet.parse("2-7"))


@pytest.mark.usefixtures("ours")
def test_warnings_are_the_daemons(daemon: Service) -> None:
    assert daemon_health.warnings() == tuple(daemon.client.list_allocations().warnings)


@pytest.mark.usefixtures("ours", "service")
def test_stopped_daemon_is_reported_with_the_command_that_starts_it() -> None:
    sentence = error_of(lambda: daemon_health.check(EMPTY))
    assert sentence.startswith(f"{START} (No daemon serves ")
    assert sentence.endswith("); 'snap logs epa-orchestrator' may say why")


@pytest.mark.usefixtures("ours")
def test_killed_daemon_is_reported(service: Service) -> None:
    service.start().kill()
    assert service.socket.is_socket()
    assert error_of(lambda: daemon_health.check(EMPTY)).startswith(START)


@pytest.mark.usefixtures("ours", "damaged_daemon")
def test_unreadable_state_is_reported_with_a_remedy() -> None:
    sentence = error_of(lambda: daemon_health.check(EMPTY))
    assert sentence.startswith("the daemon answers read requests only: The state database ")
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
def test_invalid_answer_is_reported(service: Service, answer: bytes) -> None:
    with answering(service.socket, lambda _: answer):
        assert error_of(lambda: daemon_health.check(EMPTY)).startswith(f"{START} (")


@pytest.mark.usefixtures("ours")
def test_hanging_daemon_is_reported_after_the_time_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_health, "_ANSWER_TIMEOUT", 0.3)
    ended = threading.Event()

    def answer(_: dict[str, Any]) -> bytes:
        ended.wait(30)
        return b""

    with answering(service.socket, answer):
        try:
            sentence = error_of(lambda: daemon_health.check(EMPTY))
        finally:
            ended.set()
    assert "did not answer within 0.3 seconds" in sentence


@pytest.fixture
def blind_daemon(ours: Snapd, daemon: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapd]:
    """The daemon answers as if it saw no isolated CPUs."""

    def answer(request: dict[str, Any]) -> bytes:
        answer = daemon.client.ask(request)
        answer["cpu_pool"]["configured_cpus"] = ""
        return json.dumps(answer).encode()

    with short_directory() as base, answering(base / "epa.sock", answer):
        monkeypatch.setattr(daemon_health, "SOCKET", base / "epa.sock")
        yield ours


@pytest.mark.usefixtures("blind_daemon")
def test_unseen_isolated_cpus_are_reported_with_the_plug_to_connect() -> None:
    assert error_of(lambda: daemon_health.check(CpuSet.parse("2-7"))) == (
        "run 'sudo snap connect epa-orchestrator:sys-devices-system-node': the daemon does not see the isolated CPUs"
        " 2-7; 'snap logs epa-orchestrator' may say why"
    )


@pytest.mark.usefixtures("blind_daemon")
def test_daemon_without_isolated_cpus_is_healthy_on_a_host_without_any() -> None:
    daemon_health.check(EMPTY)


def test_reserved_cpus_do_not_count_as_unseen(blind_daemon: Snapd) -> None:
    blind_daemon.snaps[NAME].options["reserved-cpus"] = "2-6"
    assert "isolated CPUs 7;" in error_of(lambda: daemon_health.check(CpuSet.parse("2-7")))
    blind_daemon.snaps[NAME].options["reserved-cpus"] = "2-7"
    daemon_health.check(CpuSet.parse("2-7"))


def test_reserved_cpus_of_an_earlier_snap_that_are_no_list_are_reported(blind_daemon: Snapd) -> None:
    blind_daemon.snaps[NAME].options["reserved-cpus"] = "most"
    assert error_of(lambda: daemon_health.check(CpuSet.parse("2-7"))) == (
        "set reserved-cpus to a list of CPUs such as 2-5,8: no CPU is granted until then ('most' is not a CPU or a"
        " range of CPUs such as 4-7)"
    )


def test_general_pool_without_usable_cpus_is_reported(
    ours: Snapd, daemon: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: dict[str, Any]) -> bytes:
        answer = daemon.client.ask(request)
        if request.get("pool") == "general":
            answer["cpu_pool"]["eligible_cpus"] = ""
        return json.dumps(answer).encode()

    with short_directory() as base, answering(base / "epa.sock", answer):
        monkeypatch.setattr(daemon_health, "SOCKET", base / "epa.sock")
        sentence = error_of(lambda: daemon_health.check(EMPTY))
    assert sentence == (
        "set cpu-pool to online CPUs that are not isolated (isolated: none): none of its CPUs can be granted"
    )


@pytest.mark.usefixtures("ours")
def test_holdings_name_all_services_with_cpus_or_hugepages(daemon: Service) -> None:
    assert daemon_health.holdings().services == []
    add_claims(daemon)
    daemon.client.set_hugepages("swift", 0, 2048, 8)
    held = daemon_health.holdings()
    assert held.services == ["ceph", "nova", "ovs-dpdk", "swift"]
    assert [listing.pool for listing in held.listings] == ["isolated", "general"]


@pytest.mark.usefixtures("ours")
def test_release_takes_all_of_one_service_only(daemon: Service) -> None:
    add_claims(daemon)
    assert daemon_health.release("nova") == ["CPUs 2-3 of pool isolated", "16 hugepages of 2M on node0"]
    assert daemon_health.holdings().services == ["ceph", "ovs-dpdk"]
    assert daemon_health.release("ceph") == ["CPU 0 of pool general"]
    assert daemon_health.holdings().services == ["ovs-dpdk"]
    assert daemon_health.release("nova") == []


@pytest.mark.usefixtures("ours")
def test_failed_release_reports_what_was_released_before(daemon: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    add_claims(daemon)

    def answer(request: dict[str, Any]) -> bytes:
        refused = {"version": "1.0", "error": "the disk is full"}
        return json.dumps(refused if request["action"] == "allocate_hugepages" else daemon.client.ask(request)).encode()

    with short_directory() as base, answering(base / "epa.sock", answer):
        monkeypatch.setattr(daemon_health, "SOCKET", base / "epa.sock")
        assert error_of(lambda: daemon_health.release("nova")) == (
            "released CPUs 2-3 of pool isolated, then failed: the disk is full"
        )


@pytest.mark.usefixtures("ours", "service")
@pytest.mark.parametrize("ask", [daemon_health.holdings, lambda: daemon_health.release("nova")])
def test_claims_cannot_be_read_without_a_daemon(ask: Callable[[], object]) -> None:
    assert error_of(ask).startswith("the daemon does not answer: No daemon serves ")
