"""The client sends what the protocol says, understands every answer, and puts every failure into clear words."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.client.client import Client, DaemonError, RefusedByDaemon, Unreachable
from tests.functional.harness import Daemon, in_threads

Handler = Callable[[socket.socket], None]


class Peer:
    """Somebody who serves a real socket in his own way, and keeps what he received."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.received: list[bytes] = []
        self.handler: Handler = lambda connection: None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def answer(self, answer: bytes | dict[str, Any]) -> None:
        """Answer like this from now on."""
        encoded = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.handler = lambda connection: connection.sendall(encoded)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                self.received.append(connection.recv(65_536))
                try:
                    self.handler(connection)
                except OSError:  # the client has gone, which is what some tests are about
                    continue


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for a socket's address, unlike pytest's tmp_path."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def peer(directory: Path) -> Iterator[Peer]:
    made = Peer(directory / "epa.sock")
    yield made
    made.stop()


@pytest.fixture
def client(peer: Peer) -> Client:
    return Client(peer.path, timeout=20)


TAIL = {"total_available_cpus": 6, "remaining_available_cpus": 4, "pool": "isolated", "preemption_policy": "legacy"}
CORES = {
    "version": "1.0",
    "service_name": "a",
    "num_of_cores": 2,
    "cores_allocated": 2,
    "allocated_cores": "2-3",
    "shared_cpus": "4-7",
    **TAIL,
}
RELEASED = {"num_of_cores": 0, "cores_allocated": 0, "allocated_cores": ""}
PERCENT = {"version": "1.0", "service_name": "a", "cores_allocated_count": 2, "allocated_cores": "2-3", **TAIL}
NUMA = {"version": "1.0", "service_name": "a", "numa_node": 1, "num_of_cores": 2, "cores_allocated": "2-3", **TAIL}
PAGES = {
    "version": "1.0",
    "service_name": "a",
    "hugepages_requested": 4,
    "allocation_successful": True,
    "message": "Successfully set allocation request to 4 hugepages",
    "node_id": 1,
    "size_kb": 2048,
}
MEMORY = {
    "version": "1.0",
    "service_name": "",
    "numa_hugepages": {
        "node0": {"capacity": [{"total": 8, "free": 4, "size": 2048}], "allocations": {"a": {"2048": 4}}}
    },
}
LISTING: dict[str, Any] = {
    "version": "1.0",
    "supported_cpu_features": ["non-preemptive-allocations", "cpu-pools"],
    "pool": "isolated",
    "total_allocations": 1,
    "total_allocated_cpus": 2,
    "total_available_cpus": 6,
    "remaining_available_cpus": 4,
    "cpu_pool": {
        "source": "isolated",
        "configured_cpus": "2-7",
        "eligible_cpus": "2-7",
        "unavailable_allocated_cpus": "",
    },
    "outdated_placements": [],
    "allocations": [
        {
            "service_name": "a",
            "pool": "isolated",
            "allocated_cores": "2-3",
            "cores_count": 2,
            "is_explicit": False,
            "preemption_policy": "legacy",
        }
    ],
}

CALLS: list[tuple[Callable[[Client], Any], dict[str, Any], dict[str, Any]]] = [
    (lambda c: c.list_allocations(), {"action": "list_allocations", "pool": "isolated"}, LISTING),
    (
        lambda c: c.list_allocations("general"),
        {"action": "list_allocations", "pool": "general"},
        LISTING | {"pool": "general", "allocations": []},
    ),
    (lambda c: c.memory_info(), {"action": "get_memory_info"}, MEMORY),
    (
        lambda c: c.allocate("a", 2),
        {
            "action": "allocate_cores",
            "service_name": "a",
            "num_of_cores": 2,
            "pool": "isolated",
        },
        CORES,
    ),
    (
        lambda c: c.allocate("a", -1, "general", preemption_policy="non-preemptive"),
        {
            "action": "allocate_cores",
            "service_name": "a",
            "num_of_cores": -1,
            "pool": "general",
            "preemption_policy": "non-preemptive",
        },
        CORES | RELEASED | {"pool": "general"},
    ),
    (
        lambda c: c.allocate_percent("a", 30, preemption_policy="legacy"),
        {
            "action": "allocate_cores_percent",
            "service_name": "a",
            "percent": 30,
            "pool": "isolated",
            "preemption_policy": "legacy",
        },
        PERCENT,
    ),
    (
        lambda c: c.allocate_in_node("a", 1, 2),
        {
            "action": "allocate_numa_cores",
            "service_name": "a",
            "numa_node": 1,
            "num_of_cores": 2,
            "pool": "isolated",
        },
        NUMA,
    ),
    (
        lambda c: c.set_hugepages("a", 1, 2048, 4),
        {
            "action": "allocate_hugepages",
            "service_name": "a",
            "node_id": 1,
            "size_kb": 2048,
            "hugepages_requested": 4,
        },
        PAGES,
    ),
]


@pytest.mark.parametrize(("call", "request_fields", "answer"), CALLS)
def test_each_call_sends_its_request_and_reads_its_answer(
    call: Callable[[Client], Any],
    request_fields: dict[str, Any],
    answer: dict[str, Any],
    client: Client,
    peer: Peer,
) -> None:
    peer.answer(answer)
    told = json.loads(call(client).model_dump_json(exclude_none=True))
    assert told == answer
    assert len(peer.received) == 1
    assert json.loads(peer.received[0]) == {"version": "1.0", **request_fields}
    assert b"\n" not in peer.received[0]


@pytest.mark.parametrize(("call", "request_fields", "answer"), CALLS)
def test_each_call_raises_what_the_daemon_refuses(
    call: Callable[[Client], Any],
    request_fields: dict[str, Any],
    answer: dict[str, Any],
    client: Client,
    peer: Peer,
) -> None:
    peer.answer({"version": "1.0", "error": f"No {request_fields['action']} today"})
    with pytest.raises(RefusedByDaemon) as caught:
        call(client)
    assert str(caught.value) == f"No {request_fields['action']} today"


def test_a_listing_of_an_older_daemon_is_read(client: Client, peer: Peer) -> None:
    peer.answer({name: value for name, value in LISTING.items() if name != "outdated_placements"})
    listing = client.list_allocations()
    assert (listing.outdated_placements, listing.allocations[0].withheld_cpus) == ((), None)


PLACEMENT = {
    "numa_nodes": "0",
    "packages": 1,
    "l3_domains": 1,
    "whole_cores": 0,
    "shared_cores": 1,
    "withheld_cpus": "",
}
EXPLANATION: dict[str, Any] = {
    "policy": {"numa-policy": "best-effort", "prefer-closest-numa-nodes": True, "near": 1},
    "room": {"0": 4, "1": 8},
    "scopes": [{"numa_nodes": "0", "cpus": "2-3", "cost": {"numa_nodes": 1, "lowest_cpu": 2}}],
    "decided_by": "NUMA node 0 alone has such CPUs.",
}


def test_what_was_asked_for_beside_is_sent_and_its_answer_read(client: Client, peer: Peer) -> None:
    more: dict[str, Any] = {"dry_run": True, "explain": True, "numa_policy": "none", "near": 1}
    calls: list[tuple[Callable[[], Any], dict[str, Any]]] = [
        (lambda: client.allocate("a", 2, **more), CORES),
        (lambda: client.allocate_percent("a", 30, **more), PERCENT),
        (lambda: client.allocate_in_node("a", 1, 2, **more), NUMA),
    ]
    for call, answer in calls:
        whole = {**answer, "placement": PLACEMENT, "dry_run": True, "explanation": EXPLANATION}
        peer.answer(whole)
        told = call()
        assert json.loads(told.model_dump_json(exclude_none=True)) == whole
        assert more.items() <= json.loads(peer.received[-1]).items()


def test_a_refusal_brings_the_reasons_that_were_asked_for(client: Client, peer: Peer) -> None:
    peer.answer({"version": "1.0", "error": "No", "explanation": {**EXPLANATION, "rule": "numa-policy"}})
    with pytest.raises(RefusedByDaemon, match=r"^No$") as caught:
        client.allocate("a", 2, explain=True)
    assert caught.value.explanation is not None
    assert caught.value.explanation.model_dump() == {**EXPLANATION, "rule": "numa-policy"}
    peer.answer({"version": "1.0", "error": "No", "explanation": {"rule": 5}})
    with pytest.raises(DaemonError, match=r"does not understand: explanation\.policy: field required"):
        client.allocate("a", 2, explain=True)


def test_fields_of_a_newer_daemon_are_ignored(client: Client, peer: Peer) -> None:
    peer.answer(CORES | {"since": "1.1"})
    assert client.allocate("a", 2).allocated_cores == "2-3"


def test_a_policy_that_is_null_after_a_release_is_read(client: Client, peer: Peer) -> None:
    peer.answer(CORES | RELEASED | {"preemption_policy": None})
    assert client.allocate("a", -1).preemption_policy is None


def test_an_unreadable_state_is_reported(client: Client, peer: Peer) -> None:
    peer.answer(LISTING | {"state_error": "The database is gone"})
    assert client.list_allocations().state_error == "The database is gone"


def test_ask_passes_on_what_it_gets(client: Client, peer: Peer) -> None:
    peer.answer({"version": "1.0", "error": "No"})
    assert client.ask({"action": "x", "service_name": "\u00e4\N{GRINNING FACE}"}) == {"version": "1.0", "error": "No"}
    assert json.loads(peer.received[0]) == {"action": "x", "service_name": "\u00e4\N{GRINNING FACE}"}


@pytest.mark.parametrize("timeout", [1e10, 1e300, float("inf")])
def test_a_timeout_of_any_length_will_do(timeout: float, peer: Peer) -> None:
    peer.answer({"version": "1.0"})
    assert Client(peer.path, timeout).ask({"x": 1}) == {"version": "1.0"}


def test_an_answer_in_pieces_is_read_to_its_end(client: Client, peer: Peer) -> None:
    answer = json.dumps(LISTING).encode()

    def in_pieces(connection: socket.socket) -> None:
        for start in range(0, len(answer), 7):
            connection.sendall(answer[start : start + 7])

    peer.handler = in_pieces
    assert client.list_allocations().allocations[0].allocated_cores == "2-3"


def test_a_long_answer_is_read_to_its_end(client: Client, peer: Peer) -> None:
    allocations = [LISTING["allocations"][0] | {"service_name": f"{number:0255}"} for number in range(5000)]
    peer.answer(LISTING | {"allocations": allocations})
    assert len(client.list_allocations().allocations) == 5000


# --- failures ---


def unreachable(client: Client) -> str:
    """The sentence, which names the socket and keeps to one line; no descriptor is left open."""
    with pytest.raises(Unreachable) as caught:
        client.list_allocations()
    return sentence_of(caught.value, client)


def odd(client: Client) -> str:
    """The sentence about an invalid answer; it names the socket and is one line."""
    with pytest.raises(DaemonError) as caught:
        client.list_allocations()
    assert not isinstance(caught.value, Unreachable | RefusedByDaemon)
    return sentence_of(caught.value, client)


def sentence_of(error: DaemonError, client: Client) -> str:
    assert str(client.path)[:60] in str(error)
    assert str(error).isprintable()
    return str(error)


def test_no_daemon(directory: Path) -> None:
    open_files = len(os.listdir("/proc/self/fd"))
    (directory / "file").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / "stale"))
    for name in ("missing", "missing/below", "stale", "file"):
        sentence = unreachable(Client(directory / name))
        assert sentence.startswith(f"No daemon serves {directory / name}: start it with ")
        assert "snap start epa-orchestrator" in sentence
        assert "epa-orchestrator serve" in sentence
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_path_that_is_too_long(directory: Path) -> None:
    assert "cannot be reached: AF_UNIX path too long" in unreachable(Client(directory / ("x" * 200)))


def test_a_path_through_a_file(directory: Path) -> None:
    (directory / "file").touch()
    assert "cannot be reached: Not a directory" in unreachable(Client(directory / "file" / "below"))


def test_a_path_that_is_not_permitted(peer: Peer) -> None:
    own = os.geteuid()
    peer.path.parent.chmod(0o700 if own == 0 else 0)
    os.seteuid(65534 if own == 0 else own)
    try:
        assert "cannot be reached: Permission denied" in unreachable(Client(peer.path))
    finally:
        os.seteuid(own)
        peer.path.parent.chmod(0o700)


def test_a_daemon_that_says_nothing(peer: Peer) -> None:
    done = threading.Event()
    peer.handler = lambda connection: done.wait(20)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        assert unreachable(Client(peer.path, timeout=0.25)).endswith("did not answer within 0.25 seconds")
    finally:
        done.set()


def test_a_daemon_that_stalls_in_the_middle_of_its_answer(peer: Peer) -> None:
    done = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.sendall(b'{"version": "1.0", ')
        done.wait(20)

    peer.handler = stall
    try:
        assert unreachable(Client(peer.path, timeout=0.25)).endswith("did not answer within 0.25 seconds")
    finally:
        done.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello",
        b'{"version": "1.0"',
        b"[]",
        b'[["error", "x"]]',
        b'["error"]',
        b"null",
        b'"error"',
        b"5",
        b"\xff\xfe\xfd\xfc",
        b'{"error": "\xff"}',
        b"[" * 100_000,
        b"9" * 5000,
    ],
)
def test_what_is_no_json_object_is_no_answer(answer: bytes, client: Client, peer: Peer) -> None:
    peer.answer(answer)
    assert odd(client).endswith("did not answer with a JSON object")


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": "other"},
        {"allocations": None},
        {"allocations": [{"service_name": "a"}]},
        {"total_allocations": "many"},
        {"cpu_pool": {}},
        {"cpu_pool": "2-7"},
    ],
)
def test_an_answer_that_is_not_understood(changes: dict[str, Any], client: Client, peer: Peer) -> None:
    peer.answer(LISTING | changes)
    assert "does not understand" in odd(client)


def test_an_answer_without_its_fields(client: Client, peer: Peer) -> None:
    peer.answer({})
    assert "does not understand" in odd(client)


def test_an_endless_answer_is_given_up(client: Client, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epa_orchestrator.client.client._MAX_ANSWER_BYTES", 1 << 20)

    def endless(connection: socket.socket) -> None:
        while True:
            connection.sendall(b" " * 65_536)

    peer.handler = endless
    assert odd(client).endswith("sends more than 1048576 bytes")


# --- one deadline for a whole exchange ---


def test_a_daemon_that_trickles_its_answer_is_given_up(peer: Peer) -> None:
    """A byte every 50 ms for up to 15 s: each read is in time, the whole is not."""
    sent = [0]

    def trickle(connection: socket.socket) -> None:
        for byte in json.dumps(LISTING).encode()[:300]:
            connection.sendall(bytes([byte]))
            sent[0] += 1
            time.sleep(0.05)

    peer.handler = trickle
    assert unreachable(Client(peer.path, timeout=0.5)).endswith("did not answer within 0.5 seconds")
    assert 2 < sent[0] < 100


def test_a_daemon_that_answers_and_does_not_close_is_given_up(peer: Peer) -> None:
    done = threading.Event()

    def keep_open(connection: socket.socket) -> None:
        connection.sendall(json.dumps(LISTING).encode())
        done.wait(20)

    peer.handler = keep_open
    try:
        assert unreachable(Client(peer.path, timeout=0.25)).endswith("did not answer within 0.25 seconds")
    finally:
        done.set()


def test_a_full_queue_is_tried_again_until_there_is_room(directory: Path) -> None:
    """On Linux connect(2) fails with EAGAIN while the queue is full; here there is room a moment later."""
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(directory / "epa.sock"))
        listener.listen(1)
        listener.settimeout(10)
        for _ in range(2):
            early = waiting.enter_context(socket.socket(socket.AF_UNIX))
            early.connect(str(directory / "epa.sock"))
        with socket.socket(socket.AF_UNIX) as late:
            late.setblocking(False)
            assert late.connect_ex(str(directory / "epa.sock")) == errno.EAGAIN

        def serve() -> None:
            time.sleep(0.2)
            for _ in range(2):
                listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(json.dumps(LISTING).encode())

        with in_threads(serve):
            listing = Client(directory / "epa.sock", timeout=20).list_allocations()
    assert listing.total_allocations == 1


def test_who_has_waited_longer_for_a_place_in_a_full_queue_gets_it_first(directory: Path) -> None:
    """Else who tries all the time gets each place, and who only tries now and then gets none."""
    path = directory / "epa.sock"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        listener.settimeout(10)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        names = [f"waiting {number}" for number in range(8)]
        came: list[str] = []
        for name in names:
            stack.enter_context(in_threads(lambda name=name: Client(path, timeout=20).ask({"name": name})))
            time.sleep(0.3)
        listener.accept()[0].close()
        for _ in names:
            connection, _ = listener.accept()
            with connection:
                came.append(json.loads(connection.recv(65_536))["name"])
                connection.sendall(b"{}")
            time.sleep(0.01)
    assert came == names


def test_a_queue_that_stays_full_is_given_up(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(directory / "epa.sock"))
        listener.listen(1)
        for _ in range(2):
            waiting.enter_context(socket.socket(socket.AF_UNIX)).connect(str(directory / "epa.sock"))
        sentence = unreachable(Client(directory / "epa.sock", timeout=0.25))
    assert sentence.endswith("did not answer within 0.25 seconds")


def test_a_refusal_that_comes_before_the_request_is_sent_is_read(directory: Path) -> None:
    """As for a request that is too long: the server answers, and closes without reading the rest."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "epa.sock"))
        listener.listen()
        listener.settimeout(10)

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b'{"version": "1.0", "error": "The request is too long"}')

        with in_threads(refuse), pytest.raises(RefusedByDaemon, match=r"^The request is too long$"):
            Client(directory / "epa.sock", timeout=20).allocate("a" * 4_000_000, 1)


def test_a_daemon_that_closes_before_it_answers(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "epa.sock"))
        listener.listen()
        listener.settimeout(10)

        def close() -> None:
            listener.accept()[0].close()

        with in_threads(close), pytest.raises(Unreachable, match="cannot be reached: "):
            Client(directory / "epa.sock", timeout=20).allocate("a" * 4_000_000, 1)


# --- refusals ---


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("No\x1b[2J\nmore", "No\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}more"),
        ("", "The daemon refuses, and does not say why"),
        (" \t\n", "The daemon refuses, and does not say why"),
        ("x" * 3_000_000, "x" * 16_384 + "…"),
    ],
    ids=["escapes", "empty", "blank", "megabytes"],
)
def test_a_refusal_is_one_line_that_a_person_can_read(error: str, sentence: str, client: Client, peer: Peer) -> None:
    peer.answer({"version": "1.0", "error": error})
    with pytest.raises(RefusedByDaemon) as caught:
        client.list_allocations()
    assert str(caught.value) == sentence


def test_a_general_pool_that_is_not_configured_has_no_listing(client: Client, peer: Peer) -> None:
    peer.answer({"version": "1.0", "error": "Pool general is not configured: set cpu-pool"})
    assert client.general_listing() is None
    peer.answer(LISTING | {"pool": "general", "allocations": []})
    listing = client.general_listing()
    assert listing is not None
    assert listing.pool == "general"


def test_another_refusal_does_not_mean_that_there_is_no_general_pool(client: Client, peer: Peer) -> None:
    peer.answer({"version": "1.0", "error": "Internal error"})
    with pytest.raises(RefusedByDaemon, match="Internal error"):
        client.general_listing()


def test_a_real_daemon_without_a_general_pool_has_no_listing_of_it() -> None:
    with Daemon() as daemon:
        assert Client(daemon.start().socket_path).general_listing() is None


# --- a real daemon ---


def test_a_real_daemon_is_asked_for_everything() -> None:
    """CPUs 1-3, 5-7, 9-11 and 13-15 are isolated, CPU n and n + 8 share a core, node 0 has 1-3 and 9-11 of them."""
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        client = Client(daemon.start().socket_path)
        claim = client.allocate("a", 2)
        assert (claim.allocated_cores, claim.cores_allocated, claim.preemption_policy) == ("1,9", 2, "legacy")
        assert client.allocate("a", 2) == claim
        half = client.allocate_percent("b", 50, preemption_policy="non-preemptive")
        assert (half.cores_allocated_count, half.preemption_policy) == (6, "non-preemptive")
        general = client.allocate("c", 1, "general")
        assert (general.allocated_cores, general.pool) == ("0", "general")
        in_node = client.allocate_in_node("d", 0, 2)
        assert in_node.cores_allocated == "2,10"
        listing = client.list_allocations()
        assert [each.service_name for each in listing.allocations] == ["a", "b", "d"]
        assert listing.remaining_available_cpus == 12 - 2 - 6 - 2
        assert client.list_allocations("general").total_allocations == 1
        assert client.set_hugepages("a", 0, 2048, 4).message == "Successfully set allocation request to 4 hugepages"
        node = client.memory_info().numa_hugepages["node0"]
        assert node.allocations == {"a": {"2048": 4}}
        assert [size.size for size in node.capacity] == [2048, 1048576]
        with pytest.raises(RefusedByDaemon, match=r"Insufficient CPUs available\. Requested: 9, Available: 4"):
            client.allocate("a", 9)
        with pytest.raises(RefusedByDaemon, match="'service_name' must have 1 to 255 characters"):
            client.allocate("", 1)
        with pytest.raises(RefusedByDaemon, match="NUMA node 9 does not exist"):
            client.allocate_in_node("a", 9, 1)
        assert client.allocate("a", -1).allocated_cores == ""
        assert client.allocate("a", -1).preemption_policy is None
