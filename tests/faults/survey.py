# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Survey: runs the stories of many seeds, and shows each broken promise with a short story.

`python -m tests.faults.survey FIRST COUNT STEPS` runs the stories of the seeds from FIRST on; with `wide` at the end,
the wider ones.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from tests.faults.claims import Json, Violation, without
from tests.faults.simulation import Outcome, run_story
from tests.faults.stories import Story, make_story
from tests.faults.wide_stories import make_wide_story


def shorten(story: Story, outcome: Outcome, *, most_seconds: float = 60.0) -> tuple[Story, Outcome]:
    """Leave out steps, and requests of a batch, as long as the same promise is still broken."""
    kind = outcome.kind
    assert kind is not None
    deadline = time.process_time() + most_seconds
    best = replace(story, steps=story.steps[: outcome.steps])
    size = max(len(best.steps) // 2, 1)
    while time.process_time() < deadline:
        shorter = _first_that_fails(best, size, kind, deadline)
        if shorter is not None:
            best, outcome = shorter
            size = min(size, max(len(best.steps) // 2, 1))
        elif size > 1:
            size //= 2
        else:
            break
    return best, outcome


def _first_that_fails(story: Story, size: int, kind: str, deadline: float) -> tuple[Story, Outcome] | None:
    for steps in _shorter(story.steps, size):
        if time.process_time() > deadline:
            return None
        candidate = replace(story, steps=steps)
        outcome = run_story(candidate)
        if outcome.kind == kind:
            return replace(story, steps=steps[: outcome.steps]), outcome
    return None


def _shorter(steps: list[Json], size: int) -> Iterator[list[Json]]:
    for start in range(len(steps) - size, -1, -size):
        yield steps[:start] + steps[start + size :]
    if size == 1:
        for number, step in enumerate(steps):
            for simpler in _simpler(step):
                yield [*steps[:number], simpler, *steps[number + 1 :]]


def _simpler(step: Json) -> Iterator[Json]:
    """The step without one of its parts."""
    requests: list[Json] = step.get("requests", [])
    if len(requests) > 1:
        for number in range(len(requests)):
            yield step | {"requests": requests[:number] + requests[number + 1 :]}
    for number, request in enumerate(requests):
        for name in _OPTIONAL & request.keys():
            yield step | {"requests": [*requests[:number], without(request, {name}), *requests[number + 1 :]]}
    for name in step.get("options", {}):
        yield step | {"options": without(step["options"], {name})}
    for name in {"also", "crash", "regroup", "rewire", "hugepages", "gone", "offline", "isolated"} & step.keys():
        yield without(step, {name})


_OPTIONAL: Final = {
    "pool",
    "preemption_policy",
    "dry_run",
    "explain",
    "numa_policy",
    "cpu_thread_policy",
    "uncore_cache_alignment",
    "near",
}


def describe(story: Story, violation: Violation) -> str:
    """A story as text that a person can follow."""
    lines = [f"seed {story.seed}: {violation}", story.describe_machine()]
    lines += [f"  {number}. {json.dumps(step)}" for number, step in enumerate(story.steps, 1)]
    return "\n".join(lines)


@dataclass
class Finding:
    """A promise that some story breaks: its first seed, and the steps and time until then."""

    seed: int
    steps: int
    all_steps: int
    seconds: float
    times: int = 1


@dataclass
class Survey:
    """The outcome of the stories of some seeds; `seconds` are CPU time."""

    make: Callable[[random.Random, int, int], Story] = make_story
    findings: dict[str, Finding] = field(default_factory=dict[str, Finding])
    stories: int = 0
    steps: int = 0
    seconds: float = 0.0

    def run(self, seed: int, steps: int) -> None:
        """Run one more story."""
        outcome = run_story(self.make(random.Random(seed), seed, steps))
        self.stories += 1
        self.steps += outcome.steps
        self.seconds += outcome.seconds
        if outcome.kind is None:
            return
        found = self.findings.get(outcome.kind)
        if found is not None:
            found.times += 1
        else:
            self.findings[outcome.kind] = Finding(seed, outcome.steps, self.steps, self.seconds)

    def table(self) -> str:
        """The findings in columns, with the sums at the end."""
        lines = ["   seed  step  all steps  CPU s  stories  promise"]
        for kind, found in self.findings.items():
            columns = f"{found.seed:7} {found.steps:5} {found.all_steps:10} {found.seconds:6.1f} {found.times:8}"
            lines.append(f"{columns}  {kind}")
        lines.append(f"{self.stories} stories, {self.steps} steps, {self.seconds:.1f} s of CPU time")
        return "\n".join(lines)

    def stories_shortened(self, steps: int, *, most_seconds: float = 20.0) -> str:
        """For each finding a short story that shows it."""
        shown: list[str] = []
        for found in self.findings.values():
            story = self.make(random.Random(found.seed), found.seed, steps)
            shortened, outcome = shorten(story, run_story(story), most_seconds=most_seconds)
            assert outcome.violation is not None
            shown.append(describe(shortened, outcome.violation))
        return "\n\n".join(shown)


def main(arguments: list[str]) -> int:
    """Run the stories of the seeds FIRST to FIRST + COUNT - 1, and show what they find."""
    first, count, steps = (int(argument) for argument in arguments[:3])
    survey = Survey(make_wide_story if arguments[3:] == ["wide"] else make_story)
    for seed in range(first, first + count):
        survey.run(seed, steps)
    print(survey.table())
    print(survey.stories_shortened(steps))
    return bool(survey.findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
