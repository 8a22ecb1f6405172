# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The import of the older daemon's `state.json`: once and as a whole, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from .harness import Daemon, Json, error_of

GOOD: Final[Json] = {
    "version": 1,
    "updated_at": "2025-11-05T10:00:00+00:00",
    "allocations_db": {
        "allocations": {"plain": "1-2,9-10", "pinned": "5,13", "mixed": "3,6-7", "host": "0,8"},
        "explicit_allocations": {"pinned": "5,13", "mixed": "6-7"},
        "preemption_policies": {"pinned": "non-preemptive", "plain": "legacy"},
        "allocation_pools": {"host": "general", "plain": "isolated"},
    },
    "hugepages_db": {
        "allocations": {
            "plain": [{"node_id": 0, "size_kb": 2048, "count": 4}, {"node_id": 1, "size_kb": 2048, "count": 2}],
            "pages": [{"node_id": 0, "size_kb": 1048576, "count": 1}],
        }
    },
}


def old_state(daemon: Daemon, state: Any) -> Path:
    """Write a state.json as the older daemon does; bytes are written as they are."""
    path = daemon.data / "data" / "state.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(state if isinstance(state, bytes) else json.dumps(state).encode())
    return path


def with_cpus(**sections: Any) -> Json:
    """A state.json with these sections of `allocations_db`."""
    return {"version": 1, "allocations_db": sections}


def with_pages(allocations: Any) -> Json:
    """A state.json with these hugepages."""
    return {"version": 1, "hugepages_db": {"allocations": allocations}}


def test_imports_all_of_a_good_state() -> None:
    with Daemon(settings={"cpu-pool": "0,4,8,12"}) as daemon:
        old_state(daemon, GOOD)
        daemon.start()
        assert daemon.claims() == {"plain": {1, 2, 9, 10}, "pinned": {5, 13}, "mixed": {3, 6, 7}}
        assert daemon.claims("general") == {"host": {0, 8}}
        shown = {
            name: (daemon.entry(name, pool)["is_explicit"], daemon.entry(name, pool)["preemption_policy"])
            for name, pool in (
                ("plain", "isolated"),
                ("pinned", "isolated"),
                ("mixed", "isolated"),
                ("host", "general"),
            )
        }
        assert shown == {
            "plain": (False, "legacy"),
            "pinned": (True, "non-preemptive"),
            "mixed": (True, "legacy"),
            "host": (False, "legacy"),
        }
        memory = daemon.ok("get_memory_info")["numa_hugepages"]
        assert memory["node0"]["allocations"] == {"plain": {"2048": 4}, "pages": {"1048576": 1}}
        assert memory["node1"]["allocations"] == {"plain": {"2048": 2}}


def test_imports_which_cpus_are_explicit() -> None:
    with Daemon(settings={"cpu-pool": "0,4,8,12"}) as daemon:
        old_state(daemon, GOOD)
        daemon.start()
        # Of "mixed" only CPU 3 is not explicit, of "plain" all CPUs are not.
        assert daemon.numa("taker", 0, 6) == {1, 2, 3, 9, 10, 11}
        assert daemon.claims()["mixed"] == {6, 7}
        assert "plain" not in daemon.claims()


def test_imported_state_survives_a_kill() -> None:
    with Daemon(settings={"cpu-pool": "0,4,8,12"}) as daemon:
        old_state(daemon, GOOD)
        daemon.start()
        before = daemon.snapshot()
        daemon.kill()
        daemon.start()
        assert daemon.snapshot() == before


@pytest.mark.parametrize(
    "state",
    [
        {"version": 1},
        {"version": 1, "updated_at": None, "allocations_db": {}, "hugepages_db": {}},
        with_cpus(allocations={}, explicit_allocations={}, preemption_policies={}, allocation_pools={}),
        with_pages({}),
        with_pages({"svc": []}),
    ],
)
def test_empty_state_is_a_first_start(state: Json) -> None:
    with Daemon() as daemon:
        old_state(daemon, state)
        daemon.start()
        assert daemon.claims() == {}
        assert "state_error" not in daemon.ok("list_allocations")
        daemon.cores("svc", 2)


def test_missing_sections_get_defaults() -> None:
    with Daemon() as daemon:
        old_state(daemon, with_cpus(allocations={"svc": "1,9"}))
        daemon.start()
        assert daemon.claims() == {"svc": {1, 9}}
        assert daemon.entry("svc")["is_explicit"] is False
        assert daemon.entry("svc")["preemption_policy"] == "legacy"


def test_state_is_imported_once() -> None:
    with Daemon() as daemon:
        old_state(daemon, with_cpus(allocations={"svc": "1,9"}))
        daemon.start()
        daemon.cores("svc", -1)
        daemon.cores("new", 2)
        held = daemon.claims()
        # Other snaps can write to this directory, so the daemon ignores files that appear in it later.
        for state in (with_cpus(allocations={"svc": "2,10"}), with_cpus(allocations={"svc": "nonsense"})):
            for end in (daemon.stop, daemon.kill):
                end()
                old_state(daemon, state)
                daemon.start()
                assert daemon.claims() == held
                assert daemon.cores("new", 2) == held["new"]


def test_later_state_is_ignored() -> None:
    with Daemon() as daemon:
        daemon.start()
        daemon.stop()
        old_state(daemon, with_cpus(allocations={"svc": "1,9"}))
        daemon.start()
        assert daemon.claims() == {}
        assert "state_error" not in daemon.ok("list_allocations")
        (warning,) = daemon.ok("list_allocations")["warnings"]
        assert "state.json was written after this daemon took over" in warning
        assert "services that hold no CPUs here: 'svc'" in warning
        assert warning in daemon.log()


def test_later_state_is_named_until_it_is_removed() -> None:
    with Daemon() as daemon:
        daemon.start()
        daemon.stop()
        path = old_state(daemon, with_cpus(allocations={"svc": "1,9"}))
        for end in (daemon.stop, daemon.kill, daemon.stop):
            daemon.start()
            daemon.cores("new", 2)
            assert len(daemon.ok("list_allocations")["warnings"]) == 1
            end()
        path.unlink()
        daemon.start()
        assert "warnings" not in daemon.ok("list_allocations")


@pytest.mark.parametrize("kind", ["directory", "pipe", "link", "huge"])
def test_later_state_that_is_no_file_stops_nothing(kind: str) -> None:
    with Daemon() as daemon:
        daemon.start()
        daemon.stop()
        path = daemon.data / "data" / "state.json"
        match kind:
            case "directory":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "link":
                path.symlink_to("/dev/zero")
            case _:
                with path.open("wb") as file:
                    file.truncate(1 << 40)
        daemon.start()
        assert len(daemon.ok("list_allocations")["warnings"]) == 1
        daemon.cores("svc", 2)


def test_imported_state_is_not_named_later() -> None:
    with Daemon() as daemon:
        old_state(daemon, with_cpus(allocations={"svc": "1,9"}))
        for end in (daemon.stop, daemon.kill, daemon.stop):
            daemon.start()
            assert "warnings" not in daemon.ok("list_allocations")
            end()


def test_records_that_own_nothing_are_left_out_and_named() -> None:
    with Daemon() as daemon:
        state = with_cpus(
            allocations={"good": "1", "": "2", "x" * 256: "3", "a\nb": "5", "none": ""},
            preemption_policies={"gone": "non-preemptive"},
            allocation_pools={"gone": "general"},
        ) | {
            "hugepages_db": {
                "allocations": {
                    "good": [
                        {"node_id": 0, "size_kb": 2048, "count": -5},
                        {"node_id": 1, "size_kb": 2048, "count": 2},
                    ]
                }
            }
        }
        path = old_state(daemon, state)
        daemon.start()
        assert daemon.claims() == {"good": {1}}
        memory = daemon.ok("get_memory_info")["numa_hugepages"]
        assert (memory["node0"]["allocations"], memory["node1"]["allocations"]) == ({}, {"good": {"2048": 2}})
        warnings = daemon.ok("list_allocations")["warnings"]
        assert len(warnings) == 7
        for warning, named in zip(
            warnings, ("''", "'xxx", "'a\N{REPLACEMENT CHARACTER}b'", "'none'", "'gone'", "'gone'", "-5"), strict=True
        ):
            assert named in warning
            assert str(path) in warning
            assert warning in daemon.log()
        assert daemon.cores("svc", 11) >= {2, 3, 5}


def test_imports_cpus_outside_the_pool() -> None:
    with Daemon() as daemon:
        old_state(daemon, with_cpus(allocations={"svc": "0-1,100"}))
        daemon.start()
        assert daemon.claims() == {"svc": {0, 1, 100}}
        assert daemon.ok("list_allocations")["cpu_pool"]["unavailable_allocated_cpus"] == "0,100"
        assert "release it first" in daemon.refused("allocate_cores", service_name="svc", num_of_cores=2)
        daemon.cores("svc", -1)
        assert daemon.claims() == {}


#: Mistake -> (the state, the text that the error must have).
MALFORMED: Final[dict[str, tuple[Any, str]]] = {
    "empty file": (b"", "state.json"),
    "not JSON": (b"{", "state.json"),
    "not UTF-8": (b'{"version": 1, "x": "\xff"}', "state.json"),
    "array": ([], "state.json"),
    "deep": (b"[" * 100_000, "state.json"),
    "version 2": ({"version": 2}, "version"),
    "allocations_db": ({"version": 1, "allocations_db": []}, "allocations_db"),
    "allocations": (with_cpus(allocations=["svc-1"]), "allocations"),
    "preemption_policies": (with_cpus(preemption_policies="x"), "preemption_policies"),
    "half a range": (with_cpus(allocations={"svc-1": "1-"}), "svc-1"),
    "range that falls": (with_cpus(allocations={"svc-1": "3-1"}), "svc-1"),
    "endless range": (with_cpus(allocations={"svc-1": "0-99999999999"}), "svc-1"),
    "bad explicit list": (with_cpus(allocations={"svc-1": "1-2"}, explicit_allocations={"svc-1": "1,x"}), "svc-1"),
    "explicit CPU that is not held": (
        with_cpus(allocations={"svc-1": "1-2"}, explicit_allocations={"svc-1": "3"}),
        "svc-1",
    ),
    "unknown policy": (with_cpus(allocations={"svc-1": "1"}, preemption_policies={"svc-1": "sometimes"}), "sometimes"),
    "unknown pool": (with_cpus(allocations={"svc-1": "1"}, allocation_pools={"svc-1": "swimming"}), "swimming"),
    "explicit CPUs without a claim": (
        with_cpus(allocations={"good": "1"}, explicit_allocations={"svc-1": "2"}),
        "svc-1",
    ),
    "two owners": (with_cpus(allocations={"svc-1": "1-3", "svc-2": "3,5"}), "svc-"),
    "pages as object": (with_pages({"svc-1": {"node_id": 0, "size_kb": 2048, "count": 4}}), "svc-1"),
    "count as text": (with_pages({"svc-1": [{"node_id": 0, "size_kb": 2048, "count": "4"}]}), "svc-1"),
    "count as fraction": (with_pages({"svc-1": [{"node_id": 0, "size_kb": 2048, "count": 4.5}]}), "svc-1"),
}

CHANGES: Final = [
    ("allocate_cores", {"num_of_cores": 1}),
    ("allocate_cores", {"num_of_cores": -1}),
    ("allocate_cores_percent", {"percent": 10}),
    ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 1}),
    ("allocate_hugepages", {"node_id": 0, "size_kb": 2048, "hugepages_requested": 1}),
]


@pytest.mark.parametrize(("state", "named"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_state_is_not_imported(state: Any, named: str) -> None:
    with Daemon() as daemon:
        path = old_state(daemon, state)
        content = path.read_bytes()
        daemon.start()
        listing = daemon.ok("list_allocations")
        assert daemon.claims() == {}, "no claim is imported"
        assert named in listing["state_error"]
        assert listing["remaining_available_cpus"] == 0
        assert all(not node["allocations"] for node in daemon.ok("get_memory_info")["numa_hugepages"].values())
        for action, fields in CHANGES:
            sentence = error_of(daemon.call(action, service_name="svc-9", **fields))
            assert named in sentence
            assert "state.json" in sentence
        assert path.read_bytes() == content
        assert named in daemon.log()


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_refuses_a_state_that_is_no_file(kind: str) -> None:
    with Daemon() as daemon:
        path = daemon.data / "data" / "state.json"
        path.parent.mkdir()
        if kind == "directory":
            path.mkdir()
        else:
            os.mkfifo(path)  # opening it would wait for a writer that never comes
        daemon.start()
        assert "state.json" in daemon.ok("list_allocations")["state_error"]
        assert "state.json" in error_of(daemon.call("allocate_cores", service_name="svc", num_of_cores=1))


def test_malformed_state_blocks_every_start() -> None:
    with Daemon() as daemon:
        path = old_state(daemon, with_cpus(allocations={"good": "1", "svc-1": "2-"}))
        content = path.read_bytes()
        for end in (daemon.stop, daemon.kill, daemon.stop):
            daemon.start()
            assert "svc-1" in daemon.ok("list_allocations")["state_error"]
            assert "svc-1" in error_of(daemon.call("allocate_cores", service_name="new", num_of_cores=1))
            end()
            assert path.read_bytes() == content


def test_corrected_state_is_imported() -> None:
    with Daemon() as daemon:
        old_state(daemon, with_cpus(allocations={"svc": "1-"}))
        daemon.start()
        daemon.stop()
        old_state(daemon, with_cpus(allocations={"svc": "1-2"}))
        daemon.start()
        assert daemon.claims() == {"svc": {1, 2}}
        daemon.cores("svc", 3)


def test_removed_state_no_longer_blocks() -> None:
    with Daemon() as daemon:
        path = old_state(daemon, b"")
        daemon.start()
        daemon.stop()
        path.unlink()
        daemon.start()
        assert daemon.claims() == {}
        daemon.cores("svc", 3)
