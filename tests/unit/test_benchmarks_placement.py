# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.placement import kubelet
from benchmarks.placement.allocators import COMPARED, DEFAULT, LowestFirst
from benchmarks.placement.hosts import HYBRID, NAMES, Host, host, made_of
from benchmarks.placement.judge import Case, case_of, judge, l3s_needed
from benchmarks.placement.replay import Tally, replay
from benchmarks.placement.streams import PROFILES, Event, Scenario, arrivals, size_weights, stream
from epa_orchestrator.cpuset import CpuSet
from tools.synthetic import Shape, build

if TYPE_CHECKING:
    from benchmarks.placement.bound import Job

SCENARIO = Scenario(cpus=64, threads_per_core=2, profile="mixed", load=0.95, requests=400, seed=7)


def of(shape: Shape) -> Host:
    return made_of("made up", build(shape))


def mask(cpus: str) -> int:
    return CpuSet.parse(cpus).mask


def text(cpus: int | None) -> str | None:
    return None if cpus is None else str(CpuSet.from_mask(cpus))


class TestKubelet:
    def test_the_example_of_kep_4800(self) -> None:
        """32 CPUs, 4 uncore caches of 8, CPUs 0 and 1 reserved; containers of 10, 8 and 6 CPUs."""
        machine = of(Shape(l3_per_node=4, cores_per_l3=8))
        free = mask("2-31")
        for count, expected in ((10, "8-17"), (8, "24-31"), (6, "2-7")):
            chosen = kubelet.packed(machine, free, count)
            assert text(chosen) == expected
            free &= ~chosen

    def test_the_other_example_of_kep_4800(self) -> None:
        """16 CPUs, 2 uncore caches of 8, CPUs 0 and 1 reserved: none of three containers of 4 spans both."""
        machine = of(Shape(l3_per_node=2, cores_per_l3=8))
        free = mask("2-15")
        for expected in ("2-5", "8-11", "12-15"):
            chosen = kubelet.packed(machine, free, 4)
            assert text(chosen) == expected
            free &= ~chosen

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            # KEP-3570: "two sibling threads on the same physical core (HT) or two cores on the same socket (no HT)".
            (Shape(packages=2, threads_per_core=2, l3_scope="none"), "0,8"),
            (Shape(packages=2, l3_scope="none"), "0-1"),
        ],
    )
    def test_the_pod_of_two_cpus_of_kep_3570(self, shape: Shape, expected: str) -> None:
        machine = of(shape)
        assert text(kubelet.packed(machine, machine.cpus, 2)) == expected

    @pytest.mark.parametrize(
        ("shape", "free", "count", "expected"),
        [
            # Two packages of two nodes of 4 CPUs: a whole package, then a whole node, then what is left.
            (Shape(packages=2, nodes_per_package=2), "1-15", 13, "4-15,1"),
            # Whole L3 domains before a part of one, and the first part that is large enough.
            (Shape(l3_per_node=3), "1-11", 7, "4-10"),
            # The part is looked for behind the whole domain, and then from the start.
            (Shape(l3_per_node=3), "0-1,4-7,11", 6, "0-1,4-7"),
            # Nothing fits: the lowest single CPUs, in any part.
            (Shape(l3_per_node=3), "0-1,4-5,8-9", 3, "0-1,4"),
            # In a part, whole cores come first (cores are 0,4 1,5 2,6 3,7).
            (Shape(threads_per_core=2), "0-3,5-7", 3, "0-1,5"),
            # Across nodes single CPUs come from the node with fewer free ones.
            (Shape(packages=2, l3_scope="none"), "0-2,4-5", 3, "0,4-5"),
            # Single threads come from cores that are in use (cores are 0,4 1,5 2,6 3,7).
            (Shape(threads_per_core=2, l3_scope="none"), "0,2-3,6-7", 3, "0,2,6"),
        ],
    )
    def test_packed(self, shape: Shape, free: str, count: int, expected: str) -> None:
        assert text(kubelet.packed(of(shape), mask(free), count)) == text(mask(expected))

    @pytest.mark.parametrize(
        ("free", "count", "nodes"),
        [
            ("0-15", 3, [0]),
            ("2-15", 3, [1]),  # the lowest node that has enough, not the one that fits best
            ("2-3,6-7,8-11,14", 4, [2]),
            ("2-3,6-7,10,14-15", 4, [0, 1]),  # none has enough: the narrowest set, of these the lowest
            ("0,4,10-11,12-14", 5, [2, 3]),
            ("0,4,8,12", 4, [0, 1, 2, 3]),
        ],
    )
    def test_hints(self, free: str, count: int, nodes: Sequence[int]) -> None:
        machine = of(Shape(packages=2, nodes_per_package=2))  # nodes 0-3, 4-7, 8-11, 12-15
        assert kubelet.best_hint(machine, mask(free), count) == tuple(machine.nodes[node] for node in nodes)

    def test_best_effort_stays_on_the_hinted_nodes(self) -> None:
        machine = of(Shape(packages=2, nodes_per_package=2))
        assert text(kubelet.packed(machine, mask("0-1,4-7"), 3)) == "4-6"
        assert text(kubelet.best_effort(machine, mask("0-2,4-7"), 3)) == "0-2"
        assert text(kubelet.best_effort(machine, mask("2-3,6-7,8"), 4)) == "2-3,6-7"

    def test_single_numa_node_refuses(self) -> None:
        machine = of(Shape(packages=2, nodes_per_package=2))
        assert text(kubelet.single_numa_node(machine, mask("2-3,5-7"), 3)) == "5-7"
        assert kubelet.single_numa_node(machine, mask("2-3,6-7"), 3) is None


def test_lowest_first() -> None:
    machine, lowest = of(Shape()), LowestFirst()
    assert text(lowest.place(machine, mask("1-3"), 0, 2)) == "1-2"
    assert text(lowest.place(machine, mask("0,2"), mask("1,3"), 3)) == "0-1,3"
    assert text(lowest.place(machine, mask("0,2"), mask("1,3"), 1)) == "1"


class TestHosts:
    def test_there_are_machines_of_every_kind(self) -> None:
        machines = [host(name) for name in NAMES]
        assert {machine.threads_per_core for machine in machines} == {1, 2, 4}
        assert {len(machine.l3s) for machine in machines} >= {24, 32}
        assert any(len(machine.nodes) > len(machine.l3s) for machine in machines)
        assert all(machine.cpus == machine.topology.nodes[0].cpus for machine in machines if len(machine.nodes) == 1)

    def test_the_hybrid_one_has_cores_of_two_kinds(self) -> None:
        found = {(core.type, len(core.cpus)) for core in host(HYBRID).machine.cores}
        assert found == {("performance", 2), ("efficiency", 1)}
        assert len(host(HYBRID).cores) == 24


class TestStreams:
    def test_equal_scenarios_make_equal_streams(self) -> None:
        assert stream(SCENARIO) == stream(SCENARIO)
        for other in (replace(SCENARIO, seed=8), replace(SCENARIO, load=0.75), replace(SCENARIO, resizes=False)):
            assert stream(other) != stream(SCENARIO)

    def test_in_another_process_too(self) -> None:
        program = f"from benchmarks.placement.streams import *\nprint(stream({SCENARIO!r}))"
        environment = os.environ | {"PYTHONHASHSEED": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
        printed = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout
        assert printed.strip() == str(stream(SCENARIO))

    def test_claims_come_are_resized_while_they_live_and_go(self) -> None:
        lives: dict[int, list[Event]] = {}
        for event in stream(SCENARIO):
            lives.setdefault(event.claim, []).append(event)
        assert sum(len(life) - 1 for life in lives.values()) in range(400, 410)
        for life in lives.values():
            assert [life[0].kind, life[-1].kind] == ["allocate", "release"]
            assert {event.kind for event in life[1:-1]} <= {"resize"}
            assert all(one.count != other.count for one, other in itertools.pairwise(life))
        assert sum(1 for life in lives.values() if len(life) > 2) in range(60, 130)

    @pytest.mark.parametrize("profile", list(PROFILES))
    def test_the_requested_cpus_are_the_load(self, profile: str) -> None:
        events = stream(replace(SCENARIO, profile=profile, load=0.75, requests=20_000))
        last = max(event.time for event in events if event.kind == "allocate")
        counts: dict[int, tuple[float, int]] = {}
        asked = 0.0
        for event in events:
            since, count = counts.get(event.claim, (event.time, 0))
            asked += count * (min(event.time, last) - min(since, last))
            counts[event.claim] = event.time, event.count
        assert asked / last / SCENARIO.cpus == pytest.approx(0.75, rel=0.05)
        assert len(counts) / last == pytest.approx(arrivals(replace(SCENARIO, profile=profile, load=0.75)), rel=0.05)

    def test_sizes(self) -> None:
        weights = size_weights(PROFILES["small"], 4)
        harmonic = 761 / 280  # 1 + 1/2 + ... + 1/8
        assert sum(weights.values()) == pytest.approx(1)
        assert weights[3] == pytest.approx(0.05 / 3 / harmonic)
        assert weights[8] == pytest.approx((0.95 * (1 / 5 + 1 / 6 + 1 / 7 + 1 / 8) + 0.05 / 8) / harmonic)
        assert {size for size, weight in size_weights(PROFILES["mixed"], 1).items() if weight} == set(range(1, 33))


def _small_hosts() -> list[Host]:
    shapes = (
        Shape(packages=2, l3_per_node=2, cores_per_l3=1, threads_per_core=3),
        Shape(packages=2, nodes_per_package=2, cores_per_l3=1, threads_per_core=2),
        Shape(packages=2, nodes_per_package=2, cores_per_l3=3, l3_scope="package"),
        Shape(packages=1, nodes_per_package=3, l3_per_node=2, cores_per_l3=1, threads_per_core=2),
    )
    return [of(shape) for shape in shapes]


def _cases() -> Iterator[tuple[Host, Case]]:
    """Random states of small machines, with and without CPUs that must be kept."""
    chance = random.Random(1)
    for machine in _small_hosts():
        for _ in range(60):
            owners = [chance.choice(["free", "own", "other"]) for _ in range(machine.cpus.bit_count())]
            free = sum(1 << cpu for cpu, owner in enumerate(owners) if owner == "free")
            own = sum(1 << cpu for cpu, owner in enumerate(owners) if owner == "own" and chance.random() < 0.5)
            count = chance.randint(1, max(1, (free | own).bit_count()))
            if count <= (free | own).bit_count():
                yield machine, case_of(machine, free, own, count, in_place=chance.random() < 0.7)


def _choices(case: Case) -> list[int]:
    """Every set of CPUs that the request could get."""
    cpus = [1 << cpu for cpu in CpuSet.from_mask(case.usable & ~case.kept)]
    missing = case.count - case.kept.bit_count()
    return [case.kept | sum(chosen) for chosen in itertools.combinations(cpus, missing)]


def _touched(domains: Sequence[int], chosen: int) -> int:
    return sum(1 for domain in domains if domain & chosen)


class TestJudge:
    def test_against_every_possible_choice(self) -> None:
        chance = random.Random(2)
        seen: set[tuple[bool, bool, bool]] = set()
        for machine, case in _cases():
            choices = _choices(case)
            least = min(_touched(machine.nodes, each) for each in choices)
            smallest = [each for each in choices if _touched(machine.nodes, each) == least]
            l3s = min(_touched(machine.l3s, each) for each in smallest)
            packages = min(_touched(machine.packages, each) for each in smallest)
            nearest = [each for each in smallest if _touched(machine.packages, each) == packages]

            def newly_shared(chosen: int, machine: Host = machine, case: Case = case) -> bool:
                return any(core & chosen and core & case.others and not core & case.kept for core in machine.cores)

            chosen = chance.choice(choices)
            verdict = judge(machine, case, chosen)
            assert verdict.one_node_possible == (least == 1)
            assert verdict.one_node == (_touched(machine.nodes, chosen) == 1)
            assert verdict.more_l3s == (_touched(machine.l3s, chosen) > l3s)
            assert verdict.shared == any(core & chosen and core & case.others for core in machine.cores)
            assert verdict.avoidable == (newly_shared(chosen) and not all(map(newly_shared, nearest)))
            seen.add((verdict.one_node_possible, verdict.more_l3s, verdict.avoidable))
        assert len(seen) >= 7

    def test_l3s_needed_by_hand(self) -> None:
        machine = of(Shape(l3_per_node=3))  # 0-3, 4-7, 8-11
        everything = machine.cpus

        def needed(usable: str, kept: str, count: int) -> int:
            return l3s_needed(machine.l3s, Case(count, mask(usable), mask(kept), 0), everything)

        assert needed("0-2,4-7,8", "", 4) == 1
        assert needed("0-2,4-5,8", "", 5) == 2
        assert needed("0-2,4-7,8", "8", 4) == 2  # 8 must stay, and its domain has no more
        assert needed("0-2,4-7,8-11", "8", 4) == 1

    def test_an_allocator_that_moves_claims_has_more_choices(self) -> None:
        machine = of(Shape(packages=2))
        growing = {"free": mask("4-7"), "own": mask("0-1"), "count": 3}
        assert case_of(machine, **growing, in_place=True) == Case(3, mask("0-1,4-7"), mask("0-1"), mask("2-3"))
        assert case_of(machine, **growing, in_place=False) == Case(3, mask("0-1,4-7"), 0, mask("2-3"))
        shrinking = growing | {"count": 1}
        assert case_of(machine, **shrinking, in_place=True) == Case(1, mask("0-1"), 0, mask("2-3"))


class TestReplay:
    def test_by_hand(self) -> None:
        """Two nodes of two cores of two threads; siblings are adjacent: 0,1 2,3 and 4,5 6,7."""
        machine = of(Shape(packages=2, cores_per_l3=2, threads_per_core=2, siblings="adjacent"))
        events = [
            Event(0.0, "allocate", 0, 1),  # 0, before counting begins
            Event(1.0, "allocate", 1, 2),  # 1-2: shares a core, which 2-3 would not
            Event(2.0, "allocate", 2, 4),  # 3-6: on two nodes though 4-7 is free, two L3 domains for one, shares 2,3
            Event(3.0, "resize", 1, 3),  # 1-2,7: node 0 has no room left, so two nodes must be; shares two cores
            Event(4.0, "allocate", 3, 1),  # lost
            Event(5.0, "resize", 3, 2),  # of a claim that is not there
            Event(6.0, "release", 2, 0),
            Event(7.0, "resize", 1, 1),  # 1: shares its core, which 2 or 7 would not
        ]
        assert replay(machine, events, LowestFirst(), warm_up=1.0) == Tally(
            requests=5, lost=1, one_node_possible=3, one_node=2, more_l3s=1, shared=4, avoidable=3, resizes=2
        )

    def test_an_allocator_that_moves(self) -> None:
        """kubelet allocates all CPUs again: 4 no longer fit next to the others in 0-3, and both CPUs move."""
        machine = of(Shape(packages=2))
        events = [
            Event(0.0, "allocate", 0, 2),
            Event(1.0, "allocate", 1, 1),
            Event(2.0, "resize", 0, 4),
        ]
        tally = replay(machine, events, COMPARED[2], warm_up=0.0)
        assert (tally.resizes, tally.moved, tally.one_node, tally.moved_per_resize) == (1, 2, 3, 2.0)

    def test_shares_of_nothing(self) -> None:
        tally = Tally()
        assert (tally.one_node_share, tally.shared_share, tally.moved_per_resize, tally.refused_share) == (1, 0, 0, 0)


class TestBound:
    @pytest.fixture(autouse=True)
    def solver(self) -> None:
        pytest.importorskip("highspy", reason="the clairvoyant bound needs the solver highspy")

    def test_crowds_by_hand(self) -> None:
        from benchmarks.placement.bound import Job, crowds

        jobs = [Job(0, 3, 1), Job(1, 2, 1), Job(2, 5, 1), Job(2.5, 4, 1), Job(6, 7, 1)]
        # Job 1 has gone when job 2 comes.
        assert crowds(jobs) == [[0, 1], [0, 2, 3], [4]]
        assert crowds([]) == []

    def test_jobs_of_a_stream(self) -> None:
        from benchmarks.placement.bound import Job, jobs_of

        events = [Event(0, "allocate", 5, 2), Event(1, "allocate", 6, 3), Event(2, "release", 5, 0)]
        assert jobs_of([*events, Event(4, "release", 6, 0)]) == [Job(0, 2, 2), Job(1, 4, 3)]
        with pytest.raises(ValueError, match="resizes"):
            jobs_of([Event(0, "resize", 1, 2)])

    def test_a_clairvoyant_refuses_the_large_one(self) -> None:
        from benchmarks.placement.bound import Bound, Effort, Job, bound

        jobs = [Job(0, 9, 4), Job(1, 2, 3), Job(3, 4, 2), Job(3, 4, 2)]
        assert bound(jobs, [4], Effort(1000, 300)) == Bound(3, 3)
        assert bound(jobs, [4, 3], Effort(1000, 300)) == Bound(3, 3)
        assert bound(jobs, [4, 4], Effort(1000, 300)) == Bound(4, 4)
        assert bound([Job(0, 1, 5)], [4], Effort(1000, 300)) == Bound(0, 0)

    def test_against_every_assignment(self) -> None:
        from benchmarks.placement.bound import Bound, Effort, Job, bound

        chance = random.Random(3)
        for capacities in ([4], [4, 4], [3, 5], [3, 3, 3]):
            for _ in range(10):
                times = [(chance.random(), chance.random()) for _ in range(6)]
                jobs = [Job(begin, begin + life, chance.randint(1, 4)) for begin, life in sorted(times)]
                best = _most(jobs, capacities)
                assert bound(jobs, capacities, Effort(100_000, 300)) == Bound(best, best)

    def test_stopped_early_it_is_a_bound_still(self) -> None:
        from benchmarks.placement.bound import Effort, bound, jobs_of

        scenario = replace(SCENARIO, cpus=96, load=1.1, requests=60, resizes=False)
        jobs = jobs_of(stream(scenario))
        stopped, solved = bound(jobs, [32] * 3, Effort(0, 300)), bound(jobs, [32] * 3, Effort(100, 300))
        assert stopped.accepted >= solved.accepted >= solved.reached >= stopped.reached
        assert stopped == bound(jobs, [32] * 3, Effort(0, 300))


def _most(jobs: Sequence[Job], capacities: Sequence[int]) -> int:
    """The most jobs that can be accepted, by trying every assignment to the nodes or to none."""
    best = 0
    for places in itertools.product(range(len(capacities) + 1), repeat=len(jobs)):
        nodes = [[job for job, place in zip(jobs, places, strict=True) if place == n] for n in range(len(capacities))]
        if all(_peak(mine) <= capacity for mine, capacity in zip(nodes, capacities, strict=True)):
            best = max(best, sum(map(len, nodes)))
    return best


def _peak(jobs: Sequence[Job]) -> int:
    """The most CPUs that are held at one time."""
    return max((sum(job.count for job in jobs if job.arrival <= at.arrival < job.end) for at in jobs), default=0)


class TestAll:
    @pytest.fixture(autouse=True)
    def solver(self) -> None:
        pytest.importorskip("highspy", reason="the clairvoyant bound needs the solver highspy")

    def test_in_miniature(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from benchmarks.placement.measure import QUICK, measure
        from benchmarks.placement.report import show, write_json
        from benchmarks.report import Run

        plan = replace(
            QUICK,
            hosts=("VM", HYBRID),
            loads=(0.95,),
            requests=20,
            acceptance_loads=(1.1,),
            lifetimes=1,
            bounded_requests=10,
            timed_cpus=(16, 1024),
            timed_requests=20,
            rounds=1,
        )
        said: list[str] = []
        results = measure(plan, said.append)
        assert "VM, mixed, 0.95: replayed" in said
        again = measure(replace(plan, timed_cpus=()), said.append)
        assert (again.replayed, again.accepted) == (results.replayed, results.accepted)
        assert len(results.aims()) == 7
        assert len(results.replayed) == 2 * 3 * (1 + len(COMPARED))
        show(results, Run(seconds=1, other_work=0))
        printed = capsys.readouterr().out
        for expected in (*(each.name for each in COMPARED), "hybrid", "bound", "p99", "Aims"):
            assert expected in printed
        write_json(results, tmp_path / "results.json", Run(seconds=1, other_work=0))
        document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        assert document["means"][DEFAULT.name]["moved per resize"] == 0
        assert len(document["aims"]) == 7
