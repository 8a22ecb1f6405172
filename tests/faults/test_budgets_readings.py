# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Budgets in CPU time of the readings, an import and known cores; costs grow no faster than the state.

Each cost is the least of several, in CPU time of this process, so that other work on the machine changes little. Most
budgets are two to five times what a slow virtual machine needs.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PageKind, PagesChange
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.queries import Queries
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.readings import PresentReading
from epa_orchestrator.state import database_files, opening
from epa_orchestrator.state.legacy_state import read_legacy_state
from tools.synthetic import Shape, build

MS: Final = 0.001
PAGES: Final = {2048: (10**7, 10**7), 1048576: (10**6, 10**6)}

#: Machines by their number of CPUs: 8, 16 and 32 NUMA nodes.
SHAPES: Final = {
    256: Shape(packages=2, nodes_per_package=4, l3_per_node=2, cores_per_l3=8, threads_per_core=2),
    1024: Shape(packages=4, nodes_per_package=4, l3_per_node=4, cores_per_l3=8, threads_per_core=2),
    4096: Shape(packages=8, nodes_per_package=4, l3_per_node=4, cores_per_l3=16, threads_per_core=2),
}
#: As many claims as in the issue on the larger machines; half of the CPUs stay free on each.
CLAIMS: Final = {256: 128, 1024: 512, 4096: 2000}

SIZES: Final = [pytest.param(cpus, id=f"{cpus} CPUs") for cpus in SHAPES]


def request(action: str) -> PresentReading:
    made = validate({"action": action})
    assert isinstance(made, PresentReading)
    return made


LIST, MEMORY, MACHINE = request("list_allocations"), request("get_memory_info"), request("get_machine")

_files: dict[int, dict[str, str]] = {}


def host(cpus: int, **options: object) -> Host:
    """A host with all CPUs isolated, already read once."""
    if cpus not in _files:
        _files[cpus] = build(replace(SHAPES[cpus], isolated=f"0-{cpus - 1}", hugepages=PAGES))
    made = Host(
        RecordedSysfs(_files[cpus]), parse_settings({name.replace("_", "-"): each for name, each in options.items()})
    )
    assert made.pools().isolated.topology()
    return made


def answer(readings: Queries, ledger: Ledger, asked: PresentReading) -> bytes:
    return readings.answer(ledger, readings._host.pools(), asked)


def claims(cpus: int, count: int) -> Ledger:
    """Claims of one CPU each, a core apart where there is room, so that no core or domain is free as a whole."""
    order = [*range(0, cpus, 2), *range(1, cpus, 2)]
    return Ledger.of([claim(f"service-{n * 7919 % count:04}", order[n]) for n in range(count)], {})


def claim(service: str, cpu: int) -> Claim:
    return Claim(service, "isolated", CpuSet([cpu]), EMPTY, "legacy")


def claim_changes(ledger: Ledger) -> Iterator[Ledger]:
    """The ledger after each of many changes: services release their claims one after the other."""
    for service in list(ledger.claims):
        ledger = ledger.apply(Change((ClaimChange(ledger.claims[service], None),)))
        yield ledger


@cache
def records(count: int, per_service: int = 10) -> Ledger:
    """Hugepage records, `per_service` of each service: of two sizes, on five nodes or on one."""
    kinds: list[PageKind] = [(node, size_kb) for node in range(5) for size_kb in PAGES][:per_service]
    services = count // per_service
    return Ledger.of([], {f"service-{n * 7919 % services:05}": dict.fromkeys(kinds, n + 1) for n in range(services)})


def page_changes(ledger: Ledger) -> Iterator[Ledger]:
    """The ledger after each of many changes: other counts, removed records and new services."""
    for number, service in enumerate(list(ledger.pages)):
        before = ledger.pages[service][0, 2048]
        change = PagesChange(service, (0, 2048), before, before + 1 if number % 3 else 0)
        if number % 3 == 1:
            change = PagesChange(f"{service}-new", (1, 2048), 0, 1)
        ledger = ledger.apply(Change(pages=change))
        yield ledger


def cost(work: Callable[[], object]) -> float:
    """The CPU time (seconds) of doing something once."""
    gc.collect()
    gc.disable()
    try:
        begin = time.process_time()
        work()
        return time.process_time() - begin
    finally:
        gc.enable()


def least(times: int, work: Callable[[], object]) -> float:
    return min(cost(work) for _ in range(times))


def after_changes(times: int, readings: Queries, asked: PresentReading, ledgers: Iterator[Ledger]) -> float:
    """The least cost of a reading that follows a change."""
    return min(cost(partial(answer, readings, ledger, asked)) for ledger in islice(ledgers, times))


# --- listings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cpus", SIZES)
@pytest.mark.parametrize("options", [{}, {"cpu_thread_policy": "share"}, {"numa_policy": "none"}], ids=str)
def test_listing_after_a_change_costs_under_5_ms(cpus: int, options: dict[str, str]) -> None:
    """All claims were placed by the defaults; the options may differ now."""
    ledger = claims(cpus, CLAIMS[cpus])
    readings = Queries(host(cpus, **options), None, ledger_known=True)
    answer(readings, ledger, LIST)
    assert after_changes(5, readings, LIST, claim_changes(ledger)) < 5 * MS


@pytest.mark.parametrize("cpus", SIZES)
def test_repeated_listing_costs_under_a_fifth_of_a_ms(cpus: int) -> None:
    ledger = claims(cpus, CLAIMS[cpus])
    readings = Queries(host(cpus), None, ledger_known=True)
    answer(readings, ledger, LIST)
    assert least(5, lambda: answer(readings, ledger, LIST)) < 0.2 * MS


@pytest.mark.parametrize("cpus", SIZES)
@pytest.mark.parametrize("options", [{}, {"cpu_thread_policy": "share"}], ids=str)
def test_first_listing_costs_under_5_ms(cpus: int, options: dict[str, str]) -> None:
    ledger = claims(cpus, CLAIMS[cpus])

    def first() -> float:
        readings = Queries(host(cpus, **options), None, ledger_known=True, ledger=ledger)
        return cost(lambda: answer(readings, ledger, LIST))

    assert min(first() for _ in range(3)) < 5 * MS


def test_listing_cost_grows_with_the_claims() -> None:
    def listing(count: int) -> float:
        ledger = claims(4096, count)
        readings = Queries(host(4096), None, ledger_known=True)
        answer(readings, ledger, LIST)
        return after_changes(7, readings, LIST, claim_changes(ledger))

    assert listing(4000) < 15 * listing(400)


# --- machine --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cpus", SIZES)
def test_no_step_of_a_machine_costs_over_5_ms(cpus: int) -> None:
    """The text of every core's CPU list is written in steps, so that none of them holds the event loop."""
    ledger, at = claims(cpus, CLAIMS[cpus]), host(cpus)
    pools = at.pools()

    def steps() -> list[float]:
        readings = Queries(at, None, ledger_known=True)
        found = [cost(partial(readings.prepare, ledger, pools, MACHINE)) for _ in range(cpus // 1000 + 2)]
        assert readings.prepare(ledger, pools, MACHINE)
        return [*found, cost(partial(answer, readings, ledger, MACHINE))]

    assert min(max(steps()) for _ in range(3)) < 5 * MS


@pytest.mark.parametrize("cpus", SIZES)
def test_repeated_machine_costs_under_2_ms(cpus: int) -> None:
    """32 nodes have their hugepages counted each time."""
    ledger = claims(cpus, CLAIMS[cpus])
    readings = Queries(host(cpus), None, ledger_known=True)
    answer(readings, ledger, MACHINE)
    assert least(5, lambda: answer(readings, ledger, MACHINE)) < 2 * MS


# --- hugepages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_service", [1, 10])
@pytest.mark.parametrize("cpus", SIZES)
def test_memory_info_of_20000_records_stays_within_its_budget(cpus: int, per_service: int) -> None:
    ledger = records(20_000, per_service)
    readings = Queries(host(cpus), None, ledger_known=True)
    answer(readings, ledger, MEMORY)
    assert least(5, lambda: answer(readings, ledger, MEMORY)) < 3 * MS
    assert after_changes(9, readings, MEMORY, page_changes(ledger)) < 8 * MS


@pytest.mark.parametrize("what", ["the first", "after a change"])
def test_memory_info_cost_grows_with_the_records(what: str) -> None:
    def spent(count: int) -> float:
        ledger = records(count)

        def first() -> float:
            readings = Queries(host(256), None, ledger_known=True)
            return cost(lambda: answer(readings, ledger, MEMORY))

        if what == "the first":
            return min(first() for _ in range(3))
        readings = Queries(host(256), None, ledger_known=True)
        answer(readings, ledger, MEMORY)
        return after_changes(7, readings, MEMORY, page_changes(ledger))

    assert spent(20_000) < 15 * spent(2_000)


# --- imports -------------------------------------------------------------------------------------------------------


def state_json(kind: str, count: int) -> str:
    """A state.json with `count` claims, `count` records of one service, or `count` services with one record each."""
    entry = {"size_kb": 2048, "count": 1}
    if kind == "claims":
        held = {f"service-{n}": str(n) for n in range(count)}
        return json.dumps({"version": 1, "allocations_db": {"allocations": held, "explicit_allocations": held}})
    if kind == "records":
        allocations = {"service": [entry | {"node_id": n} for n in range(count)]}
    else:
        allocations = {f"service-{n}": [entry | {"node_id": 0}] for n in range(count)}
    return json.dumps({"version": 1, "hugepages_db": {"allocations": allocations}})


def imported(directory: Path, content: str) -> None:
    """Import the older daemon's state as a first start does, up to the opened database."""
    for path in directory.iterdir():
        path.unlink()
    (directory / "state.json").write_text(content)
    ledger = read_legacy_state(directory / "state.json")
    assert ledger is not None
    opening.create(directory / database_files.FILE_NAME, ledger, Peer(1, 0, 0), 1.0)
    opened, _ = opening.open_store(directory / database_files.FILE_NAME)
    opened.close()


@pytest.mark.parametrize("kind", ["claims", "records", "services"])
def test_import_cost_grows_with_the_state(kind: str, tmp_path: Path, long: bool) -> None:
    """In the long form up to 4 MiB, which take a few seconds."""
    few = 4_000 if long else 800
    small, large = state_json(kind, few), state_json(kind, 10 * few)
    costs = [least(2, partial(imported, tmp_path, content)) for content in (small, large)]
    assert costs[1] < 15 * costs[0]
    assert costs[1] < 10


# --- cores that were seen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [False, True])
def test_cost_of_known_cores_grows_with_their_number(damaged: bool) -> None:
    """Damaged: the text of one core has become a range over all of them. Longer masks cost more: 6 times in all."""

    def spent(count: int) -> float:
        pairs = [CpuSet((cpu, cpu + count)) for cpu in range(count)]
        seen = LastSeen({}, (CpuSet(range(count)), *pairs) if damaged else tuple(pairs))
        return least(3, lambda: seen.known_cores(None))

    assert spent(2_000) < 14 * spent(500)
