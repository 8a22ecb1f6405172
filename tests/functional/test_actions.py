# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`allocate_cores`, `allocate_cores_percent` and `list_allocations`: fields, sizes, owners and preemption policies."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import pytest

from tools.synthetic import Shape

from .harness import SMALL, Daemon, Json, Reused, decode, encode, format_cpus, parse_cpus, two_whole_cores

#: 128 CPUs in two nodes without SMT. Tests change which of them are isolated.
LARGE = Shape(packages=2, cores_per_l3=64, isolated="0-99")


@pytest.fixture(scope="module")
def reused_large() -> Iterator[Reused]:
    """A daemon on a large host."""
    with Reused(LARGE) as shared:
        yield shared


@pytest.fixture
def large(reused_large: Reused) -> Iterator[Daemon]:
    """The daemon on a large host, for one test, which sets the isolated CPUs."""
    with reused_large.lent() as lent:
        yield lent


def test_allocate_cores_answers_with_the_grant(daemon: Daemon) -> None:
    answer = daemon.ok("allocate_cores", service_name="svc", num_of_cores=4)
    cpus = parse_cpus(answer["allocated_cores"])
    assert len(cpus) == 4
    assert cpus <= daemon.host.isolated
    assert answer == {
        "version": "1.0",
        "service_name": "svc",
        "num_of_cores": 4,
        "cores_allocated": 4,
        "allocated_cores": format_cpus(cpus),
        "shared_cpus": format_cpus(daemon.host.isolated - cpus),
        "total_available_cpus": 12,
        "remaining_available_cpus": 8,
        "pool": "isolated",
        "preemption_policy": "legacy",
        "placement": two_whole_cores(0),
    }
    assert daemon.entry("svc") == {
        "service_name": "svc",
        "pool": "isolated",
        "allocated_cores": format_cpus(cpus),
        "cores_count": 4,
        "is_explicit": False,
        "preemption_policy": "legacy",
    }


def test_release_answers_with_no_cpus(daemon: Daemon) -> None:
    daemon.cores("other", 2)
    daemon.cores("svc", 4, preemption_policy="non-preemptive")
    expected = {
        "version": "1.0",
        "service_name": "svc",
        "num_of_cores": 0,
        "cores_allocated": 0,
        "allocated_cores": "",
        "shared_cpus": format_cpus(daemon.host.isolated - daemon.claims()["other"]),
        "total_available_cpus": 12,
        "remaining_available_cpus": 10,
        "pool": "isolated",
        "preemption_policy": None,
    }
    assert daemon.ok("allocate_cores", service_name="svc", num_of_cores=-1) == expected
    assert set(daemon.claims()) == {"other"}
    # A second release has nothing left to release, which is no error.
    assert daemon.ok("allocate_cores", service_name="svc", num_of_cores=-1) == expected


def test_release_includes_claims_by_node(daemon: Daemon) -> None:
    daemon.numa("svc", 0, 2)
    daemon.numa("svc", 1, 3)
    daemon.cores("svc", -1)
    assert daemon.claims() == {}


def test_percent_answers_with_the_grant(daemon: Daemon) -> None:
    answer = daemon.ok("allocate_cores_percent", service_name="svc", percent=30)
    cpus = parse_cpus(answer["allocated_cores"])
    assert len(cpus) == 4, "ceil(3.6)"
    assert answer == {
        "version": "1.0",
        "service_name": "svc",
        "cores_allocated_count": 4,
        "allocated_cores": format_cpus(cpus),
        "total_available_cpus": 12,
        "remaining_available_cpus": 8,
        "pool": "isolated",
        "preemption_policy": "legacy",
        "placement": two_whole_cores(0),
    }
    assert daemon.claims() == {"svc": cpus}
    assert daemon.entry("svc")["is_explicit"] is False


@pytest.mark.parametrize("percent", [0, -1])
def test_percent_below_one_releases(daemon: Daemon, percent: int) -> None:
    daemon.numa("svc", 0, 2)
    daemon.numa("svc", 1, 2)
    for _ in range(2):
        assert daemon.ok("allocate_cores_percent", service_name="svc", percent=percent) == {
            "version": "1.0",
            "service_name": "svc",
            "cores_allocated_count": 0,
            "allocated_cores": "",
            "total_available_cpus": 12,
            "remaining_available_cpus": 12,
            "pool": "isolated",
            "preemption_policy": None,
        }
        assert daemon.claims() == {}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"version": None},  # left out
        {"num_of_cores": None},  # left out: the default size, 9 of 12
        {"numa_node": 0},  # replaced by null, which an older hypervisor sends
        {"pool": "isolated", "preemption_policy": None},
        {"extra": {"a": [1, 2.5, None]}, "percent": "x", "node_id": -7},
    ],
    ids=["plain", "no version", "no number", "null node", "all given", "unknown fields"],
)
def test_accepts_optional_and_unknown_fields(daemon: Daemon, fields: dict[str, Any]) -> None:
    request: Json = {"version": "1.0", "service_name": "svc", "num_of_cores": 9}
    for name, value in fields.items():
        if name in ("version", "num_of_cores"):
            del request[name]
        else:
            request[name] = None if name == "numa_node" else value
    version = request.pop("version", None)
    raw = encode("allocate_cores", request)
    if version is None:
        raw = raw.replace(b'"version": "1.0", ', b"")
        assert b"version" not in raw
    answer = decode(daemon.request(raw))
    assert answer["cores_allocated"] == 9
    assert answer["num_of_cores"] == (0 if "num_of_cores" in fields else 9)


def test_accepts_long_and_unusual_service_names(daemon: Daemon) -> None:
    names = {"x", "x" * 255, "\N{GRINNING FACE}" * 255, "a b", "ovs-dpdk@1.service", "'\"\\; --"}
    for name in names:
        assert daemon.ok("allocate_cores", service_name=name, num_of_cores=1)["service_name"] == name
        daemon.pages(name, 0, 2048, 1)
        assert daemon.ok("get_memory_info", service_name=name)["service_name"] == name
    before = daemon.snapshot()
    assert set(daemon.claims()) == names
    assert daemon.ok("get_memory_info")["numa_hugepages"]["node0"]["allocations"] == {
        name: {"2048": 1} for name in names
    }
    daemon.restart()
    assert daemon.snapshot() == before


@pytest.mark.parametrize(
    ("isolated", "expected"), [(1, 1), (2, 1), (3, 2), (10, 8), (99, 79), (100, 80), (101, 85), (128, 112)]
)
def test_default_size_depends_on_the_isolated_cpus(large: Daemon, isolated: int, expected: int) -> None:
    large.host.set_isolated(range(isolated))
    answer = large.ok("allocate_cores", service_name="svc", num_of_cores=0)
    assert (answer["num_of_cores"], answer["cores_allocated"]) == (0, expected)
    assert answer["total_available_cpus"] == isolated
    # The hypervisor repeats the request on every configure, and gets the same CPUs.
    assert large.ok("allocate_cores", service_name="svc", num_of_cores=0) == answer


def test_default_size_counts_free_and_own_cpus(daemon: Daemon) -> None:
    daemon.cores("other", 2)
    first = daemon.cores("svc", 0)
    assert len(first) == 8, "floor(0.8 * 10)"
    daemon.cores("other", -1)
    assert len(daemon.cores("svc", 0)) == 9
    assert len(daemon.cores("third", 0)) == 2, "floor(0.8 * 3)"


def test_default_size_is_refused_when_nothing_is_free(daemon: Daemon) -> None:
    daemon.cores("other", 12)
    assert "Available: 0" in daemon.refused("allocate_cores", service_name="svc", num_of_cores=0)


def test_percent_rounds_up_exactly(large: Daemon) -> None:
    # In floating point, 0.07 * 100 is a little more than 7, and 0.29 * 100 a little less than 29.
    for isolated in (100, 50, 128):
        large.host.set_isolated(range(isolated))
        for percent in range(1, 101):
            answer = large.ok("allocate_cores_percent", service_name="svc", percent=percent)
            assert answer["cores_allocated_count"] == ceil(percent * isolated / 100 - 1e-9), (percent, isolated)
        large.cores("svc", -1)


def test_percent_counts_eligible_cpus(daemon: Daemon) -> None:
    daemon.host.set_offline({1, 9})
    for name in ("a", "b"):
        answer = daemon.ok("allocate_cores_percent", service_name=name, percent=50)
        assert answer["cores_allocated_count"] == 5
        assert answer["total_available_cpus"] == 10
    expected = "Insufficient CPUs available. Requested: 1, Available: 0"
    assert daemon.refused("allocate_cores_percent", service_name="c", percent=1) == expected


@pytest.mark.parametrize("held", [0, 5])
def test_refusal_names_requested_and_available_cpus(daemon: Daemon, held: int) -> None:
    daemon.cores("other", 3)
    if held:
        daemon.cores("svc", held)
    for count in (10, 13, 1000, 2**31 - 1):
        assert daemon.refused("allocate_cores", service_name="svc", num_of_cores=count) == (
            f"Insufficient CPUs available. Requested: {count}, Available: 9"
        )
    assert daemon.refused("allocate_cores_percent", service_name="svc", percent=100) == (
        "Insufficient CPUs available. Requested: 12, Available: 9"
    )


def test_allocate_cores_never_reclaims(daemon: Daemon) -> None:
    daemon.cores("legacy", 12)
    assert daemon.refused("allocate_cores", service_name="svc", num_of_cores=1) == (
        "Insufficient CPUs available. Requested: 1, Available: 0"
    )


@pytest.fixture(params=["empty file", "no file"])
def empty(request: pytest.FixtureRequest, daemon: Daemon) -> Daemon:
    """A daemon on a host that isolates no CPU."""
    daemon.host.set_isolated(())
    if request.param == "no file":
        daemon.host.remove("devices/system/cpu/isolated")
    return daemon


def test_empty_pool_grants_nothing(empty: Daemon) -> None:
    expected = "No CPUs available: No Isolated CPUs configured"
    for count in (0, 1, 100):
        assert empty.refused("allocate_cores", service_name="svc", num_of_cores=count) == expected
    assert empty.refused("allocate_cores_percent", service_name="svc", percent=50) == expected
    assert empty.refused("allocate_numa_cores", service_name="svc", numa_node=0, num_of_cores=1) == expected


def test_empty_pool_accepts_releases(empty: Daemon) -> None:
    for answer in (
        empty.ok("allocate_cores", service_name="svc", num_of_cores=-1),
        empty.ok("allocate_cores_percent", service_name="svc", percent=0),
    ):
        assert answer["allocated_cores"] == ""
        assert answer["total_available_cpus"] == answer["remaining_available_cpus"] == 0


def test_empty_pool_is_listed(empty: Daemon) -> None:
    listing = empty.ok("list_allocations")
    assert listing["cpu_pool"]["configured_cpus"] == ""
    assert listing["total_available_cpus"] == 0


def test_repeated_request_changes_nothing(daemon: Daemon) -> None:
    daemon.cores("other", 3)
    for request in (
        ("allocate_cores", {"num_of_cores": 5}),
        ("allocate_cores", {"num_of_cores": 0}),
        ("allocate_cores_percent", {"percent": 40}),
    ):
        first = daemon.ok(request[0], service_name="svc", **request[1])
        before = daemon.snapshot()
        assert daemon.ok(request[0], service_name="svc", **request[1]) == first
        assert daemon.snapshot() == before


def test_growing_claim_keeps_its_cpus(daemon: Daemon) -> None:
    daemon.cores("other", 2)
    held = daemon.cores("svc", 1)
    for count in range(2, 11):
        grown = daemon.cores("svc", count)
        assert held < grown
        assert len(grown) == count
        held = grown
    assert daemon.claims()["svc"] == held


def test_shrinking_claim_keeps_some_of_its_cpus(daemon: Daemon) -> None:
    daemon.cores("other", 2)
    held = daemon.cores("svc", 10)
    for count in range(9, 0, -1):
        shrunk = daemon.cores("svc", count)
        assert shrunk < held
        assert len(shrunk) == count
        held = shrunk
    assert daemon.claims()["svc"] == held


def test_resize_leaves_other_claims_alone(daemon: Daemon) -> None:
    services = {name: daemon.cores(name, 2) for name in "abcdef"}
    daemon.cores("b", -1)
    daemon.cores("d", -1)
    assert daemon.cores("a", 6) > services["a"]
    assert daemon.cores("a", 2) < daemon.cores("a", 6)
    for name in "cef":
        assert daemon.claims()[name] == services[name]


@pytest.mark.parametrize("first", [1, 2, 3, 5, 6, 8])
def test_growing_into_released_cpus_keeps_own_cpus(daemon: Daemon, first: int) -> None:
    # A new request would get other CPUs than those that the service holds.
    daemon.cores("other", first)
    held = daemon.cores("svc", 3)
    daemon.cores("other", -1)
    assert daemon.cores("svc", 3) == held
    for count in (4, 6, 7, 12):
        grown = daemon.cores("svc", count)
        assert held < grown
        held = grown
    for count in (7, 6, 4, 1):
        shrunk = daemon.cores("svc", count)
        assert shrunk < held
        held = shrunk


def test_claims_fill_one_node_with_whole_cores(daemon: Daemon) -> None:
    assert daemon.cores("four", 4) == {1, 2, 9, 10}
    assert daemon.cores("two", 2) == {3, 11}
    assert daemon.cores("six", 6) == daemon.host.isolated_in(1)


def test_single_cpus_get_separate_cores(daemon: Daemon) -> None:
    # Six cores are isolated.
    cores = [daemon.host.core_of(*daemon.cores(f"svc-{number}", 1)) for number in range(6)]
    assert len(set(cores)) == 6


def test_shared_cores_are_granted_when_no_core_is_free(daemon: Daemon) -> None:
    for number in range(6):
        daemon.cores(f"svc-{number}", 1)
    assert len(daemon.cores("late", 6)) == 6


def test_allocate_cores_ends_explicitness(daemon: Daemon) -> None:
    pinned = daemon.numa("svc", 0, 2) | daemon.numa("svc", 1, 2)
    assert daemon.entry("svc")["is_explicit"] is True
    assert daemon.cores("svc", 4) == pinned
    assert daemon.entry("svc")["is_explicit"] is False


def test_listing_of_no_claims(daemon: Daemon) -> None:
    assert daemon.ok("list_allocations") == {
        "version": "1.0",
        "pool": "isolated",
        "total_allocations": 0,
        "total_allocated_cpus": 0,
        "total_available_cpus": 12,
        "remaining_available_cpus": 12,
        "cpu_pool": {
            "source": "isolated",
            "configured_cpus": "1-3,5-7,9-11,13-15",
            "eligible_cpus": "1-3,5-7,9-11,13-15",
            "unavailable_allocated_cpus": "",
        },
        "supported_cpu_features": [
            "non-preemptive-allocations",
            "cpu-pools",
            "placement",
            "placement-hints",
            "dry-run",
            "explain",
            "may-take",
            "get-machine",
            "watch",
            "get-history",
            "get-claim",
            "make-room",
            "get-isolation",
        ],
        "outdated_placements": [],
        "allocations": [],
    }


def test_listing_sorts_services_by_name(daemon: Daemon) -> None:
    for name in ("b", "a", "é", "B", "10", "9"):
        daemon.cores(name, 1)
    listing = daemon.ok("list_allocations")
    assert [entry["service_name"] for entry in listing["allocations"]] == ["10", "9", "B", "a", "b", "é"]


def test_listing_describes_each_claim(daemon: Daemon) -> None:
    plain = daemon.cores("b", 2)
    by_node = daemon.numa("a", 1, 3, preemption_policy="non-preemptive")
    listing = daemon.ok("list_allocations")
    assert listing["allocations"] == [
        {
            "service_name": "a",
            "pool": "isolated",
            "allocated_cores": format_cpus(by_node),
            "cores_count": 3,
            "is_explicit": True,
            "preemption_policy": "non-preemptive",
        },
        {
            "service_name": "b",
            "pool": "isolated",
            "allocated_cores": format_cpus(plain),
            "cores_count": 2,
            "is_explicit": False,
            "preemption_policy": "legacy",
        },
    ]
    assert (listing["total_allocations"], listing["total_allocated_cpus"]) == (2, 5)
    assert listing["remaining_available_cpus"] == 7


def test_listing_ignores_the_service_name(daemon: Daemon) -> None:
    daemon.cores("svc", 2)
    plain = daemon.ok("list_allocations")
    assert daemon.ok("list_allocations", service_name="anybody", pool="isolated") == plain
    assert daemon.ok("list_allocations", service_name="svc") == plain
    assert "error" not in decode(daemon.request(b'{"action":"list_allocations"}'))


ALLOCATIONS = [
    ("allocate_cores", {"num_of_cores": 2}),
    ("allocate_cores_percent", {"percent": 20}),
    ("allocate_numa_cores", {"numa_node": 0, "num_of_cores": 2}),
]


@pytest.mark.parametrize(("action", "fields"), ALLOCATIONS)
@pytest.mark.parametrize("inherit", [{}, {"preemption_policy": None}], ids=["left out", "null"])
def test_claim_keeps_its_preemption_policy(daemon: Daemon, action: str, fields: Json, inherit: Json) -> None:
    assert daemon.ok(action, service_name="new", **fields, **inherit)["preemption_policy"] == "legacy"
    protected = {"service_name": "svc", "preemption_policy": "non-preemptive"}
    assert daemon.ok(action, **fields, **protected)["preemption_policy"] == "non-preemptive"
    for other_action, other_fields in ALLOCATIONS:
        answer = daemon.ok(other_action, service_name="svc", **other_fields, **inherit)
        assert answer["preemption_policy"] == "non-preemptive"
    assert daemon.entry("svc")["preemption_policy"] == "non-preemptive"
    assert daemon.entry("new")["preemption_policy"] == "legacy"


@pytest.mark.parametrize(("action", "fields"), ALLOCATIONS)
def test_claim_cannot_become_legacy_again(daemon: Daemon, action: str, fields: Json) -> None:
    daemon.numa("svc", 0, 2, preemption_policy="non-preemptive")
    found = daemon.refused(action, service_name="svc", preemption_policy="legacy", **fields)
    assert "legacy" in found
    assert "non-preemptive" in found
    daemon.cores("svc", -1)
    assert daemon.ok(action, service_name="svc", **fields)["preemption_policy"] == "legacy"


# 20 % of 12 CPUs are 3 CPUs; two CPUs of node 0 come on top of three in node 1.
@pytest.mark.parametrize(
    ("action", "fields", "kept", "count"),
    [(*allocation, *sizes) for allocation, sizes in zip(ALLOCATIONS, [(2, 2), (3, 3), (3, 5)], strict=True)],
)
def test_becoming_non_preemptive_keeps_the_cpus(
    daemon: Daemon, action: str, fields: Json, kept: int, count: int
) -> None:
    held = daemon.numa("svc", 1, 3)
    daemon.ok(action, service_name="svc", preemption_policy="non-preemptive", **fields)
    assert daemon.entry("svc")["preemption_policy"] == "non-preemptive"
    now = daemon.claims()["svc"]
    assert (len(held & now), len(now)) == (kept, count)


def test_refused_request_does_not_set_the_preemption_policy(daemon: Daemon) -> None:
    daemon.cores("svc", 2)
    daemon.refused("allocate_cores", service_name="svc", num_of_cores=13, preemption_policy="non-preemptive")
    assert daemon.entry("svc")["preemption_policy"] == "legacy"


def test_default_preemption_policy_is_a_setting() -> None:
    with Daemon(SMALL, {"default-preemption-policy": "non-preemptive"}) as daemon:
        daemon.start()
        daemon.cores("svc", 2)
        assert daemon.entry("svc")["preemption_policy"] == "non-preemptive"
        daemon.cores("old", 2, preemption_policy="legacy")
        assert daemon.entry("old")["preemption_policy"] == "legacy"


def test_settings_change_the_default_size() -> None:
    settings = {"default-allocation-percent": 50, "large-system-threshold": 8, "large-system-reserved-cpus": 5}
    with Daemon(SMALL, settings) as daemon:
        daemon.start()
        assert len(daemon.cores("svc", 0)) == 7, "12 - 5"
        assert len(daemon.cores("other", 0)) == 2, "floor(0.5 * 5)"
