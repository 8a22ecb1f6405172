"""The daemon's health, claims and releases, asked of a real daemon and of servers that answer something else."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import daemon_health
from epa_orchestrator.cpuset import EMPTY, CpuSet
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import NAME
from tests.service import Service, short_directory

from .workload import add_claims, error_of


@pytest.mark.usefixtures("ours", "daemon")
def test_a_daemon_that_sees_the_isolated_cpus_is_well() -> None:
    daemon_health.check(CpuSet.parse("2-7"))


@pytest.mark.usefixtures("ours", "service")
def test_a_daemon_that_does_not_run_is_told_how_to_start() -> None:
    sentence = error_of(lambda: daemon_health.check(EMPTY))
    assert sentence.startswith("the daemon does not answer (No daemon serves ")
    assert sentence.endswith("see 'snap logs epa-orchestrator', then run 'sudo snap start --enable epa-orchestrator'")


@pytest.mark.usefixtures("ours")
def test_a_daemon_that_was_killed_does_not_answer(service: Service) -> None:
    service.start().kill()
    assert service.socket.is_socket()
    assert error_of(lambda: daemon_health.check(EMPTY)).startswith("the daemon does not answer")


@pytest.mark.usefixtures("ours", "damaged_daemon")
def test_a_state_that_cannot_be_read_is_told_with_its_remedy() -> None:
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
def test_an_answer_that_is_none_is_no_health(service: Service, answer: bytes) -> None:
    with answering(service.socket, lambda _: answer):
        assert error_of(lambda: daemon_health.check(EMPTY)).startswith("the daemon does not answer (")


@pytest.mark.usefixtures("ours")
def test_a_daemon_that_hangs_is_not_waited_for_for_ever(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
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
        monkeypatch.setattr(daemon_health, "SOCKET", base / "epa.sock")
        daemon_health.check(EMPTY)
        assert error_of(lambda: daemon_health.check(CpuSet.parse("2-7"))) == (
            "the daemon does not see the isolated CPUs 2-7: run 'sudo snap connect epa-orchestrator:topology', then"
            " see 'snap logs epa-orchestrator'"
        )
        ours.snaps[NAME].options["reserved-cpus"] = "2-6"
        assert "isolated CPUs 7:" in error_of(lambda: daemon_health.check(CpuSet.parse("2-7")))
        ours.snaps[NAME].options["reserved-cpus"] = "2-7"
        daemon_health.check(CpuSet.parse("2-7"))


def test_a_general_pool_that_cannot_be_used_is_told(
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
        "no CPU of cpu-pool can be granted: set cpu-pool to online CPUs that are not isolated (isolated: none)"
    )


@pytest.mark.usefixtures("ours")
def test_holdings_name_everyone_who_holds_anything(daemon: Service) -> None:
    assert daemon_health.holdings().services == []
    add_claims(daemon)
    daemon.client.set_hugepages("swift", 0, 2048, 8)
    held = daemon_health.holdings()
    assert held.services == ["ceph", "nova", "ovs-dpdk", "swift"]
    assert [listing.pool for listing in held.listings] == ["isolated", "general"]


@pytest.mark.usefixtures("ours")
def test_release_takes_all_of_one_service_and_nothing_of_another(daemon: Service) -> None:
    add_claims(daemon)
    assert daemon_health.release("nova") == ["CPUs 2-3 of pool isolated", "16 hugepages of 2048 KiB on node0"]
    assert daemon_health.holdings().services == ["ceph", "ovs-dpdk"]
    assert daemon_health.release("ceph") == ["CPUs 0 of pool general"]
    assert daemon_health.holdings().services == ["ovs-dpdk"]
    assert daemon_health.release("nova") == []


@pytest.mark.usefixtures("ours")
def test_a_release_that_stops_half_way_tells_what_was_released(
    daemon: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_without_a_daemon_nobody_knows_who_holds_what(ask: Callable[[], object]) -> None:
    assert error_of(ask).startswith("the daemon does not answer: No daemon serves ")
