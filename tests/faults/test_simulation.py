# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The simulation: stories from fixed seeds keep every promise, with `--long` from fresh seeds for many minutes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import pytest

from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pool
from epa_orchestrator.cpuset import CpuSet
from tests.faults.simulation import run_story
from tests.faults.stories import Story, make_story
from tests.faults.survey import Survey, shorten
from tests.faults.wide_stories import make_wide_story
from tests.functional.harness import Daemon
from tools.synthetic import Shape

#: How many steps a story has, and how many stories the short form runs in each of its parts.
STEPS: Final = 150
PARTS: Final = 8
STORIES: Final = 16

#: The seeds of stories that broke a promise in an earlier version, by what they found.
FOUND: Final = {
    "CPUs withheld that another service owns": 283,
    "a thread of an isolated core granted to another service": 37,
    "isolate next to an owned CPU that is in no pool": 17,
    "isolate next to an owned CPU that is offline": 19,
    "CPUs withheld of a core that the service has left": 11,
    "a restart forgets the core of a claim whose pool is gone": 3,
    "a restart forgets the core of an offline claim that has left its pool": 2080,
}

#: The same among the wider stories.
FOUND_WIDE: Final = {
    "a restart on another machine forgets the core of an offline CPU": 3665930398,
    "a CPU that comes back elsewhere takes the core of others with it": 1435532444,
    "one of two services with the same core alone takes a third thread": 5104,
    "a thread of an isolated core taken from a third service": 5042,
}

#: The CPU time (s) of each part of the long form.
LONG: Final = 240.0


def assert_nothing_found(survey: Survey) -> None:
    print(survey.table())
    assert not survey.findings, f"\n{survey.table()}\n{survey.stories_shortened(STEPS)}"


@pytest.mark.parametrize("seed", FOUND.values(), ids=FOUND.keys())
def test_known_story_keeps_every_promise(seed: int) -> None:
    survey = Survey()
    survey.run(seed, STEPS)
    assert_nothing_found(survey)


@pytest.mark.parametrize("seed", FOUND_WIDE.values(), ids=FOUND_WIDE.keys())
def test_known_wide_story_keeps_every_promise(seed: int) -> None:
    survey = Survey(make_wide_story)
    survey.run(seed, STEPS)
    assert_nothing_found(survey)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("make", [make_story, make_wide_story], ids=["plain", "wide"])
def test_stories_keep_every_promise(part: int, make: Callable[[random.Random, int, int], Story], long: bool) -> None:
    survey = Survey(make)
    if long:
        seeds = random.SystemRandom()
        while survey.seconds < LONG:
            survey.run(seeds.randrange(2**32), STEPS)
    else:
        for seed in range(part * STORIES, (part + 1) * STORIES):
            survey.run(seed, STEPS)
    assert_nothing_found(survey)


def test_planted_fault_is_found_in_a_short_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claimed CPUs count as free: the simulation finds it soon, and shows it in few steps."""

    def free(_: Ledger, pool: Pool) -> CpuSet:
        return pool.eligible

    monkeypatch.setattr(Ledger, "free", free)
    story = make_story(random.Random(0), 0, STEPS)
    outcome = run_story(story)
    assert outcome.violation is not None
    shortened, shown = shorten(story, outcome)
    assert shown.violation is not None
    assert shown.violation.kind == outcome.violation.kind
    assert len(shortened.steps) <= 3, shortened


#: Two threads on each of eight cores: CPU n and n + 8 are siblings. The first core is left to the system.
SIXTEEN: Final = Shape(cores_per_l3=8, threads_per_core=2, isolated="1-7,9-15")


def test_shrinking_claim_withholds_no_owned_cpu() -> None:
    """Fault 1 of issue 9: the shrunk claim withheld a CPU of another service, and the state could not be loaded."""
    with Daemon(SIXTEEN) as daemon:
        daemon.start()
        assert daemon.cores("a", 1) == {1}
        daemon.cores("c", 8)
        daemon.cores("b", 5)
        daemon.reload({"cpu-thread-policy": "isolate"})
        daemon.call("allocate_numa_cores", service_name="b", numa_node=0, num_of_cores=3)
        before = daemon.snapshot()
        assert daemon.claims()["a"] == {1}
        daemon.restart()
        assert "state_error" not in daemon.ok("list_allocations")
        assert daemon.snapshot() == before
        daemon.kill()
        daemon.start()
        assert daemon.snapshot() == before
        daemon.cores("a", -1)
