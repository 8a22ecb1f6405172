# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Search: what must hold of every answer, on large and unusual machines."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.placement import cost, minimum, policy, search, tables
from epa_orchestrator.placement.rules import Unplaceable
from epa_orchestrator.placement.search import EXPLAINED_CANDIDATES, choose, place
from epa_orchestrator.placement.task import Task
from epa_orchestrator.placement.topology import Topology, build_topology
from tests import oracle
from tests.machines import KUNPENG_DISTANCES, SYNTHETIC, made_up, real_machine, real_machine_files, synthetic
from tests.unit.placement.states import SMALL, holdings, random_policy
from tools.synthetic import Shape

LARGER = {
    "scattered L3 ids": Shape(2, 4, 3, 8, 2, l3_ids="scattered"),
    "interleaved sub-NUMA clusters": Shape(2, 2, 1, 8, 2, l3_scope="package", numbering="interleaved"),
    "eight threads": Shape(1, 1, 4, 4, 8, siblings="adjacent"),
    "eight packages": Shape(8, 1, 1, 4, 4),
    "24 packages": Shape(24, 1, 1, 2, 2),
    "no L3": Shape(1, 4, 1, 6, 1, l3_scope="none"),
    "distances": Shape(2, 2, 2, 3, 2, distances=KUNPENG_DISTANCES),
}

#: Recorded machines, where they are; the synthetic ones have the same shapes.
REAL = {path.stem for path in real_machine_files()} & {
    "altixxe320-e5472-8c-buggynuma", "haswell-2s-24c-offline-cpu0-node0", "qemu-hmat-24c", "power7-8n-256t",
    "clx-2s-snc2-80t", "clx-2s-snc2-pmem-112t", "tulsa-4s-16t-offlines", "epyc9654-2s-nps4-384t", "s390-z196-lpar-17c",
    "raptorlake-i7-1370p-20t", "kunpeng920-2s4n-128c", "epyc7451-2s8n-96t", "opteron6272-4s8n-64t",
    "sgi-uv2000-24n-384t", "lakefield-i5-l16g7-5t", "milkv-pioneer-sg2042-64c", "vbox-2c",
}  # fmt: skip

#: Machines whose answers take long.
SLOW = ("package-per-cpu", "power7", "uv2000", "qemu-hmat-24c", "power7-8n-256t", "sgi-uv2000-24n-384t")

on_larger_machines = pytest.mark.parametrize("name", LARGER)
on_unusual_machines = pytest.mark.parametrize("name", [*SYNTHETIC, *sorted(REAL)])
on_all_machines = pytest.mark.parametrize("name", [*LARGER, *SYNTHETIC, *sorted(REAL)])


@cache
def machine_named(name: str) -> Machine:
    if name in LARGER:
        return made_up(LARGER[name])
    return synthetic(name) if name in SYNTHETIC else real_machine(name)


@cache
def pool_of(machine: Machine) -> tuple[Topology, oracle.World]:
    return build_topology(machine, machine.online, EMPTY), oracle.world(machine, frozenset(machine.online))


def counted_minimum(
    where: oracle.World, count: int, threads: str, node: int | None, *, mixed: bool = True
) -> tuple[int, int] | None:
    """The same as `oracle.minimum`, quickly: the roomiest nodes, and the roomiest L3 domains in them.

    For whole cores this is right only where all cores have as many threads.
    """
    room = dict[int, Counter[Hashable]]()
    for core in set(where.core.values()):
        cpu = min(core)
        if node in (None, where.node[cpu]):
            room.setdefault(where.node[cpu], Counter())[where.l3[cpu]] += 1 if threads == "isolate" else len(core)
    if threads == "require" and count % min(len(core) for core in where.core.values()):
        return None
    known, unknown = ({key: room[key] for key in room if (key < 0) is nowhere} for nowhere in (False, True))
    places = [room] if mixed else [known, unknown]
    return min((found for each in places if (found := _fewest(each, count)) is not None), default=None)


def _fewest(room: Mapping[int, Counter[Hashable]], count: int) -> tuple[int, int] | None:
    """The fewest nodes that have room, and the fewest L3 domains in so many."""
    totals = sorted((each.total() for each in room.values()), reverse=True)
    nodes = _how_many(totals, count)
    if nodes is None:
        return None
    l3s = [
        _how_many(sorted(sum(chosen, Counter[Hashable]()).values(), reverse=True), count)
        for chosen in itertools.islice(itertools.combinations(room.values(), nodes), 100)
    ]
    return nodes, min(number for number in l3s if number is not None)


def _how_many(sizes: Sequence[int], count: int) -> int | None:
    """How many of the sizes, in their order, add up to the count."""
    sums = itertools.accumulate(sizes)
    return next((number for number, total in enumerate(sums, 1) if total >= count), None)


@pytest.mark.parametrize("index", [0, 1, 5, 9, 12, 14, 17])
@pytest.mark.parametrize("threads", ["prefer", "require", "isolate"])
def test_counted_minimum_is_that_of_the_oracle(index: int, threads: str) -> None:
    where = pool_of(SMALL[index])[1]
    for count in range(1, len(where.core) + 1):
        assert counted_minimum(where, count, threads, None) == oracle.minimum(where, count, threads)


@dataclass(frozen=True)
class Request:
    """A random request, for the program and for the oracle."""

    machine: Machine
    task: Task
    asked: oracle.Question
    rng: random.Random


def random_request(machine: Machine, rng: random.Random) -> Request:
    topology, where = pool_of(machine)
    own, other = holdings(rng, machine, machine.online)
    free = machine.online - own - other
    policy = random_policy(rng, machine.node_ids if rng.random() < 0.2 else ())
    if policy.cpu_thread_policy == "require" and len({len(core) for core in where.core.values()}) > 1:
        policy = replace(policy, numa_policy="best-effort", uncore_cache_alignment="prefer")  # see counted_minimum
    node = None
    if rng.random() < 0.2:
        node = rng.choice([each.id for each in topology.nodes.values()])
        inside = CpuSet.from_mask(topology.nodes[node].cpus)
        free, own = free & inside, own & inside
    count = rng.choice((rng.randint(0, len(free | own)), rng.randint(0, min(len(free | own), 12))))
    asked = oracle.Question(where, frozenset(free), frozenset(own), count, policy, node=node)
    threads = policy.cpu_thread_policy
    for mixed in (False, True):
        where.known_minimum[count, threads, node, mixed] = counted_minimum(where, count, threads, node, mixed=mixed)
    return Request(machine, Task(topology, free, own, count, policy, node=node), asked, rng)


def check_requests(name: str, check: Callable[[Request], None]) -> None:
    machine = machine_named(name)

    @settings(max_examples=3 if name in SLOW else 12, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def on_it(seed: int) -> None:
        check(random_request(machine, random.Random(seed)))

    on_it()


def outcome(task: Task) -> CpuSet | str:
    """The CPUs, or the option whose rule allows none."""
    try:
        return place(task)[0]
    except Unplaceable as error:
        return error.rule.option


def granted(task: Task) -> CpuSet | None:
    answer = outcome(task)
    return None if isinstance(answer, str) else answer


def forget() -> None:
    """Empty every cache of placement."""
    for module in (cost, minimum, search, policy, tables):
        for each in (*vars(module).values(), *(cached for _, cached in tables._remembered_tables)):
            if hasattr(each, "cache_clear"):
                each.cache_clear()


@on_all_machines
def test_an_answer_does_not_depend_on_earlier_requests(name: str) -> None:
    def check(request: Request) -> None:
        task, online, rng = request.task, request.machine.online, request.rng
        answer = outcome(task)
        some = CpuSet(rng.sample(list(online), rng.randint(1, len(online))))
        outcome(Task(task.topology, some, EMPTY, min(len(some), 8), random_policy(rng)))
        assert outcome(task) == answer

    check_requests(name, check)


@on_all_machines
def test_an_answer_does_not_depend_on_the_caches(name: str) -> None:
    def check(request: Request) -> None:
        answer = outcome(request.task)
        forget()
        fresh = build_topology(request.machine, request.machine.online, EMPTY)
        assert outcome(replace(request.task, topology=fresh)) == answer

    check_requests(name, check)


@on_all_machines
def test_a_growing_claim_keeps_its_cpus_and_a_shrinking_one_gets_no_others(name: str) -> None:
    def check(request: Request) -> None:
        task = request.task
        if (answer := granted(task)) is not None:
            assert len(answer) == task.count
            assert answer <= task.free | task.own
            assert task.own <= answer if task.count >= len(task.own) else answer <= task.own

    check_requests(name, check)


@on_all_machines
def test_an_answer_respects_the_rules(name: str) -> None:
    def check(request: Request) -> None:
        answer = granted(request.task)
        if answer and answer != request.task.own:
            assert oracle.broken(request.asked, frozenset(answer)) is None

    check_requests(name, check)


@on_all_machines
def test_the_cost_of_an_answer_is_that_of_the_oracle(name: str) -> None:
    def check(request: Request) -> None:
        if answer := granted(request.task):
            assert request.task.cost(answer)._asdict() == oracle.cost(request.asked, frozenset(answer))

    check_requests(name, check)


@on_all_machines
def test_the_next_candidates_are_no_better_and_respect_the_rules(name: str) -> None:
    def check(request: Request) -> None:
        task = request.task
        answer = granted(task)
        if answer and answer != task.own:
            for candidate in place(task, EXPLAINED_CANDIDATES)[1:4]:
                assert oracle.broken(request.asked, frozenset(candidate)) is None
                assert task.rank(answer) <= task.rank(candidate)

    check_requests(name, check)


@on_all_machines
def test_the_same_count_changes_nothing(name: str) -> None:
    def check(request: Request) -> None:
        task = request.task
        if (answer := granted(task)) is not None:
            others_free = (task.free | task.own) - answer
            assert choose(task.topology, others_free, answer, task.count, task.policy) == answer

    check_requests(name, check)


@on_all_machines
def test_a_refusal_names_the_rule_that_its_choice_breaks(name: str) -> None:
    def check(request: Request) -> None:
        answer = outcome(request.task)
        if isinstance(answer, str):
            with pytest.raises(Unplaceable) as refused:
                place(request.task)
            assert oracle.broken(request.asked, frozenset(refused.value.choice)) == answer

    check_requests(name, check)


@on_all_machines
def test_a_request_that_plainly_fits_is_not_refused(name: str) -> None:
    def check(request: Request) -> None:
        if isinstance(outcome(request.task), str):
            assert request.task.policy.rules
            assert not _plainly_fits(request.asked)

    check_requests(name, check)


def _plainly_fits(asked: oracle.Question) -> bool:
    """Whether there is obviously room: a first claim, in a node or L3 domain that has enough free CPUs alone."""
    if asked.own or asked.policy.cpu_thread_policy == "require":
        return False
    cores = {core for cpu, core in asked.world.core.items() if cpu in asked.free}
    if asked.policy.cpu_thread_policy == "isolate":
        usable = {min(core) for core in cores if core <= asked.free}
    else:
        usable = set(asked.free)
    if asked.policy.uncore_cache_alignment == "require":
        across = {(asked.world.l3[cpu], asked.world.node[cpu]) for cpu in asked.world.l3}
        nested = len({l3 for l3, _ in across}) == len(across)
        return nested and max(Counter(asked.world.l3[cpu] for cpu in usable).values(), default=0) >= asked.count
    if asked.node is not None or asked.policy.numa_policy in ("none", "best-effort"):
        return len(usable) >= asked.count
    return max(Counter(asked.world.node[cpu] for cpu in usable).values(), default=0) >= asked.count


@on_larger_machines
def test_a_request_that_fits_in_one_node_gets_one_node(name: str) -> None:
    shape = LARGER[name]
    topology, rng = pool_of(machine_named(name))[0], random.Random(name)
    for _ in range(40):
        free = CpuSet(rng.sample(range(shape.cpus), rng.randint(1, shape.cpus)))
        roomiest = max((node.cpus & free.mask).bit_count() for node in topology.nodes.values())
        chosen = choose(topology, free, EMPTY, rng.randint(1, roomiest))
        assert len(topology.nodes_of(chosen.mask)) == 1


def filled(machine: Machine) -> tuple[Topology, list[CpuSet], CpuSet]:
    """The machine's topology, claims one after the other until one does not fit, and the CPUs that are still free."""
    topology = pool_of(machine)[0]
    free, claims = machine.online, list[CpuSet]()
    for size in itertools.cycle((1, 4, 3, 8, 2)):
        if len(free) < size:
            break
        claims.append(choose(topology, free, EMPTY, size))
        free -= claims[-1]
    return topology, claims, free


@on_unusual_machines
def test_an_unusual_machine_can_be_filled(name: str) -> None:
    machine = machine_named(name)
    _, claims, free = filled(machine)
    assert len(free) < 8
    assert sum(map(len, claims)) + len(free) == len(machine.online)


@on_unusual_machines
def test_a_filled_machine_can_be_emptied(name: str) -> None:
    topology, claims, free = filled(machine_named(name))
    for claim in claims:
        assert choose(topology, free, claim, 0) == EMPTY
        free |= claim
    assert free == machine_named(name).online
