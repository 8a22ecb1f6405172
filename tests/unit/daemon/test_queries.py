# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Queries: prepared answers equal those of the models, and stay current."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PageKind, PagesChange
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.hugepages import free_pages
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.outdated import Review
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.queries import Queries
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.protocol.answers import MemoryAnswer, NodeHugepages, PageCapacity
from epa_orchestrator.protocol.machine import MachineAnswer
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.readings import PresentReading
from tests.unit.daemon.hosts import SHAPE, host
from tools.synthetic import Shape, build

Pages = dict[str, dict[PageKind, int]]


def reading(action: str, **fields: object) -> PresentReading:
    request = validate({"action": action, **fields})
    assert isinstance(request, PresentReading)
    return request


MEMORY, LIST = reading("get_memory_info"), reading("list_allocations")


def answer(readings: Queries, ledger: Ledger, request: PresentReading) -> bytes:
    return readings.answer(ledger, readings._host.pools(), request)


def claim(service: str, cpus: str, **fields: Any) -> Claim:
    return Claim(service, "isolated", CpuSet.parse(cpus), EMPTY, "legacy", **fields)


def plainly(at: Host, ledger: Ledger, service_name: str = "", problem: str | None = None) -> bytes:
    """The answer to get_memory_info as the models alone make it."""
    pools = at.pools()
    records: dict[int, dict[str, dict[str, int]]] = {}
    for service, counts in sorted(ledger.pages.items()):
        for (node_id, size_kb), count in sorted(counts.items()):
            records.setdefault(node_id, {}).setdefault(service, {})[str(size_kb)] = count
    present = pools.machine.node_ids if pools.machine else ()
    nodes: dict[str, NodeHugepages] = {}
    for node_id in sorted({*present, *records}):
        kernel = at.hugepages(node_id)
        capacity = [
            PageCapacity(
                total=p.total,
                free=free_pages(ledger, p, pools.settings.reserved_pages(node_id, p.size_kb), node_id),
                size=p.size_kb,
            )
            for p in kernel
        ]
        nodes[f"node{node_id}"] = NodeHugepages(capacity=capacity, allocations=records.get(node_id, {}))
    return MemoryAnswer(service_name=service_name, numa_hugepages=nodes, state_error=problem).encode()


# --- get_memory_info -----------------------------------------------------------------------------------------------

NAMES = st.text(min_size=1, max_size=8)
KINDS = st.tuples(st.integers(0, 12), st.sampled_from([4, 64, 2048, 1048576]))
PAGES = st.dictionaries(NAMES, st.dictionaries(KINDS, st.integers(1, 2**31 - 1), min_size=1, max_size=5), max_size=6)
EDITS = st.lists(st.tuples(NAMES, KINDS, st.integers(0, 3)), max_size=8)


@settings(deadline=None, max_examples=150)
@given(PAGES, EDITS, NAMES, st.one_of(st.none(), NAMES))
def test_the_bytes_are_those_of_the_models(
    pages: Pages, edits: list[tuple[str, PageKind, int]], name: str, problem: str | None
) -> None:
    """Through any changes, names that JSON escapes and nodes that are gone."""
    at, ledger = host(reserved_hugepages="0:2048:3"), Ledger.of([], pages)
    readings = Queries(at, problem, ledger_known=True, ledger=ledger)
    request = MEMORY.model_copy(update={"service_name": name})
    assert answer(readings, ledger, request) == plainly(at, ledger, name, problem)
    services = sorted(pages) or ["a"]
    for number, (service, kind, count) in enumerate(edits):
        service = services[number % len(services)] if number % 2 else service
        before = ledger.pages.get(service, {}).get(kind, 0)
        if before != count:
            ledger = ledger.apply(Change(pages=PagesChange(service, kind, before, count)))
        assert answer(readings, ledger, request) == plainly(at, ledger, name, problem)


@pytest.mark.parametrize("service_name", [None, "a", 'q"\\\u00e9\u2028\x7f'])
def test_the_service_name_is_sent_back(service_name: str | None) -> None:
    at = host()
    request = MEMORY.model_copy(update={"service_name": service_name})
    assert answer(Queries(at, None, ledger_known=True), Ledger(), request) == plainly(at, Ledger(), service_name or "")


def test_the_kernels_counts_are_those_of_now() -> None:
    files = build(SHAPE)
    at = Host(RecordedSysfs(files), parse_settings({}))
    readings = Queries(at, None, ledger_known=True)
    ledger = Ledger.of([], {"a": {(0, 2048): 4}})

    def counts() -> Any:
        return json.loads(answer(readings, ledger, MEMORY))["numa_hugepages"]["node0"]["capacity"][0]

    assert counts() == {"total": 64, "free": 60, "size": 2048}
    files["devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages"] = "20"
    assert counts() == {"total": 64, "free": 20, "size": 2048}
    files["devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"] = "70"
    assert counts() == {"total": 70, "free": 20, "size": 2048}


def test_without_a_machine_the_records_are_still_shown() -> None:
    at, ledger = Host(RecordedSysfs({}), parse_settings({})), Ledger.of([], {"a": {(3, 2048): 4}})
    told = json.loads(answer(Queries(at, "No.", ledger_known=True), ledger, MEMORY))
    assert told["numa_hugepages"] == {"node3": {"capacity": [], "allocations": {"a": {"2048": 4}}}}
    assert told["state_error"] == "No."


# --- list_allocations ----------------------------------------------------------------------------------------------


def listed(readings: Queries, ledger: Ledger) -> tuple[list[str], list[str]]:
    """The names of a listing, and those of its outdated placements."""
    listing = json.loads(answer(readings, ledger, LIST))
    return [each["service_name"] for each in listing["allocations"]], listing["outdated_placements"]


def test_a_listing_is_in_order_through_changes() -> None:
    at, ledger = host(), Ledger()
    readings = Queries(at, None, ledger_known=True, ledger=ledger)
    held: dict[str, Claim] = {}
    for number, name in enumerate(["m", "b", "z", "a", "é", "Z", "b", "m", "c"]):
        before, after = held.pop(name, None), claim(name, str(number))
        if before is None:
            held[name] = after
        ledger = ledger.apply(Change((ClaimChange(before, None if before else after),)))
        assert listed(readings, ledger)[0] == sorted(held)


def test_a_claim_that_changes_is_encoded_again() -> None:
    readings, one, two = Queries(host(), None, ledger_known=True), claim("a", "1"), claim("a", "2,10")
    ledger = Ledger.of([one], {})
    assert json.loads(answer(readings, ledger, LIST))["allocations"][0]["allocated_cores"] == "1"
    ledger = ledger.apply(Change((ClaimChange(one, two),)))
    assert json.loads(answer(readings, ledger, LIST))["allocations"][0]["allocated_cores"] == "2,10"


def test_a_listing_runs_no_placement() -> None:
    """It shows the verdicts that the review has; another thread judges."""
    at = host(cpu_thread_policy="isolate")
    ledger = Ledger.of([claim(f"s{n}", f"{n},{n + 8}") for n in range(8)], {})
    review = Review()
    readings = Queries(at, None, ledger_known=True, review=review)
    first = answer(readings, ledger, LIST)
    assert json.loads(first)["outdated_placements"] == []
    review.use(ledger, at.pools())
    for expected in (["s0"], [f"s{n}" for n in range(8)]):
        pending = review.pending(8)
        assert pending is not None
        review.take(pending, pending.judge(lambda: len(expected) == 1))  # noqa: B023
        complete = answer(readings, ledger, LIST)
        assert json.loads(complete) == json.loads(first) | {"outdated_placements": expected}
        assert answer(readings, ledger, LIST) is complete


def test_only_cpus_of_the_pools_are_listed_as_withheld() -> None:
    """The other thread of an isolated CPU's core may be the operating system's."""
    at = host(Shape(packages=1, cores_per_l3=8, threads_per_core=2, isolated="1-3,9"))
    ledger = Ledger.of([claim("a", "1-2", alone=CpuSet.parse("1-2"))], {}, at.pools().cores)
    assert str(ledger.claims["a"].withheld) == "9-10"
    readings = Queries(at, None, ledger_known=True, ledger=ledger)
    assert json.loads(answer(readings, ledger, LIST))["allocations"][0]["withheld_cpus"] == "9"


def prepare(readings: Queries, ledger: Ledger, request: PresentReading) -> int:
    """How many steps the preparation takes."""
    steps = 1
    while not readings.prepare(ledger, readings._host.pools(), request):
        steps += 1
    return steps


def test_many_changes_are_prepared_in_steps() -> None:
    """A listing after 2,000 grants held the event loop for 22 ms, get_memory_info after 7,000 records for 39 ms."""
    at = host(Shape(cores_per_l3=1024, isolated="0-1023", hugepages={2048: (4096, 4096)}))
    ledger = Ledger.of([claim(f"s{n}", f"{n}") for n in range(450)], {f"s{n}": {(0, 2048): 1} for n in range(450)})
    readings = Queries(at, None, ledger_known=True)
    for request in (LIST, MEMORY):
        assert prepare(readings, ledger, request) == 5
        assert prepare(readings, ledger, request) == 1
        assert answer(readings, ledger, request) == answer(Queries(at, None, ledger_known=True), ledger, request)


def test_changes_during_the_preparation_are_in_the_answer() -> None:
    at = host(Shape(cores_per_l3=1024, isolated="0-1023", hugepages={2048: (4096, 4096)}))
    first = Ledger.of([claim(f"s{n}", f"{n}") for n in range(450)], {f"s{n}": {(0, 2048): 1} for n in range(450)})
    last = Ledger.of([claim(f"s{n}", f"{n}") for n in range(0, 500, 2)], {f"s{n}": {(0, 2048): 2} for n in range(7)})
    readings = Queries(at, None, ledger_known=True)
    for request in (LIST, MEMORY):
        assert not readings.prepare(first, at.pools(), request)
        assert not readings.prepare(first, at.pools(), request)
        assert prepare(readings, last, request) > 1
        assert answer(readings, last, request) == answer(Queries(at, None, ledger_known=True), last, request)


MACHINE = reading("get_machine")


def machine_of(readings: Queries, ledger: Ledger) -> dict[str, Any]:
    return json.loads(answer(readings, ledger, MACHINE))


def test_machine_has_the_states_and_pools_of_the_ledger() -> None:
    at = host(SHAPE, cpu_pool="")
    ledger = Ledger.of([claim("a", "0-1", alone=CpuSet.parse("0"))], {}, at.pools().cores)
    found = machine_of(Queries(at, None, ledger_known=True), ledger)
    assert found["states"] == {
        "claimed": "0-1",
        "free": "2-7,9-15",
        "withheld": "8",
        "reserved": "",
        "unavailable": "",
        "offline": "",
        "not-isolated": "",
    }
    assert found["pools"] == {"isolated": "0-15"}


def test_machine_follows_the_ledger_and_the_hugepages() -> None:
    at = host()
    readings = Queries(at, None, ledger_known=True)
    ledger = Ledger.of([claim("a", "0")], {})
    assert machine_of(readings, Ledger())["states"]["claimed"] == ""
    assert machine_of(readings, ledger)["states"]["claimed"] == "0"
    assert answer(readings, ledger, MACHINE) == answer(Queries(at, None, ledger_known=True), ledger, MACHINE)
    assert MachineAnswer.model_validate_json(answer(readings, ledger, MACHINE)).machine.nodes[0].hugepages[0].free == 60


def test_no_cpu_is_free_while_the_claims_are_not_known() -> None:
    found = machine_of(Queries(host(), "broken", ledger_known=False), Ledger())
    assert (found["states"]["free"], found["states"]["unavailable"]) == ("", "0-15")
    assert found["state_error"] == "broken"


def test_machine_that_cannot_be_read_is_refused() -> None:
    at = Host(RecordedSysfs({}), parse_settings({}))
    with pytest.raises(Refused, match=r"^No CPUs can be granted because the machine cannot be read: "):
        answer(Queries(at, None, ledger_known=True), Ledger(), MACHINE)


def test_unknown_fields_are_warned_about_with_the_machine() -> None:
    found = json.loads(answer(Queries(host(), None, ledger_known=True), Ledger(), reading("get_machine", cpu=1)))
    assert found["warnings"] == ["unknown field 'cpu'"]
