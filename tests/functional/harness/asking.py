# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Requests and answers on the wire, and what an answer must look like."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from .cpus import format_cpus, parse_cpus
from .waiting import PATIENCE

#: The longest time (s) of a request while other clients misbehave, and the time that the daemon waits for a whole one.
SERVED_WITHIN: Final = 1.0
READ_TIMEOUT: Final = 5.0

Json: TypeAlias = dict[str, Any]


def error_of(answer: Json) -> str:
    """The sentence of an error object; fails for anything else, and for a sentence that is not clear."""
    assert set(answer) == {"version", "error"}, answer
    assert answer["version"] == "1.0"
    sentence = answer["error"]
    assert isinstance(sentence, str)
    assert sentence.strip()
    assert sentence.isprintable(), f"line breaks or control characters in {sentence!r}"
    assert not re.search(r"Traceback|Exception|File \"|0x[0-9a-f]{6}|\b[A-Z]\w+Error\b", sentence), sentence
    return sentence


def connect(path: Path, timeout: float = PATIENCE) -> socket.socket:
    """A connection to the daemon's socket."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout)
    try:
        client.connect(str(path))
    except BaseException:
        client.close()
        raise
    return client


def read_to_end(client: socket.socket) -> bytes:
    """Everything up to the end of file."""
    chunks: list[bytes] = []
    while chunk := client.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def encode(action: str, fields: Mapping[str, Any]) -> bytes:
    """A request as clients write it."""
    return json.dumps({"version": "1.0", "action": action, **fields}).encode()


def decode(answer: bytes) -> Json:
    """The one JSON object of an answer."""
    decoded: Json = json.loads(answer)
    assert isinstance(decoded, dict), answer  # pyright: ignore[reportUnnecessaryIsInstance]
    assert decoded.get("version") == "1.0", answer
    return decoded


def two_whole_cores(node: int) -> Json:
    """The `placement` of four CPUs that are two whole cores of a node of the small host."""
    return {
        "numa_nodes": str(node),
        "packages": 1,
        "l3_domains": 1,
        "whole_cores": 2,
        "shared_cores": 0,
        "withheld_cpus": "",
    }


def check_listing(listing: Json) -> dict[str, set[int]]:
    """Check that a listing agrees with itself; returns the CPUs of each service."""
    assert "error" not in listing, listing
    pool = listing["cpu_pool"]
    eligible, unavailable = parse_cpus(pool["eligible_cpus"]), parse_cpus(pool["unavailable_allocated_cpus"])
    assert eligible <= parse_cpus(pool["configured_cpus"])
    claims: dict[str, set[int]] = {}
    owned: set[int] = set()
    withheld: set[int] = set()
    names = [entry["service_name"] for entry in listing["allocations"]]
    assert names == sorted(set(names))
    for entry in listing["allocations"]:
        cpus = parse_cpus(entry["allocated_cores"])
        assert cpus, entry
        assert entry["cores_count"] == len(cpus)
        assert entry["pool"] == listing["pool"]
        assert not cpus & owned, f"CPUs {format_cpus(cpus & owned)} have two owners: {listing}"
        owned |= cpus
        kept = parse_cpus(entry.get("withheld_cpus", ""))
        assert not kept & withheld, f"CPUs {format_cpus(kept & withheld)} are withheld twice: {listing}"
        withheld |= kept
        claims[entry["service_name"]] = cpus
    assert not withheld & owned, f"CPUs {format_cpus(withheld & owned)} are withheld and owned: {listing}"
    assert set(listing.get("outdated_placements", ())) <= claims.keys()
    assert listing["total_allocations"] == len(claims)
    assert listing["total_allocated_cpus"] == len(owned)
    assert unavailable == owned - eligible
    if "state_error" not in listing:
        assert listing["total_available_cpus"] == len(eligible)
        assert listing["remaining_available_cpus"] == len(eligible - owned - withheld)
    return claims
