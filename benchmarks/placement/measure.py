# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the measurements: streams and bounds in several processes, and then, with the machine to itself, the times."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Final

from benchmarks.placement.allocators import COMPARED, DEFAULT, POLICIES, SINGLE_NODE, Allocator
from benchmarks.placement.bound import Effort, bound, jobs_of
from benchmarks.placement.hosts import NAMES, Host, host
from benchmarks.placement.replay import replay
from benchmarks.placement.results import AIMED, Accepted, Replayed, Results, Setup
from benchmarks.placement.streams import Scenario, arrivals, stream
from benchmarks.placement.timing import times

Say = Callable[[str], None]

#: In mean lifetimes: when a machine that began empty is as full as it will be.
WARM_UP: Final = 2.0


@dataclass(frozen=True)
class Plan:
    """What is measured, and how thoroughly."""

    hosts: tuple[str, ...]
    #: For the profiles that have aims; the others are replayed at the highest load only.
    loads: tuple[float, ...]
    allocators: tuple[Allocator, ...]
    #: About as many requests in each setup after the warm-up.
    requests: int
    acceptance_loads: tuple[float, ...]
    #: Mean lifetimes and requests, at least, in each stream that a bound is worked out for.
    lifetimes: float
    bounded_requests: int
    effort: Effort
    timed_cpus: tuple[int, ...]
    timed: tuple[Allocator, ...]
    timed_requests: int
    rounds: int
    seed: int = 1


FULL: Final = Plan(
    hosts=NAMES,
    loads=(0.75, 0.95),
    allocators=(*POLICIES, *COMPARED),
    requests=1000,
    acceptance_loads=(0.75, 0.95, 1.1),
    lifetimes=6,
    bounded_requests=200,
    effort=Effort(tree_nodes=20, seconds=240),
    timed_cpus=(16, 384, 1024),
    timed=POLICIES,
    timed_requests=2000,
    rounds=3,
)
QUICK: Final = Plan(
    hosts=NAMES,
    loads=(0.75, 0.95),
    allocators=(DEFAULT, *COMPARED),
    requests=150,
    acceptance_loads=(0.75, 0.95, 1.1),
    lifetimes=2,
    bounded_requests=50,
    effort=Effort(tree_nodes=1, seconds=30),
    timed_cpus=(16, 384, 1024),
    timed=(DEFAULT,),
    timed_requests=600,
    rounds=2,
)


def measure(plan: Plan, say: Say) -> Results:
    """Measure everything in the plan."""
    results = Results()
    setups = [Setup(name, profile, load) for name in plan.hosts for profile in AIMED for load in plan.loads]
    setups += [Setup(name, "any", max(plan.loads)) for name in plan.hosts]
    bounded = [Setup(name, profile, load) for name in plan.hosts for profile in AIMED for load in plan.acceptance_loads]
    workers = min(len(os.sched_getaffinity(0)), len(setups))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        replays = [processes.submit(replayed, plan, setup) for setup in setups]
        acceptances = [processes.submit(accepted, plan, setup) for setup in bounded]
        for setup, replaying in zip(setups, replays, strict=True):
            results.replayed += replaying.result()
            say(f"{setup}: replayed")
        for setup, accepting in zip(bounded, acceptances, strict=True):
            results.accepted.append(accepting.result())
            say(f"{setup}: bounded")
    for cpus in plan.timed_cpus:
        say(f"{cpus} CPUs: times")
        results.times += times(plan.timed, cpus, plan.timed_requests, plan.rounds, plan.seed)
    return results


def replayed(plan: Plan, setup: Setup) -> list[Replayed]:
    """Replay a setup's stream through every allocator."""
    machine = host(setup.host)
    scenario = _scenario(plan, setup, machine, resizes=True)
    events = stream(replace(scenario, requests=plan.requests + int(WARM_UP * arrivals(scenario))))
    compared = plan.allocators if setup.profile in AIMED else (DEFAULT, *COMPARED)
    return [Replayed(each.name, setup, replay(machine, events, each, WARM_UP)) for each in compared]


def accepted(plan: Plan, setup: Setup) -> Accepted:
    """Count the requests of a stream without resizes that single-node allocators accept, and bound that number."""
    machine = host(setup.host)
    scenario = _scenario(plan, setup, machine, resizes=False)
    requests = max(plan.bounded_requests, int(plan.lifetimes * arrivals(scenario)))
    events = stream(replace(scenario, requests=requests))
    most = bound(jobs_of(events), [node.bit_count() for node in machine.nodes], plan.effort)
    counts = {each.name: replay(machine, events, each, 0).placed for each in SINGLE_NODE}
    return Accepted(setup, requests, most, counts)


def _scenario(plan: Plan, setup: Setup, machine: Host, *, resizes: bool) -> Scenario:
    cpus, threads = machine.cpus.bit_count(), machine.threads_per_core
    return Scenario(cpus, threads, setup.profile, setup.load, plan.requests, plan.seed, resizes)
