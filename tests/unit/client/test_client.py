# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The client sends requests of the protocol, understands every answer, and turns every failure into a sentence."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.client import Client, DaemonError, RefusedByDaemon, Unreachable
from tests.functional.harness import Daemon
from tests.unit.client.builders import (
    CORES,
    LISTING,
    MEMORY,
    NUMA,
    PAGES,
    PERCENT,
    RELEASED,
    FakeServer,
    sentence_of,
    unreachable,
)

MACHINE: dict[str, Any] = {
    "version": "1.0",
    "states": {"claimed": "2", "free": "3", "not-isolated": "0-1"},
    "pools": {"isolated": "2-3"},
    "machine": {
        "present": "0-3",
        "online": "0-3",
        "isolated": "2-3",
        "packages": [{"id": "0", "cpus": "0-3"}],
        "nodes": [
            {
                "id": 0,
                "cpus": "0-3",
                "distances": [10],
                "memory_kb": 1024,
                "hugepages": [{"size_kb": 2048, "total": 3, "free": 1}],
            }
        ],
        "l3_domains": ["0-3"],
        "l2_clusters": ["0-1", "2-3"],
        "cores": [{"cpus": "0-1", "type": "performance"}, {"cpus": "2-3", "type": "efficiency"}],
    },
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
    (lambda c: c.machine(), {"action": "get_machine"}, MACHINE),
]


@pytest.mark.parametrize(("call", "request_fields", "answer"), CALLS)
def test_each_call_sends_its_request_and_reads_its_answer(
    call: Callable[[Client], Any],
    request_fields: dict[str, Any],
    answer: dict[str, Any],
    client: Client,
    server: FakeServer,
) -> None:
    server.answer(answer)
    read = json.loads(call(client).model_dump_json(exclude_none=True))
    assert read == answer
    assert len(server.received) == 1
    assert json.loads(server.received[0]) == {"version": "1.0", **request_fields}
    assert b"\n" not in server.received[0]


@pytest.mark.parametrize(("call", "request_fields", "answer"), CALLS)
def test_each_call_raises_the_daemons_refusal(
    call: Callable[[Client], Any],
    request_fields: dict[str, Any],
    answer: dict[str, Any],
    client: Client,
    server: FakeServer,
) -> None:
    server.answer({"version": "1.0", "error": f"No {request_fields['action']} today"})
    with pytest.raises(RefusedByDaemon) as caught:
        call(client)
    assert str(caught.value) == f"No {request_fields['action']} today"


def test_the_features_of_a_daemon_are_asked_for_once(client: Client, server: FakeServer) -> None:
    server.answer(LISTING)
    assert client.supports("cpu-pools")
    assert not client.supports("watch")
    assert len(server.received) == 1


def test_listing_of_an_older_daemon_is_read(client: Client, server: FakeServer) -> None:
    server.answer({name: value for name, value in LISTING.items() if name != "outdated_placements"})
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
    "decided_by": "Only NUMA node 0 is possible.",
}


def test_further_fields_are_sent_and_their_answers_read(client: Client, server: FakeServer) -> None:
    more: dict[str, Any] = {"dry_run": True, "explain": True, "numa_policy": "none", "near": 1}
    calls: list[tuple[Callable[[], Any], dict[str, Any]]] = [
        (lambda: client.allocate("a", 2, **more), CORES),
        (lambda: client.allocate_percent("a", 30, **more), PERCENT),
        (lambda: client.allocate_in_node("a", 1, 2, **more), NUMA),
    ]
    for call, answer in calls:
        whole = {**answer, "placement": PLACEMENT, "dry_run": True, "explanation": EXPLANATION}
        server.answer(whole)
        read = call()
        assert json.loads(read.model_dump_json(exclude_none=True)) == whole
        assert more.items() <= json.loads(server.received[-1]).items()


def test_refusal_has_the_explanation(client: Client, server: FakeServer) -> None:
    server.answer({"version": "1.0", "error": "No", "explanation": {**EXPLANATION, "rule": "numa-policy"}})
    with pytest.raises(RefusedByDaemon, match=r"^No$") as caught:
        client.allocate("a", 2, explain=True)
    assert caught.value.explanation is not None
    assert caught.value.explanation.model_dump() == {**EXPLANATION, "rule": "numa-policy"}
    server.answer({"version": "1.0", "error": "No", "explanation": {"rule": 5}})
    with pytest.raises(DaemonError, match=r"does not understand: explanation\.policy: field required"):
        client.allocate("a", 2, explain=True)


def test_fields_of_a_newer_daemon_are_ignored(client: Client, server: FakeServer) -> None:
    server.answer(CORES | {"since": "1.1"})
    assert client.allocate("a", 2).allocated_cores == "2-3"


def test_preemption_policy_is_none_after_a_release(client: Client, server: FakeServer) -> None:
    server.answer(CORES | RELEASED | {"preemption_policy": None})
    assert client.allocate("a", -1).preemption_policy is None


def test_state_error_is_read(client: Client, server: FakeServer) -> None:
    server.answer(LISTING | {"state_error": "The database is gone"})
    assert client.list_allocations().state_error == "The database is gone"


def test_ask_sends_and_returns_json_unchanged(client: Client, server: FakeServer) -> None:
    server.answer({"version": "1.0", "error": "No"})
    assert client.ask({"action": "x", "service_name": "\u00e4\N{GRINNING FACE}"}) == {"version": "1.0", "error": "No"}
    assert json.loads(server.received[0]) == {"action": "x", "service_name": "\u00e4\N{GRINNING FACE}"}


def invalid(client: Client) -> str:
    """The sentence about an invalid answer; it names the socket and is one line."""
    with pytest.raises(DaemonError) as caught:
        client.list_allocations()
    assert not isinstance(caught.value, Unreachable | RefusedByDaemon)
    return sentence_of(caught.value, client)


def test_sentence_without_a_daemon(directory: Path) -> None:
    open_files = len(os.listdir("/proc/self/fd"))
    (directory / "file").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / "stale"))
    for name in ("missing", "missing/below", "stale"):
        sentence = unreachable(Client(directory / name))
        assert sentence.startswith(f"No daemon serves {directory / name}: start it with ")
        assert "snap start epa-orchestrator" in sentence
        assert "epa-orchestrator serve" in sentence
    assert "file, which is no socket" in unreachable(Client(directory / "file"))
    assert len(os.listdir("/proc/self/fd")) == open_files


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
def test_answer_that_is_no_json_object_is_invalid(answer: bytes, client: Client, server: FakeServer) -> None:
    server.answer(answer)
    assert invalid(client).endswith("did not answer with a JSON object")


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
def test_answer_with_a_wrong_field_is_invalid(changes: dict[str, Any], client: Client, server: FakeServer) -> None:
    server.answer(LISTING | changes)
    assert "does not understand" in invalid(client)


def test_answer_without_fields_is_invalid(client: Client, server: FakeServer) -> None:
    server.answer({})
    assert "does not understand" in invalid(client)


def test_endless_answer_is_an_error(client: Client, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epa_orchestrator.client.client._MAX_ANSWER_BYTES", 1 << 20)

    def endless(connection: socket.socket) -> None:
        while True:
            connection.sendall(b" " * 65_536)

    server.handler = endless
    assert invalid(client).endswith("sends more than 1048576 bytes")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("No\x1b[2J\nmore", "No\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}more"),
        ("", "The daemon refused the request without a reason"),
        (" \t\n", "The daemon refused the request without a reason"),
        ("x" * 3_000_000, "x" * 16_384 + "…"),
    ],
    ids=["escapes", "empty", "blank", "megabytes"],
)
def test_refusal_is_one_readable_line(error: str, sentence: str, client: Client, server: FakeServer) -> None:
    server.answer({"version": "1.0", "error": error})
    with pytest.raises(RefusedByDaemon) as caught:
        client.list_allocations()
    assert str(caught.value) == sentence


def test_general_listing_is_none_without_a_general_pool(client: Client, server: FakeServer) -> None:
    server.answer({"version": "1.0", "error": "Pool general is not configured: set cpu-pool"})
    assert client.general_listing() is None
    server.answer(LISTING | {"pool": "general", "allocations": []})
    listing = client.general_listing()
    assert listing is not None
    assert listing.pool == "general"


def test_general_listing_raises_other_refusals(client: Client, server: FakeServer) -> None:
    server.answer({"version": "1.0", "error": "Internal error"})
    with pytest.raises(RefusedByDaemon, match="Internal error"):
        client.general_listing()


def test_general_listing_of_a_real_daemon_without_a_general_pool() -> None:
    with Daemon() as daemon:
        client = Client(daemon.start().socket_path)
        assert client.general_listing() is None
        assert [listing.pool for listing in client.listings()] == ["isolated"]


def test_listings_are_those_of_both_pools() -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        assert [listing.pool for listing in Client(daemon.start().socket_path).listings()] == ["isolated", "general"]


def test_real_daemon_answers_every_request() -> None:
    """CPUs 1-3, 5-7, 9-11 and 13-15 are isolated, CPU n and n + 8 share a core, NUMA node 0 has CPUs 0-3 and 8-11."""
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
