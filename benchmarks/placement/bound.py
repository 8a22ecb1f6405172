# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A bound on acceptance: how many requests could be placed if the whole stream were known before it begins.

An integer program chooses which requests to accept and on which NUMA node, each for its whole life, so that no node is
over its capacity at any time. It sees CPUs as interchangeable inside a node, as a policy that asks for one node only
does. HiGHS solves it, or is stopped and reports what it has proved, which is also a bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import highspy

from benchmarks.placement.streams import Event

#: The solver counts in floating point.
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True)
class Job:
    """A request that would hold `count` CPUs from its arrival until its end."""

    arrival: float
    end: float
    count: int


@dataclass(frozen=True)
class Bound:
    """At most `accepted` requests can be accepted, and at least `reached`; both are equal when it was solved.

    A bound that was not found `in_time` may differ on another machine.
    """

    accepted: int
    reached: int
    in_time: bool = True

    @property
    def solved(self) -> bool:
        """Whether the bound is the optimum."""
        return self.accepted == self.reached


@dataclass(frozen=True)
class Effort:
    """When the solver stops: after `tree_nodes` nodes of the search tree, or after `seconds` on a slow machine.

    Only the first limit gives the same bound on every machine.
    """

    tree_nodes: int
    seconds: float


def jobs_of(events: Iterable[Event]) -> list[Job]:
    """The requests of a stream without resizes, by arrival."""
    begun: dict[int, Event] = {}
    jobs: list[Job] = []
    for event in events:
        if event.kind == "allocate":
            begun[event.claim] = event
        elif event.kind == "release":
            first = begun.pop(event.claim)
            jobs.append(Job(first.time, event.time, first.count))
        else:
            raise ValueError("the bound does not support resizes")
    return sorted(jobs, key=lambda job: job.arrival)


def crowds(jobs: Sequence[Job]) -> list[list[int]]:
    """The largest sets of jobs that are alive at one time; a choice that fits these fits always.

    Only arrivals fill a node, and a crowd that grows before anyone leaves it is contained in the grown one.
    """
    found: list[list[int]] = []
    alive: list[int] = []
    for index, job in enumerate(jobs):
        staying = [other for other in alive if jobs[other].end > job.arrival]
        if len(staying) < len(alive):
            found.append(alive)
        alive = [*staying, index]
    return [*found, alive] if alive else found


def bound(jobs: Sequence[Job], capacities: Sequence[int], effort: Effort) -> Bound:
    """How many of the jobs nodes of these capacities can take, each job on one node.

    Nodes of one capacity can be exchanged for each other, so the first job may go to the first of them only, the
    second to the first two, and so on: every solution has a renumbering in which that holds.
    """
    solver = highspy.Highs()
    for option, value in (
        ("output_flag", False), ("threads", 1), ("random_seed", 1), ("mip_rel_gap", 0.0), ("mip_abs_gap", 0.99),
        ("mip_max_nodes", effort.tree_nodes), ("time_limit", effort.seconds),
    ):  # fmt: skip
        solver.setOptionValue(option, value)
    columns = _columns(solver, jobs, capacities)
    for crowd in crowds(jobs):
        for node, capacity in enumerate(capacities):
            row = [(columns[job, node], float(jobs[job].count)) for job in crowd if (job, node) in columns]
            if sum(count for _, count in row) > capacity:
                _at_most(solver, row, capacity)
    solver.changeObjectiveSense(highspy.ObjSense.kMaximize)
    solver.run()
    info = solver.getInfo()
    best = info.objective_function_value if info.primal_solution_status else 0.0
    proved = min(info.mip_dual_bound, float(len(jobs)))
    in_time = solver.getModelStatus() != highspy.HighsModelStatus.kTimeLimit
    return Bound(accepted=math.floor(proved + _TOLERANCE), reached=max(round(best), 0), in_time=in_time)


def _columns(solver: highspy.Highs, jobs: Sequence[Job], capacities: Sequence[int]) -> dict[tuple[int, int], int]:
    """A variable for each job and each node that it may go to, worth 1; and each job is on one node at most."""
    columns: dict[tuple[int, int], int] = {}
    for index, job in enumerate(jobs):
        mine: list[tuple[int, float]] = []
        for node, capacity in enumerate(capacities):
            twins_before = sum(1 for other in capacities[:node] if other == capacity)
            if job.count <= capacity and twins_before <= index:
                columns[index, node] = len(columns)
                solver.addCol(1.0, 0.0, 1.0, 0, [], [])
                solver.changeColIntegrality(columns[index, node], highspy.HighsVarType.kInteger)
                mine.append((columns[index, node], 1.0))
        if len(mine) > 1:
            _at_most(solver, mine, 1)
    return columns


def _at_most(solver: highspy.Highs, row: Sequence[tuple[int, float]], limit: int) -> None:
    solver.addRow(-highspy.kHighsInf, float(limit), len(row), [i for i, _ in row], [value for _, value in row])
