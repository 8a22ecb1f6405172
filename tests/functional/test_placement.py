"""Placement over the wire: every option and wish, dry runs, explanations, and that no setting moves a claim."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, get_args

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import SysfsTree
from epa_orchestrator.placement import policy
from epa_orchestrator.state.store import SCHEMA_VERSION
from tests.machines import real_machine_files, write_real_machine
from tools.synthetic import Shape

from .harness import MEMORY, PATIENCE, Daemon, Json, Reused, error_of, format_cpus, parse_cpus, wait_until
from .test_peers import UID, ask_as

Request: TypeAlias = tuple[str, Json]
Value: TypeAlias = str | bool | int

# Two packages, each one node with two L3 domains of two cores; CPUs n and n + 8 share a core:
#   node 0: {0,1,8,9} {2,3,10,11}; node 1: {4,5,12,13} {6,7,14,15}
EIGHT: Final = Shape(2, 1, 2, 2, 2, isolated="0-15", hugepages={2048: (64, 64)})
#: One L3 domain of four cores of two threads, n and n + 4.
CORES: Final = Shape(1, 1, 1, 4, 2, isolated="0-7")
#: Sub-NUMA clustering: nodes 0-3 and 4-7 below one L3.
CLUSTERS: Final = Shape(1, 2, 1, 4, 1, l3_scope="package", isolated="0-7")
#: One node, the L3 domains 0-3 and 4-7.
CACHES: Final = Shape(1, 1, 2, 4, 1, isolated="0-7")
#: Nodes 0-3 and 4-7, each a package, and 0-5 and 6-11.
NODES: Final = Shape(2, 1, 1, 4, 1, isolated="0-7")
WIDE_NODES: Final = Shape(2, 1, 1, 6, 1, isolated="0-11")
#: Three packages of two CPUs: the first and the last are the closest.
CHAIN: Final = Shape(3, 1, 1, 2, 1, isolated="0-5", distances=((10, 30, 20), (30, 10, 30), (20, 30, 10)))
#: As CORES, with the first core left to the system.
SYSTEM: Final = Shape(1, 1, 1, 4, 2, isolated="1-3,5-7")
FOUR: Final = Shape(1, 1, 1, 4, 1, isolated="0-3")


def cores(count: int, **more: Any) -> Request:
    return "allocate_cores", {"num_of_cores": count, **more}


def numa(node: int, count: int, **more: Any) -> Request:
    return "allocate_numa_cores", {"numa_node": node, "num_of_cores": count, **more}


def percent(share: int, **more: Any) -> Request:
    return "allocate_cores_percent", {"percent": share, **more}


def outcome(answer: Json) -> str:
    """The CPUs of an answer and those withheld beside them, or which option refused."""
    if "error" in answer:
        rule = re.search(r"([a-z][a-z0-9_-]+)=", answer["error"])
        return f"refused by {rule[1].replace('_', '-')}" if rule else "refused"
    cpus = answer["allocated_cores" if "allocated_cores" in answer else "cores_allocated"]
    kept = answer.get("placement", {}).get("withheld_cpus")
    return f"{cpus} beside {kept}" if kept else cpus


def ask(daemon: Daemon, request: Request, **more: Any) -> Json:
    return daemon.call(request[0], **{"service_name": "svc", **request[1], **more})


NUMA_REFUSES: Final = "refused by numa-policy"
THREADS_REFUSE: Final = "refused by cpu-thread-policy"
CACHES_REFUSE: Final = "refused by uncore-cache-alignment"


class Case(NamedTuple):
    """A request while others and `svc` itself hold CPUs, and what it gets by each value of an option."""

    option: str
    shape: Shape
    held: dict[str, str]
    request: Request
    expected: dict[Value, str]
    also: Json = {}  # noqa: RUF012  # nobody changes it


OTHER_HALVES: Final = {"other": "2-3,6-7,10-11,14-15"}

CASES: Final = [
    # Six CPUs would fit an empty node; four are free in each.
    Case("numa-policy", EIGHT, OTHER_HALVES, cores(6), {
        "best-effort": "0-1,4,8-9,12", "none": "0-1,4,8-9,12",
        "restricted": NUMA_REFUSES, "single-numa-node": NUMA_REFUSES}),
    # Only the second node has four.
    Case("numa-policy", CLUSTERS, {"other": "0"}, cores(4), {
        "best-effort": "4-7", "none": "1-4", "restricted": "4-7", "single-numa-node": "4-7"}),
    # No node ever has five.
    Case("numa-policy", CLUSTERS, {"other": "0"}, cores(5), {
        "best-effort": "1-5", "none": "1-5", "restricted": "1-5", "single-numa-node": NUMA_REFUSES}),
    # The first node has four left, the second all six.
    Case("numa-allocation-strategy", WIDE_NODES, {"other": "0-1"}, cores(2), {
        "packed": "2-3", "spread": "6-7", "distribute": "2-3"}),
    Case("numa-allocation-strategy", WIDE_NODES, {}, cores(8), {
        "packed": "0-7", "spread": "0-7", "distribute": "0-3,6-9"}),
    Case("prefer-closest-numa-nodes", CHAIN, {}, cores(4), {True: "0-1,4-5", False: "0-3"}),
    Case("uncore-cache-alignment", CACHES, {"other": "0"}, cores(4), {
        "prefer": "4-7", "none": "1-4", "require": "4-7"}),
    Case("uncore-cache-alignment", CACHES, {"other": "0,4"}, cores(4), {
        "prefer": "1-3,5", "none": "1-3,5", "require": CACHES_REFUSE}),
    Case("cpu-thread-policy", CORES, {"other": "0"}, cores(1), {
        "prefer": "1", "share": "4", "require": THREADS_REFUSE, "isolate": "1 beside 5"}),
    Case("cpu-thread-policy", CORES, {"other": "0"}, cores(2), {
        "prefer": "1,5", "share": "1,4", "require": "1,5", "isolate": "1-2 beside 5-6"}),
    Case("cpu-distribution", EIGHT, {}, cores(4), {"packed": "0-1,8-9", "cores": "0-3", "caches": "0,2,8,10"}),
    Case("prefer-core-type", FOUR, {}, cores(2), {"none": "0-1", "performance": "1-2", "efficiency": "0,3"}),
    Case("numa-reclaim", NODES, {"other": "0-1"}, numa(0, 2), {"if-needed": "2-3", "always": "0-1", "never": "2-3"}),
    Case("numa-reclaim", NODES, {"other": "0-1"}, numa(0, 3), {
        "if-needed": "0,2-3", "always": "0-2", "never": "refused"}),
    Case("resize-policy", WIDE_NODES, {"svc": "3"}, cores(2), {"in-place": "0,3", "reallocate": "0-1"}),
    Case("resize-policy", WIDE_NODES, {"svc": "3"}, cores(1), {"in-place": "3", "reallocate": "0"}),
    Case("resize-policy", WIDE_NODES, {"svc": "3"}, numa(0, 3), {"in-place": "0-1,3", "reallocate": "0-2"}),
    Case("default-allocation-percent", CACHES, {}, cores(0), {80: "0-5", 50: "0-3", 100: "0-7", 1: "0"}),
    Case("large-system-threshold", CACHES, {}, cores(0), {100: "0-5", 8: "0-5", 7: "0-4"},
         {"large-system-reserved-cpus": 3}),
    Case("large-system-reserved-cpus", CACHES, {}, cores(0), {16: "0", 3: "0-4", 0: "0-7"},
         {"large-system-threshold": 7}),
    Case("reserved-cpus", CORES, {}, cores(2), {"": "0,4", "0": "1,5", "0-3": "4-5"}),
    Case("cpu-pool", SYSTEM, {}, cores(1, pool="general"), {
        "": "refused", "0,4": "0", "4": "4"}),
]  # fmt: skip

#: What each option that shapes placement can be.
VALUES: Final[dict[str, tuple[Value, ...]]] = {
    "numa-policy": get_args(policy.NumaPolicy),
    "numa-allocation-strategy": get_args(policy.NumaAllocationStrategy),
    "prefer-closest-numa-nodes": (True, False),
    "uncore-cache-alignment": get_args(policy.UncoreCacheAlignment),
    "cpu-thread-policy": get_args(policy.CpuThreadPolicy),
    "cpu-distribution": get_args(policy.CpuDistribution),
    "prefer-core-type": get_args(policy.PreferCoreType),
    "numa-reclaim": ("if-needed", "always", "never"),
    "resize-policy": ("in-place", "reallocate"),
}

CONTRADICTIONS: Final = [
    {"cpu-thread-policy": "require", "cpu-distribution": "cores"},
    {"uncore-cache-alignment": "require", "numa-allocation-strategy": "distribute"},
    {"uncore-cache-alignment": "require", "cpu-distribution": "caches"},
]


@pytest.fixture(scope="module", autouse=True)
def in_memory() -> Iterator[None]:
    """What a disk keeps is not the matter here, and memory is faster."""
    before, tempfile.tempdir = tempfile.tempdir, str(MEMORY) if MEMORY.is_dir() else None
    yield
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def reused(in_memory: None) -> Iterator[Reused]:
    with Reused(EIGHT) as shared:
        yield shared


def write(daemon: Daemon, path: str, text: str) -> None:
    """A file in sysfs that stays whatever else the machine becomes."""
    target = daemon.host.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n")


def write_core_types(daemon: Daemon) -> None:
    """On FOUR, the CPUs 1 and 2 are fast ones."""
    if daemon.host.isolated == {0, 1, 2, 3}:
        for cpu, capacity in enumerate((300, 1024, 1024, 300)):
            write(daemon, f"devices/system/cpu/cpu{cpu}/cpu_capacity", str(capacity))


def begin(daemon: Daemon, held: dict[str, str]) -> None:
    """Nothing but these claims, made under the default settings."""
    daemon.release_everything()
    for service, cpus in held.items():
        daemon.hold(service, cpus)


def test_all_values_have_a_case() -> None:
    for option, values in VALUES.items():
        told = {value: {case.expected[value] for case in CASES if case.option == option} for value in values}
        assert all(told.values())
        answers = [tuple(case.expected[value] for case in CASES if case.option == option) for value in values]
        assert len(set(answers)) == len(values), f"two values of {option} give the same answers everywhere"


SHAPES: Final = {
    "eight": EIGHT, "cores": CORES, "clusters": CLUSTERS, "caches": CACHES, "nodes": NODES, "wide nodes": WIDE_NODES,
    "chain": CHAIN, "four": FOUR, "system": SYSTEM,
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_options(shape: Shape) -> None:
    """By each value after a SIGHUP, first as a dry run; by the last value also when the daemon starts with it."""
    with Daemon(shape) as daemon:
        write_core_types(daemon)
        daemon.start()
        restarted: set[str] = set()
        for case in CASES:
            for value, expected in case.expected.items() if case.shape is shape else ():
                settings = case.also | {case.option: value}
                daemon.reload({"cpu-pool": "0,4"} if shape is SYSTEM else {})
                begin(daemon, case.held)
                daemon.reload(settings)
                assert outcome(ask(daemon, case.request, dry_run=True)) == expected, settings
                if value == list(case.expected)[-1] and case.option not in restarted:
                    restarted.add(case.option)
                    daemon.restart()
                assert outcome(ask(daemon, case.request)) == expected, settings


def test_default_preemption_policy(daemon: Daemon) -> None:
    for value in ("non-preemptive", "legacy"):
        daemon.reload({"default-preemption-policy": value})
        assert ask(daemon, cores(2, service_name=value))["preemption_policy"] == value
    protected = daemon.claims()["non-preemptive"]
    daemon.numa("taker", 0, 6)
    assert daemon.claims() == {"non-preemptive": protected, "taker": {0, 1, 2, 3, 8, 9, 10, 11} - protected}


def test_reserved_hugepages(daemon: Daemon) -> None:
    for reserved, free in (("", 64), ("0:2048:60", 4), ("1:2048:60", 64)):
        daemon.reload({"reserved-hugepages": reserved})
        assert daemon.free_pages(0, 2048) == free
        assert daemon.ok("allocate_hugepages", service_name="a", node_id=0, size_kb=2048, hugepages_requested=free)
        daemon.pages("a", 0, 2048, -1)
        daemon.refused("allocate_hugepages", service_name="a", node_id=0, size_kb=2048, hugepages_requested=free + 1)


# --- pairs -------------------------------------------------------------------------------------------------------


def contradict(settings: Json) -> bool:
    return any(settings.items() >= pair.items() for pair in CONTRADICTIONS)


def covering() -> list[Json]:
    """Settings of all options such that every pair of values that does not contradict each other is in one of them."""
    items = [(option, value) for option, values in ALL_VALUES.items() for value in values]
    missing = {
        frozenset((one, other))
        for one, other in itertools.combinations(items, 2)
        if one[0] != other[0] and not contradict(dict((one, other)))
    }
    found: list[Json] = []
    while missing:
        chosen = dict(sorted(min(missing, key=lambda pair: sorted(map(str, pair)))))
        for option, values in ALL_VALUES.items():
            if option not in chosen:
                fitting = [value for value in values if not contradict(chosen | {option: value})]
                chosen[option] = max(
                    fitting,
                    key=lambda value: sum(frozenset(((option, value), item)) in missing for item in chosen.items()),
                )
        missing -= {frozenset(pair) for pair in itertools.combinations(chosen.items(), 2)}
        found.append(chosen)
    return found


ALL_VALUES: Final[dict[str, tuple[Value, ...]]] = VALUES | {
    "default-allocation-percent": (80, 50),
    "large-system-threshold": (100, 4),
    "large-system-reserved-cpus": (4, 2),
    "default-preemption-policy": ("legacy", "non-preemptive"),
    "reserved-hugepages": ("", "0:2048:8"),
    "reserved-cpus": ("", "3"),
    "max-services": (2048, 1),
    "max-hugepage-records": (8192, 1),
    "cpu-pool": ("", "0,8"),
}


def test_every_pair_of_values_serves_requests() -> None:
    with Daemon(Shape(2, 1, 2, 2, 2, isolated="1-7,9-15")) as daemon:
        daemon.start()
        every = covering()
        assert len(every) < 60
        for settings in every:
            daemon.reload(settings)
            answer = ask(daemon, cores(0))
            refused = NUMA_REFUSES if settings["numa-policy"] == "single-numa-node" else None
            assert outcome(answer) == refused or "error" not in answer, (settings, answer)
            ask(daemon, cores(-1))
            # Two or four CPUs are whole cores, or threads with a sibling to withhold: every policy has room for them.
            requests = [cores(2), numa(0, 2), percent(14), numa(1, 4), percent(10), cores(4)]
            if settings["cpu-pool"]:
                requests.append(cores(1 if settings["cpu-thread-policy"] == "isolate" else 2, pool="general"))
            for request in requests:
                answer = ask(daemon, request)
                assert "error" not in answer, (settings, request, answer)
                held = parse_cpus(outcome(answer).partition(" ")[0])
                assert daemon.claims(request[1].get("pool", "isolated")) == {"svc": held}
                assert outcome(ask(daemon, request)) == outcome(answer)
                daemon.release_everything()


@pytest.mark.parametrize("pair", CONTRADICTIONS, ids=[" ".join(pair.values()) for pair in CONTRADICTIONS])
def test_contradictory_pairs_are_refused(daemon: Daemon, pair: Json) -> None:
    """On reload they change nothing, at the start the daemon gives up; each time a sentence names both."""
    before = outcome(ask(daemon, cores(5), dry_run=True))
    said = len(daemon.log())
    daemon.configure(pair)
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "stay as they are" in daemon.log()[said:], "it is told")
    assert outcome(ask(daemon, cores(5), dry_run=True)) == before
    daemon.stop()
    assert daemon.launch().wait() > 0
    for log in (daemon.log(), daemon.log()):
        (line,) = [line for line in log.splitlines() if "contradict" in line]
        for option, value in pair.items():
            assert f"{option}={value}" in line


# --- dry runs ----------------------------------------------------------------------------------------------------


def tables(daemon: Daemon) -> dict[str, list[Any]]:
    """All that is on disk."""
    with sqlite3.connect(f"file:{daemon.common / 'state.db'}?mode=ro", uri=True) as db:
        found = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in ("claim", "hugepages", "event")}
    db.close()
    return found


def history(daemon: Daemon) -> list[Json]:
    shown = subprocess.run(
        [sys.executable, "-m", "epa_orchestrator", "history", "--json", "--limit", "9999"],
        env=daemon.environment, capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    return json.loads(shown.stdout)


DRY_RUNS: Final = [
    cores(3), cores(0), cores(5, preemption_policy="non-preemptive"), percent(20), numa(1, 2), numa(0, 6),
    cores(4, cpu_thread_policy="isolate"), cores(2, near=1), numa(1, 2, uncore_cache_alignment="none"),
    cores(-1), percent(0), numa(0, -1), cores(-1, service_name="nobody"),
]  # fmt: skip


@pytest.mark.parametrize("request_", DRY_RUNS, ids=[json.dumps(fields) for _, fields in DRY_RUNS])
def test_dry_run(daemon: Daemon, request_: Request) -> None:
    begin(daemon, {"other": "0-1", "svc": "2"})
    before = daemon.snapshot(), tables(daemon)
    dry = ask(daemon, request_, dry_run=True)
    assert dry["dry_run"] is True
    assert (daemon.snapshot(), tables(daemon)) == before
    real = ask(daemon, request_)
    assert dry == real | {"dry_run": True}
    assert "dry_run" not in ask(daemon, request_, dry_run=False)


def test_dry_runs_leave_no_history(daemon: Daemon) -> None:
    daemon.cores("svc", 2)
    before = history(daemon)
    for request in DRY_RUNS:
        ask(daemon, request, dry_run=True)
    assert history(daemon) == before
    daemon.cores("svc", 3)
    assert len(history(daemon)) == len(before) + 1


REFUSED: Final = [
    cores(17), cores(-2), cores(2, pool="general"), percent(101), numa(9, 1), numa(0, 9), numa(0, 0),
    cores(9, numa_policy="single-numa-node"), cores(2, near=9), cores(1, cpu_thread_policy="require"),
    cores(2, dry_run="yes"), cores(2, dry_run=1), cores(2, explain="no"),
]  # fmt: skip


@pytest.mark.parametrize("request_", REFUSED, ids=[json.dumps(fields) for _, fields in REFUSED])
def test_refused_dry_run(daemon: Daemon, request_: Request) -> None:
    begin(daemon, {"other": "0"})
    action, fields = request_
    real = daemon.refused(action, service_name="svc", **fields)
    assert daemon.refused(action, service_name="svc", **({"dry_run": True} | fields)) == real


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("request_", [cores(2), percent(10), numa(0, 1), cores(-1)], ids=str)
def test_dry_run_by_a_stranger(daemon: Daemon, request_: Request) -> None:
    daemon.base.chmod(0o755)
    daemon.data.chmod(0o755)
    action, fields = request_
    sentences = [
        error_of(ask_as(daemon, action, {"service_name": "svc", **fields, **more})[1])
        for more in ({}, {"dry_run": True}, {"dry_run": True, "explain": True})
    ]
    assert len(set(sentences)) == 1
    assert str(UID) in sentences[0]


# --- explanations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [cores(3), percent(20), numa(1, 2), cores(9), cores(1), cores(2)], ids=str)
def test_explanation(daemon: Daemon, request_: Request) -> None:
    begin(daemon, {"other": "0-1", "svc": "2-3"})
    plain = ask(daemon, request_, dry_run=True)
    assert "explanation" not in plain
    explained = ask(daemon, request_, dry_run=True, explain=True)
    why = explained.pop("explanation")
    assert explained == plain
    assert why["policy"]["numa-policy"] == "best-effort"
    assert why["room"] == ({"0": 6, "1": 8} if request_[0] != "allocate_numa_cores" else {"0": 0, "1": 8})
    assert 1 <= len(why["scopes"]) <= 5
    assert why["scopes"][0]["cpus"] == outcome(plain)
    assert all(scope["cost"].keys() == why["scopes"][0]["cost"].keys() for scope in why["scopes"])
    for scope in why["scopes"]:
        nodes = {0 if cpu % 8 < 4 else 1 for cpu in parse_cpus(scope["cpus"])}
        assert parse_cpus(scope["numa_nodes"]) == nodes
    assert why["decided_by"].endswith(".")
    assert "rule" not in why or why["rule"] is None
    assert outcome(ask(daemon, request_, explain=True)) == outcome(plain)


REFUSALS: Final = [
    (cores(9, numa_policy="single-numa-node"), "numa-policy"),
    (percent(60, numa_policy="single-numa-node"), "numa-policy"),
    (cores(3, cpu_thread_policy="require"), "cpu-thread-policy"),
    (numa(1, 3, cpu_thread_policy="require"), "cpu-thread-policy"),
    (numa(0, 4, uncore_cache_alignment="require"), "uncore-cache-alignment"),
]


@pytest.mark.parametrize(("request_", "rule"), REFUSALS, ids=str)
def test_explained_refusal(daemon: Daemon, request_: Request, rule: str) -> None:
    daemon.hold("other", "0,2", preemption_policy="non-preemptive")
    plain = error_of(ask(daemon, request_))
    for more in ({}, {"dry_run": True}):
        answer = ask(daemon, request_, explain=True, **more)
        assert answer.keys() == {"version", "error", "explanation"}
        assert answer["error"] == plain
        assert answer["explanation"]["rule"] == rule
        assert rule in answer["explanation"]["decided_by"]
        assert answer["explanation"]["scopes"]
    assert daemon.claims().keys() == {"other"}


def test_nothing_to_explain(daemon: Daemon) -> None:
    daemon.cores("svc", 2)
    for request in (cores(17), numa(9, 1), cores(2, near=9), cores(-2)):
        error_of(ask(daemon, request, explain=True))
    answer = ask(daemon, cores(-1), explain=True)
    assert not answer.keys() & {"explanation", "placement"}


#: 1024 CPUs whose threads are adjacent, so that one thread of each core is a list of 512 single numbers.
LARGE: Final = Shape(2, 4, 8, 8, 2, siblings="adjacent", isolated="0-1023")


def test_answers_are_short() -> None:
    """Below 4096 bytes, unless the lists that protocol 1.0 has anyway leave no room."""
    name = "s" * 255
    long: list[Any] = []
    with Daemon(LARGE) as daemon:
        daemon.start()
        for settings in (
            {}, {"cpu-distribution": "cores"}, {"cpu-distribution": "caches"}, {"cpu-thread-policy": "isolate"},
            {"numa-allocation-strategy": "distribute"}, {"cpu-thread-policy": "share"},
        ):  # fmt: skip
            daemon.reload(settings)
            for action, fields in (
                cores(3), cores(0), cores(300), cores(430), cores(512), percent(35), numa(3, 60), cores(-1),
                cores(1023, numa_policy="single-numa-node"), cores(511, cpu_thread_policy="require"), cores(-1),
            ):  # fmt: skip
                raw = daemon.request(json.dumps({"action": action, "service_name": name, **fields}).encode())
                answer = json.loads(raw)
                lists = sum(len(answer.get(field, "")) for field in ("allocated_cores", "shared_cpus"))
                if len(raw) >= 4096 and lists < 4096 - 1024:
                    long.append((settings, action, fields, len(raw), lists))
    assert not long


def test_equally_good_node_sets_are_explained() -> None:
    """Of three like nodes, any two are as good, and those that hold CPU 0 have the lowest id alike."""
    with Daemon(Shape(1, 3, 1, 2, 1, isolated="0-5")) as daemon:
        daemon.start()
        answer = ask(daemon, cores(3, explain=True))
        assert outcome(answer) == "0-2"
        assert answer["explanation"]["scopes"]


# --- where the CPUs are ------------------------------------------------------------------------------------------


def whereabouts(machine: Machine, pool: set[int], cpus: set[int], others: set[int], withheld: set[int]) -> Json:
    """What `placement` must say, from the machine alone; cores are what the pool has of them."""

    def l3(cpu: int) -> object:
        domains = [n for n, domain in enumerate(machine.l3_domains) if cpu in domain]
        return domains[0] if domains else (package(cpu), node(cpu))

    def node(cpu: int) -> int | None:
        return next((each.id for each in machine.nodes if cpu in each.cpus), None)

    def package(cpu: int) -> int:
        return next((n for n, each in enumerate(machine.packages) if cpu in each.cpus), 0)

    mine = [threads for core in machine.cores if (threads := set(core.cpus) & pool) & cpus]
    return {
        "numa_nodes": format_cpus({n for cpu in cpus if (n := node(cpu)) is not None}),
        "packages": len(set(map(package, cpus))),
        "l3_domains": len(set(map(l3, cpus))),
        "whole_cores": sum(threads <= cpus for threads in mine),
        "shared_cores": sum(bool(threads & others) for threads in mine),
        "withheld_cpus": format_cpus(withheld),
    }


def check_placement(daemon: Daemon, machine: Machine, answer: Json, reserved: set[int]) -> None:
    listing = daemon.ok("list_allocations")
    daemon.claims()
    pool = parse_cpus(listing["cpu_pool"]["eligible_cpus"])
    others, withheld = set(reserved), set[int]()
    for entry in listing["allocations"]:
        kept = parse_cpus(entry.get("withheld_cpus", ""))
        if entry["service_name"] == answer["service_name"]:
            withheld = kept
        else:
            others |= parse_cpus(entry["allocated_cores"]) | kept
    cpus = parse_cpus(answer["allocated_cores" if "allocated_cores" in answer else "cores_allocated"])
    assert answer["placement"] == whereabouts(machine, pool | reserved, cpus, others, withheld)


REAL: Final = {
    "epyc9654-2s-nps4-384t": "",
    "clx-2s-snc2-80t": "1",
    "raptorlake-i7-1370p-20t": "0,13",
    "power8-8247-22l-deconf-80p": "",
    "kunpeng920-2s4n-128c": "5",
    "opteron-magnycours-48c-sparse": "",
    "s390-z16-8t": "",
}
POWER: Final = Shape(2, 2, 1, 3, 4, siblings="adjacent", isolated="0-47")


def real_daemon(name: str, settings: Json) -> Daemon:
    """A daemon on a real machine, all of whose CPUs are isolated."""
    path = next((path for path in real_machine_files() if path.stem == name), None)
    if path is None:
        pytest.skip(f"the recorded machine {name} is not here")
    daemon = Daemon(settings=settings)
    shutil.rmtree(daemon.host.root)
    write_real_machine(json.loads(path.read_text()), daemon.host.root.parent)
    write(daemon, "devices/system/cpu/isolated", str(read_machine(SysfsTree(daemon.host.root)).online))
    return daemon


def machine_daemon(machine: str | Shape, settings: Json) -> Daemon:
    return Daemon(machine, settings) if isinstance(machine, Shape) else real_daemon(machine, settings)


@pytest.mark.parametrize(
    ("machine", "reserved"), [(EIGHT, "3"), (CLUSTERS, ""), (POWER, "1,9"), *REAL.items()],
    ids=["eight", "clusters", "power", *REAL],
)  # fmt: skip
def test_placement_in_answers(machine: str | Shape, reserved: str) -> None:
    with machine_daemon(machine, {"reserved-cpus": reserved}) as daemon:
        daemon.start()
        machine_ = read_machine(SysfsTree(daemon.host.root))
        node = min(node.id for node in machine_.nodes if node.cpus - CpuSet.parse(reserved))
        for service, (action, fields) in [
            ("a", cores(3)), ("b", percent(15)), ("c", numa(node, 1)), ("d", cores(1, cpu_thread_policy="share")),
            ("a", cores(1, cpu_thread_policy="isolate")), ("e", cores(1, cpu_thread_policy="isolate")), ("b", cores(2)),
            ("c", numa(node, 2)), ("f", cores(0)), ("e", cores(1, cpu_thread_policy="share")),
        ]:  # fmt: skip
            answer = daemon.call(action, service_name=service, **fields)
            if "error" not in answer:
                check_placement(daemon, machine_, answer, parse_cpus(reserved))
        for service, (action, fields) in [("a", cores(-1)), ("b", percent(0)), ("c", numa(node, -1))]:
            assert "placement" not in daemon.ok(action, service_name=service, **fields)


def test_hybrid_machine() -> None:
    # Cores 0-1 ... 10-11 are fast ones of two threads, 12 to 19 slow ones.
    with real_daemon("raptorlake-i7-1370p-20t", {}) as daemon:
        daemon.start()
        for value, expected in (("none", "0-1"), ("performance", "0-1"), ("efficiency", "12-13")):
            daemon.reload({"prefer-core-type": value})
            assert outcome(ask(daemon, cores(2), dry_run=True)) == expected


# --- wishes ------------------------------------------------------------------------------------------------------


class Wish(NamedTuple):
    """What a request with a wish gets, while others hold CPUs, under the operator's settings."""

    shape: Shape
    held: dict[str, str]
    operator: Json
    request: Request
    expected: str


WISHES: Final = [
    Wish(CLUSTERS, {"other": "0"}, {}, cores(4, numa_policy="none"), "1-4"),
    Wish(CLUSTERS, {"other": "0"}, {}, cores(4, numa_policy=None), "4-7"),
    Wish(CLUSTERS, {"other": "0"}, {"numa-policy": "none"}, cores(4, numa_policy="best-effort"), "4-7"),
    Wish(CLUSTERS, {"other": "0"}, {}, cores(5, numa_policy="restricted"), "1-5"),
    Wish(CLUSTERS, {"other": "0"}, {}, cores(5, numa_policy="single-numa-node"), NUMA_REFUSES),
    Wish(CLUSTERS, {"other": "0,4"}, {}, cores(4, numa_policy="restricted"), NUMA_REFUSES),
    Wish(CACHES, {"other": "0"}, {}, cores(4, uncore_cache_alignment="none"), "1-4"),
    Wish(CACHES, {"other": "0"}, {"uncore-cache-alignment": "none"}, cores(4, uncore_cache_alignment="prefer"), "4-7"),
    Wish(CACHES, {"other": "0,4"}, {}, cores(4, uncore_cache_alignment="require"), CACHES_REFUSE),
    Wish(CORES, {"other": "0"}, {}, cores(1, cpu_thread_policy="share"), "4"),
    Wish(CORES, {"other": "0"}, {}, cores(1, cpu_thread_policy="isolate"), "1 beside 5"),
    Wish(CORES, {"other": "0"}, {}, numa(0, 2, cpu_thread_policy="isolate"), "1-2 beside 5-6"),
    Wish(CORES, {"other": "0"}, {}, percent(13, cpu_thread_policy="share"), "1,4"),
    Wish(CORES, {"other": "0"}, {}, cores(3, cpu_thread_policy="require"), THREADS_REFUSE),
    # What refuses is the operator's: a request may be stricter, never less strict.
    Wish(CORES, {}, {"cpu-thread-policy": "require"}, cores(1, cpu_thread_policy="prefer"), THREADS_REFUSE),
    Wish(CORES, {}, {"cpu-thread-policy": "require"}, cores(1, cpu_thread_policy="share"), THREADS_REFUSE),
    Wish(CORES, {}, {"cpu-thread-policy": "isolate"}, cores(2, cpu_thread_policy="share"), "0-1 beside 4-5"),
    Wish(CORES, {}, {"cpu-thread-policy": "isolate"}, cores(2, cpu_thread_policy="require"), "0-1 beside 4-5"),
    Wish(CLUSTERS, {}, {"numa-policy": "single-numa-node"}, cores(5, numa_policy="none"), NUMA_REFUSES),
    Wish(CLUSTERS, {}, {"numa-policy": "single-numa-node"}, cores(5, numa_policy="restricted"), NUMA_REFUSES),
    Wish(CLUSTERS, {}, {"numa-policy": "restricted"}, cores(5, numa_policy="single-numa-node"), NUMA_REFUSES),
    Wish(CLUSTERS, {"other": "0,4"}, {"numa-policy": "restricted"}, cores(4, numa_policy="best-effort"), NUMA_REFUSES),
    Wish(CACHES, {"other": "0,4"}, {"uncore-cache-alignment": "require"}, cores(4, uncore_cache_alignment="none"),
         CACHES_REFUSE),
    # A wish that contradicts another option of the operator's.
    Wish(CORES, {}, {"cpu-distribution": "cores"}, cores(2, cpu_thread_policy="require"), THREADS_REFUSE),
    Wish(CACHES, {}, {"cpu-distribution": "caches"}, cores(2, uncore_cache_alignment="require"), CACHES_REFUSE),
    # Near a node.
    Wish(EIGHT, {}, {}, cores(2), "0,8"),
    Wish(EIGHT, {}, {}, cores(2, near=None), "0,8"),
    Wish(EIGHT, {}, {}, cores(2, near=1), "4,12"),
    Wish(EIGHT, {}, {}, percent(10, near=1), "4,12"),
    Wish(EIGHT, {"other": "4-7,12-15"}, {}, cores(2, near=1), "0,8"),
    Wish(NODES, {}, {"numa-policy": "none"}, cores(2, near=1), "4-5"),
]  # fmt: skip


@pytest.mark.parametrize("shape", [CLUSTERS, CACHES, CORES, EIGHT, NODES], ids=range(5))
def test_wishes(shape: Shape) -> None:
    with Daemon(shape) as daemon:
        daemon.start()
        for wish in WISHES:
            if wish.shape is shape:
                daemon.reload({})
                begin(daemon, wish.held)
                daemon.reload(wish.operator)
                assert outcome(ask(daemon, wish.request, dry_run=True)) == wish.expected, wish
                assert outcome(ask(daemon, wish.request)) == wish.expected, wish


@pytest.mark.parametrize("field", ["numa_policy", "cpu_thread_policy", "uncore_cache_alignment", "near"])
@pytest.mark.parametrize("value", ["", "Prefer", "../../etc", "a b", -1, 2**31, 1.0, True, [], {}, "x" * 65, "bést"])
def test_unknown_wishes(daemon: Daemon, field: str, value: Any) -> None:
    if field == "near" and value == "Prefer":
        value = "."
    daemon.cores("svc", 2)
    for action, fields in (cores(3), percent(30), numa(0, 3), cores(-1)):
        assert field in daemon.refused(action, service_name="svc", **fields, **{field: value})


def test_near_a_device(daemon: Daemon) -> None:
    write(daemon, "bus/pci/devices/0000:3b:00.0/numa_node", "1")
    write(daemon, "bus/pci/devices/0001:af:00.1/numa_node", "0")
    write(daemon, "class/net/ens1f0np0/device/numa_node", "1")
    write(daemon, "class/net/br-ex/ifindex", "3")
    write(daemon, "class/net/virt0/device/numa_node", "-1")
    write(daemon, "bus/pci/devices/0000:00:01.0/numa_node", "-1")
    for near, expected in (
        ("0000:3b:00.0", "4,12"), ("3b:00.0", "4,12"), ("0000:3B:00.0", "4,12"), ("0001:af:00.1", "0,8"),
        ("ens1f0np0", "4,12"), (0, "0,8"), (1, "4,12"),
    ):  # fmt: skip
        assert outcome(ask(daemon, cores(2, near=near), dry_run=True)) == expected
    for near, reason in (
        ("0000:3c:00.0", "no PCI device 0000:3c:00.0"), ("af:00.1", "no PCI device 0000:af:00.1"),
        ("eth9", "does not exist"), ("br-ex", "physical"), ("virt0", "name the node"),
        ("0000:00:01.0", "name the node"), (2, "NUMA node 2 does not exist"),
    ):  # fmt: skip
        for action, fields in (cores(2), percent(20)):
            sentence = daemon.refused(action, service_name="svc", near=near, **fields)
            assert f"near={near}" in sentence
            assert reason in sentence
    assert "near" in daemon.refused("allocate_numa_cores", service_name="svc", numa_node=0, num_of_cores=1, near=0)
    assert outcome(ask(daemon, cores(2, near="ens1f0np0"))) == "4,12"
    for path in ("bus", "class"):
        shutil.rmtree(daemon.host.root / path)
    # The claim stays, and so does a request without the wish.
    assert outcome(ask(daemon, cores(2))) == "4,12"


def test_device_without_a_node_where_there_is_only_one() -> None:
    with Daemon(CACHES) as daemon:
        daemon.start()
        write(daemon, "class/net/eth0/device/numa_node", "-1")
        assert outcome(ask(daemon, cores(2, near="eth0"))) == "0-1"


# --- isolate -----------------------------------------------------------------------------------------------------


def test_withheld_siblings() -> None:
    """They are in nobody's answer, whatever happens to the daemon and its settings, until the claim goes."""
    with Daemon(EIGHT, {"cpu-thread-policy": "isolate"}) as daemon:
        daemon.start()
        answer = ask(daemon, cores(3))
        assert outcome(answer) == "0-2 beside 8-10"
        assert answer["shared_cpus"] == "3-7,11-15"
        assert (answer["total_available_cpus"], answer["remaining_available_cpus"]) == (16, 10)

        def check() -> None:
            entry, listing = daemon.entry("svc"), daemon.ok("list_allocations")
            assert (entry["allocated_cores"], entry["withheld_cpus"], entry["cores_count"]) == ("0-2", "8-10", 3)
            assert listing["total_allocated_cpus"] == 3
            assert listing["remaining_available_cpus"] == 10
            assert daemon.claims() == {"svc": {0, 1, 2}}

        check()
        daemon.kill()
        daemon.start()
        check()
        daemon.reload({"cpu-thread-policy": "prefer"})
        check()
        assert outcome(ask(daemon, cores(3))) == "0-2 beside 8-10", "the same request keeps what it has"
        daemon.reload({"cpu-thread-policy": "share"})
        daemon.refused("allocate_cores", service_name="other", num_of_cores=11)
        assert outcome(ask(daemon, cores(10, service_name="other"))) == "3-7,11-15"
        # Not even a legacy request for the node may have them: nobody owns them.
        assert "held by" in daemon.refused("allocate_numa_cores", service_name="taker", numa_node=0, num_of_cores=6)
        check_again = daemon.ok("allocate_numa_cores", service_name="taker", numa_node=1, num_of_cores=-1)
        assert check_again["remaining_available_cpus"] == 0
        released = ask(daemon, cores(-1))
        assert (released["shared_cpus"], released["remaining_available_cpus"]) == ("0-2,8-10", 6)
        assert outcome(ask(daemon, cores(6, service_name="third"))) == "0-2,8-10"


def test_reclaimed_core_is_no_longer_withheld() -> None:
    with Daemon(EIGHT, {"cpu-thread-policy": "isolate"}) as daemon:
        daemon.start()
        ask(daemon, cores(4, service_name="first"))
        daemon.reload({})
        # Nothing is free in node 0: four CPUs are claimed, their siblings withheld.
        answer = ask(daemon, numa(0, 2))
        assert outcome(answer) == "0-1"
        entry = daemon.entry("first")
        assert (entry["allocated_cores"], entry["withheld_cpus"]) == ("2-3", "10-11")
        assert answer["remaining_available_cpus"] == 10
        daemon.claims()
        assert outcome(ask(daemon, cores(4))) == "0-1,8-9"


def test_partial_release_under_isolate() -> None:
    with Daemon(EIGHT, {"cpu-thread-policy": "isolate"}) as daemon:
        daemon.start()
        assert outcome(ask(daemon, numa(0, 2))) == "0-1 beside 8-9"
        assert outcome(ask(daemon, numa(1, 1))) == "4 beside 8-9,12"
        answer = ask(daemon, numa(0, -1))
        assert answer["remaining_available_cpus"] == 14
        assert daemon.entry("svc")["withheld_cpus"] == "12"
        assert outcome(ask(daemon, cores(0))).count("beside") == 1
        assert len(daemon.claims()["svc"]) == 6, "80 % of eight cores"


@pytest.mark.parametrize("reclaim", ["if-needed", "always", "never"])
def test_isolated_beside_cpus_that_may_be_taken(reclaim: str) -> None:
    """A thread that another service keeps is never withheld from it, and the daemon reads what it has stored."""
    with Daemon(EIGHT, {"numa-reclaim": reclaim}) as daemon:
        daemon.start()
        for held, count in itertools.product(("0-3", "0-3,8", "0-3,8-10", "8-11", "0-3,8-11"), (1, 2, 4)):
            begin(daemon, {"other": held})
            answer = ask(daemon, numa(0, count, cpu_thread_policy="isolate"))
            kept = parse_cpus(answer.get("placement", {}).get("withheld_cpus", ""))
            assert not kept & set().union(*daemon.claims().values())
        daemon.kill()
        daemon.start()
        assert "state_error" not in daemon.ok("list_allocations")


# --- a setting moves nothing -------------------------------------------------------------------------------------


CHANGES: Final = [
    *({option: value} for option, values in VALUES.items() for value in values),
    {"default-allocation-percent": 10}, {"large-system-threshold": 1}, {"large-system-reserved-cpus": 0},
    {"default-preemption-policy": "non-preemptive"}, {"reserved-hugepages": "0:2048:4"}, {"cpu-pool": ""},
    {"reserved-cpus": "11"},
]  # fmt: skip


def test_no_setting_moves_a_claim(daemon: Daemon) -> None:
    daemon.cores("a", 3)
    daemon.numa("b", 1, 2)
    daemon.cores("c", 1, cpu_thread_policy="isolate")
    daemon.cores("d", 4, near=1)
    before = daemon.snapshot()[0]["allocations"], tables(daemon)
    assert daemon.ok("list_allocations")["outdated_placements"] == []
    for change in CHANGES:
        daemon.reload(change)
        assert (daemon.snapshot()[0]["allocations"], tables(daemon)) == before
        daemon.claims()
        if "resize-policy" not in change:
            for service, count in (("a", 3), ("d", 4)):
                held = daemon.claims()[service]
                assert daemon.cores(service, count) == held, f"a repeated request moves nothing ({change})"
            assert daemon.numa("b", 1, 2) == daemon.claims()["b"]
            assert tables(daemon)["event"] == before[1]["event"]
    daemon.reload({})
    assert daemon.ok("list_allocations")["outdated_placements"] == []


class Outdated(NamedTuple):
    """Claims made one after the other by default, a change, and whose CPUs it would choose otherwise."""

    shape: Shape
    claims: dict[str, Request]
    change: Json
    expected: list[str]


OUTDATED: Final = [
    # One CPU is where it would be anyway; of two, `cores` makes two cores.
    Outdated(EIGHT, {"one": cores(1), "pair": cores(2), "node": numa(1, 2)}, {"cpu-distribution": "cores"},
             ["node", "pair"]),
    Outdated(EIGHT, {"one": cores(1), "pair": cores(2)}, {"cpu-thread-policy": "require"}, ["one"]),
    Outdated(EIGHT, {"one": cores(1), "pair": cores(2)}, {"cpu-thread-policy": "isolate"}, ["pair"]),
    Outdated(EIGHT, {"four": cores(4), "pair": cores(2)}, {"cpu-distribution": "caches"}, ["four"]),
    Outdated(EIGHT, {"nine": cores(9), "pair": cores(2)}, {"numa-policy": "single-numa-node"}, ["nine"]),
    # Each is judged by itself.
    Outdated(WIDE_NODES, {"a": cores(2), "b": cores(2)}, {"numa-allocation-strategy": "spread"}, ["a", "b"]),
    Outdated(CHAIN, {"four": cores(4)}, {"prefer-closest-numa-nodes": False}, []),
    # CPU 0 is a slow one, 1 a fast one; 2 is a fast one that is free.
    Outdated(FOUR, {"a": cores(1), "b": cores(1)}, {"prefer-core-type": "performance"}, ["a"]),
    Outdated(EIGHT, {"a": cores(3)}, {"default-allocation-percent": 5, "large-system-threshold": 1}, []),
    Outdated(EIGHT, {"a": cores(3)}, {"resize-policy": "reallocate", "numa-reclaim": "never"}, []),
    Outdated(EIGHT, {"a": cores(4, cpu_thread_policy="share")}, {"cpu-thread-policy": "prefer"}, []),
]  # fmt: skip


@pytest.mark.parametrize("shape", [EIGHT, WIDE_NODES, CHAIN, FOUR], ids=["eight", "wide nodes", "chain", "four"])
def test_outdated_placements(shape: Shape) -> None:
    with Daemon(shape) as daemon:
        write_core_types(daemon)
        daemon.start()
        for case in OUTDATED:
            if case.shape is not shape:
                continue
            daemon.reload({})
            daemon.release_everything()
            for service, (action, fields) in case.claims.items():
                daemon.ok(action, service_name=service, **fields)
            before = daemon.ok("list_allocations")
            assert before["outdated_placements"] == []
            daemon.reload(case.change)
            after = daemon.ok("list_allocations")
            assert after == before | {"outdated_placements": case.expected}, case
            if case.expected:
                daemon.kill()
                daemon.start()
                assert daemon.ok("list_allocations") == after
            for service in case.expected:
                daemon.cores(service, -1)
            assert daemon.ok("list_allocations")["outdated_placements"] == []


def test_outdated_placements_are_of_now(daemon: Daemon) -> None:
    """They are said to be by the CPUs that are free now; a restart changes nothing of it."""
    daemon.cores("four", 4)
    daemon.cores("rest", 12)
    daemon.reload({"cpu-distribution": "cores"})
    assert daemon.ok("list_allocations")["outdated_placements"] == []
    daemon.cores("rest", -1)
    before = daemon.ok("list_allocations")
    daemon.restart()
    assert daemon.ok("list_allocations") == before


# --- a database of an earlier daemon -----------------------------------------------------------------------------


def source_of(commit: str, directory: Path) -> dict[str, str]:
    """The environment that starts the daemon of an earlier commit."""
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "archive", commit, "src"]
    try:
        packed = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git or that commit is not here")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(directory, filter="data")
        else:  # Python before 3.11.4
            archive.extractall(directory)
    return {"PYTHONPATH": str(directory / "src")}


def test_database_of_schema_1(tmp_path: Path) -> None:
    earlier = source_of("5271d6b", tmp_path)
    with Daemon(EIGHT) as daemon:
        daemon.start(earlier)
        assert "placement" not in daemon.ok("allocate_cores", service_name="a", num_of_cores=3)
        daemon.numa("b", 1, 2, preemption_policy="non-preemptive")
        daemon.cores("c", 1)
        daemon.pages("a", 1, 2048, 5)
        claims, pages, events = daemon.ok("list_allocations"), daemon.ok("get_memory_info"), history(daemon)
        daemon.kill()
        for _ in range(2):
            daemon.start()
            listing = daemon.ok("list_allocations")
            features = set(listing["supported_cpu_features"])
            assert features >= {*claims["supported_cpu_features"], "placement", "placement-hints", "dry-run", "explain"}
            assert listing == claims | {
                "supported_cpu_features": listing["supported_cpu_features"], "outdated_placements": []
            }  # fmt: skip
            assert daemon.ok("get_memory_info") == pages
            assert history(daemon) == events
            daemon.kill()
        daemon.start()
        assert daemon.cores("a", 3) == parse_cpus(claims["allocations"][0]["allocated_cores"])
        assert daemon.cores("a", 4) > parse_cpus(claims["allocations"][0]["allocated_cores"])
        daemon.stop()
        # The earlier daemon leaves a database of a newer schema alone.
        daemon.start(earlier)
        assert f"schema version is {SCHEMA_VERSION}" in daemon.ok("list_allocations")["state_error"]


def test_database_of_schema_2(tmp_path: Path) -> None:
    """Schema 2 stored the withheld CPUs, even one that another claim owns; now they are derived."""
    earlier = source_of("69f9dbc", tmp_path)
    with Daemon(EIGHT) as daemon:
        daemon.start(earlier)
        daemon.cores("a", 2, cpu_thread_policy="isolate")
        daemon.cores("b", 3)
        before = daemon.ok("list_allocations")
        kept = parse_cpus(before["allocations"][0]["withheld_cpus"])
        assert len(kept) == 2
        daemon.kill()
        for _ in range(2):
            daemon.start()
            assert daemon.ok("list_allocations") == before
            daemon.kill()
        daemon.start()
        assert not daemon.cores("rest", before["remaining_available_cpus"]) & kept
        assert daemon.cores("a", 1, cpu_thread_policy="isolate") < parse_cpus(
            before["allocations"][0]["allocated_cores"]
        )
        after = daemon.ok("list_allocations")
        assert parse_cpus(after["allocations"][0]["withheld_cpus"]) < kept
        daemon.kill()
        daemon.start()
        assert daemon.ok("list_allocations") == after


# --- streams -----------------------------------------------------------------------------------------------------


def random_settings(rng: random.Random) -> Json:
    while contradict(settings := {option: rng.choice(values) for option, values in VALUES.items()}):
        pass
    return settings


def random_request(rng: random.Random, nodes: list[int]) -> tuple[str, Request, bool]:
    """A service, what it asks for, and whether it is a dry run."""
    count = rng.choice((-1, 0, 1, 1, 2, 2, 3, 4, 5, 8, 12))
    request = rng.choice((cores(count), numa(rng.choice(nodes), count or 1), percent(rng.choice((-1, 5, 10, 25)))))
    wishes: Json = {
        "numa_policy": get_args(policy.NumaPolicy),
        "cpu_thread_policy": get_args(policy.CpuThreadPolicy),
        "uncore_cache_alignment": get_args(policy.UncoreCacheAlignment),
        "preemption_policy": ("legacy", "non-preemptive"),
    }
    if request[0] != "allocate_numa_cores":
        wishes["near"] = nodes
    more = {name: rng.choice(values) for name, values in wishes.items() if rng.random() < 0.15}
    request[1].update(more, explain=rng.random() < 0.2)
    return rng.choice("abcdefgh"), request, rng.random() < 0.25


@pytest.mark.parametrize("machine", [EIGHT, POWER, "epyc9654-2s-nps4-384t"], ids=["eight", "power", "epyc"])
def test_random_streams(machine: str | Shape) -> None:
    rng = random.Random(f"placement of {machine}")
    with machine_daemon(machine, {}) as daemon:
        daemon.start()
        found = read_machine(SysfsTree(daemon.host.root))
        nodes = [node.id for node in found.nodes if node.cpus]
        granted = 0
        for _ in range(6):
            daemon.reload(settings := random_settings(rng))
            for _ in range(100):
                service, (action, fields), dry = random_request(rng, nodes)
                before = daemon.ok("list_allocations")
                answer = daemon.call(action, service_name=service, dry_run=dry, **fields)
                after = daemon.ok("list_allocations")
                context = (settings, service, action, fields, dry, answer)
                assert "Internal error" not in answer.get("error", ""), context
                claims = daemon.claims()
                if dry or "error" in answer:
                    assert after == before, context
                    continue
                granted += 1
                cpus = parse_cpus(outcome(answer).partition(" ")[0])
                assert cpus <= claims.get(service, set()), context
                assert answer["remaining_available_cpus"] == after["remaining_available_cpus"], context
                if cpus and machine is EIGHT:
                    check_placement(daemon, found, answer, set())
                asked = fields.get("num_of_cores", 0)
                assert asked <= 0 or len(cpus) == asked, context
                others = {entry["service_name"]: entry for entry in before["allocations"]}
                taken = {name for name, entry in others.items()
                         if name != service and claims.get(name) != parse_cpus(entry["allocated_cores"])}  # fmt: skip
                assert all(
                    others[name]["preemption_policy"] == "legacy" and action == "allocate_numa_cores" for name in taken
                ), context
        assert granted > 100
        kept = daemon.ok("list_allocations")["allocations"]
        daemon.kill()
        daemon.start()
        assert daemon.ok("list_allocations")["allocations"] == kept
