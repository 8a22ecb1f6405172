# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Legacy state: a mistake that could hide an owner stops the reading, also when other programs made it."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.state.errors import LegacyStateError
from epa_orchestrator.state.legacy_state import read_legacy_state

#: A service of each kind, in the form that the protocol page shows.
FULL: dict[str, Any] = {
    "version": 1,
    "updated_at": "2025-01-01T00:00:00Z",
    "allocations_db": {
        "allocations": {"nova": "0-3", "ovs": "4,6", "ceph": "8-9"},
        "explicit_allocations": {"nova": "0-1"},
        "preemption_policies": {"ovs": "non-preemptive", "nova": "legacy"},
        "allocation_pools": {"ceph": "general", "nova": "isolated"},
    },
    "hugepages_db": {
        "allocations": {
            "nova": [
                {"node_id": 0, "size_kb": 2048, "count": 4},
                {"node_id": 1, "size_kb": 2048, "count": 2},
                {"node_id": 0, "size_kb": 1048576, "count": 1},
            ]
        }
    },
}


def read(path: Path) -> Ledger:
    """The ledger in a file that is there."""
    ledger = read_legacy_state(path)
    assert ledger is not None
    return ledger


def read_document(directory: Path, document: object) -> Ledger:
    path = directory / "state.json"
    path.write_text(json.dumps(document))
    return read(path)


def refusal(path: Path) -> str:
    """The sentence that refuses the file, which stays as it is."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LegacyStateError) as caught:
        read_legacy_state(path)
    assert before == (path.read_bytes() if path.is_file() else None)
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert len(sentence) < 700
    return sentence


def cores(**sections: Any) -> dict[str, Any]:
    """A document with these sections of allocations_db."""
    return {"version": 1, "allocations_db": sections}


def pages(*entries: Any) -> dict[str, Any]:
    """A document with these hugepages of service a."""
    return {"version": 1, "hugepages_db": {"allocations": {"a": list(entries)}}}


def test_a_missing_file_is_no_state(tmp_path: Path) -> None:
    assert read_legacy_state(tmp_path / "state.json") is None
    assert read_legacy_state(tmp_path / "missing" / "state.json") is None


def test_a_full_state_is_read_whole(tmp_path: Path) -> None:
    ledger = read_document(tmp_path, FULL)
    assert dict(ledger.claims) == {
        "nova": Claim("nova", "isolated", CpuSet([0, 1, 2, 3]), CpuSet([0, 1]), "legacy"),
        "ovs": Claim("ovs", "isolated", CpuSet([4, 6]), CpuSet(), "non-preemptive"),
        "ceph": Claim("ceph", "general", CpuSet([8, 9]), CpuSet(), "legacy"),
    }
    assert {service: dict(counts) for service, counts in ledger.pages.items()} == {
        "nova": {(0, 2048): 4, (1, 2048): 2, (0, 1048576): 1}
    }
    assert str(ledger.claimed) == "0-4,6,8-9"
    assert str(ledger.owned["isolated"]) == "0-4,6"
    assert str(ledger.owned["general"]) == "8-9"
    assert str(ledger.reclaimable["isolated"]) == "2-3", "ovs is non-preemptive, and 0-1 are explicit"


def test_unknown_members_are_ignored(tmp_path: Path) -> None:
    document: dict[str, Any] = FULL | {"comment": [1, {"a": None}], "updated_at": {}}
    assert read_document(tmp_path, document).claims == read_document(tmp_path, FULL).claims


def test_the_version_may_be_missing(tmp_path: Path) -> None:
    document = {name: value for name, value in FULL.items() if name != "version"}
    assert read_document(tmp_path, document).claims == read_document(tmp_path, FULL).claims


@pytest.mark.parametrize("section", ["updated_at", "allocations_db", "hugepages_db"])
def test_a_section_may_be_missing(section: str, tmp_path: Path) -> None:
    ledger = read_document(tmp_path, {name: value for name, value in FULL.items() if name != section})
    assert sorted(ledger.claims) == ([] if section == "allocations_db" else ["ceph", "nova", "ovs"])
    assert sorted(ledger.pages) == ([] if section == "hugepages_db" else ["nova"])


@pytest.mark.parametrize(
    ("section", "claim"),
    [
        ("explicit_allocations", Claim("a", "general", CpuSet([1, 2]), CpuSet(), "non-preemptive")),
        ("preemption_policies", Claim("a", "general", CpuSet([1, 2]), CpuSet([1]), "legacy")),
        ("allocation_pools", Claim("a", "isolated", CpuSet([1, 2]), CpuSet([1]), "non-preemptive")),
    ],
)
def test_a_part_of_the_claims_may_be_missing(section: str, claim: Claim, tmp_path: Path) -> None:
    sections = {
        "allocations": {"a": "1-2"},
        "explicit_allocations": {"a": "1"},
        "preemption_policies": {"a": "non-preemptive"},
        "allocation_pools": {"a": "general"},
    }
    del sections[section]
    assert read_document(tmp_path, cores(**sections)).claims == {"a": claim}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"version": 1},
        {"version": 1, "allocations_db": {}, "hugepages_db": {}},
        {"version": 1, "allocations_db": {"allocations": {}}, "hugepages_db": {"allocations": {}}},
        pages(),
        pages({"node_id": 0, "size_kb": 2048, "count": 0}),
    ],
)
def test_a_state_may_hold_no_claims(document: dict[str, Any], tmp_path: Path) -> None:
    ledger = read_document(tmp_path, document)
    assert not ledger.claims
    assert not ledger.claimed
    assert not ledger.recorded


#: Values that are no JSON objects, no texts, no lists of hugepage records, and no numbers.
NO_OBJECTS: tuple[Any, ...] = (None, [], "x", 1)
NO_TEXTS: tuple[Any, ...] = (None, [], 1, True, {})
NO_PAGES: tuple[Any, ...] = (None, {}, "x", 1, [None], [[]], [1], ["x"], [{}])
NO_NUMBERS: tuple[Any, ...] = (None, 2**31, 10**30, 1.0, "1", True, [])

BAD_DOCUMENTS: list[tuple[object, tuple[str, ...]]] = [
    # the frame
    (None, ("the file", "not a JSON object")),
    ([], ("the file", "not a JSON object")),
    ("text", ("the file", "not a JSON object")),
    (1, ("the file", "not a JSON object")),
    *(({"version": version}, ("version",)) for version in (0, 2, -1, "1", None, True, 1.0, 1.5, [1], "\x1b[2J")),
    *(({"version": 1, "allocations_db": bad}, ("allocations_db",)) for bad in NO_OBJECTS),
    *(({"version": 1, "hugepages_db": bad}, ("hugepages_db",)) for bad in NO_OBJECTS),
    *(
        (cores(**{section: bad}), (section,))
        for section in ("allocations", "explicit_allocations", "preemption_policies", "allocation_pools")
        for bad in NO_OBJECTS
    ),
    *(
        (cores(**{"allocations": {"a": "1"}, section: {"a": bad}}), (section, "'a'"))
        for section in ("allocations", "explicit_allocations", "preemption_policies", "allocation_pools")
        for bad in NO_TEXTS
    ),
    # half of a surrogate pair, which JSON can hold and UTF-8 cannot
    *(
        (cores(**{"allocations": {"a": "1"}, section: {"a": "\ud800"}}), (section, "'a'", "is not valid Unicode"))
        for section in ("allocations", "explicit_allocations", "preemption_policies", "allocation_pools")
    ),
    # bad CPU lists
    *((cores(allocations={"svc": bad}), ("svc", "CPU")) for bad in ("x", "3-1", "1,", "-1", "0-99999", "1\n2")),
    *((cores(allocations={"b": "1", "svc": bad}), ("svc", "CPU")) for bad in ("a\x1b[2J", "1,\n5-3")),
    *(
        (cores(allocations={"svc": "1-2"}, explicit_allocations={"svc": bad}), ("svc", "explicit"))
        for bad in ("x", "2-1", "3", "0-2")
    ),
    # unknown policies and pools
    *(
        (cores(allocations={"svc": "1"}, preemption_policies={"svc": bad}), ("svc", "preemption_policies", "'legacy'"))
        for bad in ("", "none", "Legacy", "x\x1b[2J\n", "y" * 10_000)
    ),
    *(
        (cores(allocations={"svc": "1"}, allocation_pools={"svc": bad}), ("svc", "allocation_pools", "'isolated'"))
        for bad in ("", "shared", "Isolated", "x\x1b[2J\n", "y" * 10_000)
    ),
    # explicit CPUs of a service without CPUs
    (cores(allocations={"b": "1"}, explicit_allocations={"svc": "1"}), ("svc", "explicit_allocations")),
    # a CPU owned twice
    (cores(allocations={"b": "0-3", "svc": "3-5"}), ("svc", "3", "owned")),
    (cores(allocations={"b": "0-3", "c": "4", "svc": "0-4"}), ("svc", "owned")),
    (
        cores(allocations={"b": "0-3", "svc": "2"}, allocation_pools={"svc": "general"}),
        ("svc", "2", "owned"),
    ),
    # hugepages
    *(({"hugepages_db": {"allocations": bad}}, ("hugepages_db",)) for bad in NO_OBJECTS),
    *(({"hugepages_db": {"allocations": {"svc": bad}}}, ("hugepages", "svc")) for bad in NO_PAGES),
    *(
        (pages({"node_id": 0, "size_kb": 2048, "count": 1} | {field: bad}), ("hugepages", "'a'", field))
        for field in ("node_id", "size_kb", "count")
        for bad in NO_NUMBERS
    ),
    (pages({"node_id": -1, "size_kb": 2048, "count": 1}), ("hugepages", "'a'", "node_id")),
    (pages({"node_id": 0, "size_kb": 0, "count": 1}), ("hugepages", "'a'", "size_kb")),
    (pages({"node_id": 0, "size_kb": 2048}), ("hugepages", "'a'", "count")),
    (
        pages({"node_id": 0, "size_kb": 2048, "count": 1}, {"node_id": 0, "size_kb": 2048, "count": 1}),
        ("hugepages", "'a'", "twice"),
    ),
]


@pytest.mark.parametrize(("document", "names"), BAD_DOCUMENTS)
def test_a_malformed_state_is_refused_by_section_and_service(
    document: object, names: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(document))
    sentence = refusal(path)
    for name in names:
        assert name in sentence


@pytest.mark.parametrize("section", ["allocations_db", "hugepages_db"])
def test_a_mistake_in_one_half_refuses_the_other_too(section: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(FULL | {section: {"allocations": {"svc": 5}}}))
    assert "svc" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"{",
        b'{"version": 1',
        b"{'version': 1}",
        json.dumps(FULL).encode()[:-1],
        json.dumps(FULL).encode() * 2,
        b"\xff\xfe\xfd",
        b'{"a": "\xff"}',
        b"\0" * 4096,
        b"[" * 100_000,
        b'{"version": ' + b"1" * 5000 + b"}",
        b"SQLite format 3\0",
    ],
)
def test_text_that_is_not_json_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    assert refusal(path).startswith("it is not JSON")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ('{"version": 1, "version": 2}', "version"),
        ('{"allocations_db": {"allocations": {"a": "1", "b": "2", "a": "3"}}}', "a"),
        (
            '{"hugepages_db": {"allocations": {"a": [{"node_id": 0, "size_kb": 4, "size_kb": 4, "count": 1}]}}}',
            "size_kb",
        ),
        ('{"comment": [[{"x": 1, "x": 1}]]}', "x"),
    ],
)
def test_a_duplicate_key_is_refused_and_named(content: str, key: str, tmp_path: Path) -> None:
    """Readers differ in which of the two they keep: the older daemon may have granted by the other one."""
    path = tmp_path / "state.json"
    path.write_text(content)
    assert refusal(path) == f"it has the key '{key}' twice in one object"


FOUR_MIB = 4 * 1024 * 1024 - 100


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * FOUR_MIB, "the nesting is too deep"),
        ('{"a":' * (FOUR_MIB // 5), "the nesting is too deep"),
        ('{"version": ' + "1" * FOUR_MIB + "}", "4300 digits"),
        ('{"version": ' + "1" * 4300 + "}", "version is 1111"),
        (json.dumps(cores(allocations={"a": "65535," * (FOUR_MIB // 6) + "1"})), "'a' has more than 200000 characters"),
        (json.dumps(cores(allocations={"a": "," * FOUR_MIB})), "'a' has more than 200000 characters"),
        (json.dumps(cores(allocations={f"s{n}": "0-65535" for n in range(150_000)})), "'s1' are owned by another"),
    ],
    ids=["lists", "objects", "huge number", "large number", "CPU list", "commas", "everybody owns all"],
)
def test_a_hostile_file_of_four_mib_is_refused_in_one_sentence(content: str, says: str, tmp_path: Path) -> None:
    assert len(content) <= 4 * 1024 * 1024
    path = tmp_path / "state.json"
    path.write_text(content)
    assert says in refusal(path)


def test_the_longest_cpu_list_is_read(tmp_path: Path) -> None:
    every_other = ",".join(map(str, range(1, 65536, 2)))
    assert len(read_document(tmp_path, cores(allocations={"a": every_other})).claims["a"].cpus) == 32768


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """The older daemon wrote in place, so a power cut could leave a part of the file."""
    path = tmp_path / "state.json"
    whole = json.dumps(FULL).encode()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert refusal(path).startswith("it is not JSON")


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    """Other snaps write the directory: a link could name any file that root can read."""
    (tmp_path / "real.json").write_text(json.dumps(FULL))
    for target in ("real.json", "missing.json"):
        path = tmp_path / f"link-to-{target}"
        path.symlink_to(target)
        assert refusal(path).startswith("it cannot be opened")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    open_files = len(os.listdir("/proc/self/fd"))
    path = tmp_path / "state.json"
    path.mkdir()
    assert refusal(path) == "it is not a regular file"
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    os.mkfifo(path)
    assert refusal(path) == "it is not a regular file"


def test_a_socket_is_refused() -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory, "state.json")
        listener.bind(str(path))
        assert refusal(path).startswith("it cannot be opened")


def test_a_device_is_refused() -> None:
    assert refusal(Path("/dev/zero")) == "it is not a regular file"


def test_a_file_without_permission_is_refused() -> None:
    """The test reads as nobody where it runs as root, because root may read every file."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "state.json")
        path.touch(mode=0)
        own = os.geteuid()
        os.seteuid(65534 if own == 0 else own)
        try:
            with pytest.raises(LegacyStateError, match="it cannot be opened: Permission denied"):
                read_legacy_state(path)
        finally:
            os.seteuid(own)


def test_an_oversized_file_is_refused_unread(tmp_path: Path) -> None:
    """A sparse file: reading it would take a terabyte of memory."""
    path = tmp_path / "state.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LegacyStateError, match="it has more than 4194304 bytes"):
        read_legacy_state(path)


def test_a_large_state_is_read(tmp_path: Path) -> None:
    services = {f"service-{number:04}-{'x' * 200}": str(number) for number in range(8000)}
    document = cores(allocations=services)
    assert len(json.dumps(document)) > 1 << 20
    ledger = read_document(tmp_path, document)
    assert len(ledger.claims) == 8000
    assert str(ledger.claimed) == "0-7999"


NAMES = st.text(min_size=1, max_size=12).filter(str.isprintable)


@settings(deadline=None)
@given(
    st.dictionaries(
        NAMES,
        st.tuples(
            st.sampled_from(["legacy", "non-preemptive"]),
            st.sampled_from(["isolated", "general"]),
            st.integers(1, 5),
            st.integers(0, 5),
        ),
        max_size=6,
    )
)
def test_any_well_formed_state_is_read_unchanged(services: dict[str, tuple[str, str, int, int]]) -> None:
    owned = {
        name: set(range(10 * number, 10 * number + count))
        for number, (name, (_, _, count, _)) in enumerate(services.items())
    }
    explicit = {name: {cpu for cpu in owned[name] if cpu % 10 < services[name][3]} for name in services}
    document = cores(
        allocations={name: ",".join(map(str, sorted(cpus))) for name, cpus in owned.items()},
        explicit_allocations={name: ",".join(map(str, sorted(cpus))) for name, cpus in explicit.items() if cpus},
        preemption_policies={name: policy for name, (policy, _, _, _) in services.items()},
        allocation_pools={name: pool for name, (_, pool, _, _) in services.items()},
    )
    with tempfile.TemporaryDirectory() as directory:
        ledger = read_document(Path(directory), document)
    assert {
        name: (claim.preemption_policy, claim.pool, set(claim.cpus), set(claim.explicit))
        for name, claim in ledger.claims.items()
    } == {name: (policy, pool, owned[name], explicit[name]) for name, (policy, pool, _, _) in services.items()}


def test_a_value_with_control_characters_is_shown_escaped(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"version": "\n\x1b[31mX"}))
    assert r"version is '\n\x1b[31mX'" in refusal(path)
