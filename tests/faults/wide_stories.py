# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Wider stories: more kinds of machines and steps than `stories` draws, whose seeds stay what they are.

Machines of up to four packages, with cores of two types or CPUs in no NUMA node; limits on services and records; other
hugepages while claims exist, which the kernel has promised in part; starts with unusable options; releases in batches;
old requests sent again; and restarts on another machine.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any, Final

from tests.faults.claims import Json
from tests.faults.hosts import MachineNow
from tests.faults.stories import OPTIONS, MachineSteps, Story, isolated_cpus
from tests.faults.usable import UNUSABLE
from tests.functional.harness import format_cpus
from tools.synthetic import Shape

_MOST_CPUS: Final = 48

_MORE_OPTIONS: Final[dict[str, tuple[Any, ...]]] = OPTIONS | {
    "prefer-core-type": ("none", "performance", "efficiency"),
    "max-services": (1, 2, 4, 2048),
    "max-hugepage-records": (1, 3, 8192),
    "numa-reclaim": ("always", "if-needed", "never"),
}

_CONTRADICTIONS: Final[tuple[Json, ...]] = (
    {"cpu-thread-policy": "require", "cpu-distribution": "cores"},
    {"uncore-cache-alignment": "require", "numa-allocation-strategy": "distribute"},
    {"uncore-cache-alignment": "require", "cpu-distribution": "caches"},
)

_CAN_BE_UNUSABLE: Final = ("cpu-pool", "reserved-cpus", *_MORE_OPTIONS)

_PAGES: Final[tuple[dict[int, tuple[int, int]] | None, ...]] = (
    None,
    {2048: (16, 16)},
    {2048: (16, 3)},
    {2048: (4, 4), 1048576: (1, 0)},
    {2048: (0, 0)},
    {1048576: (8, 8)},
)


_PROMISED: Final[tuple[dict[int, int], ...]] = ({}, {}, {2048: 3}, {2048: 18}, {2048: 5, 1048576: 1})


def make_wide_story(draw: Random, seed: int, steps: int) -> Story:
    """The wide story of a seed."""
    shape = _shape(draw)
    machine = MachineNow(shape, slow=_slow(draw, shape), homeless=_homeless(draw, shape))
    return Story(seed, machine, _WideSteps(draw, shape).make(steps))


def _shape(draw: Random) -> Shape:
    while True:
        shape = Shape(
            packages=draw.choice((1, 1, 2, 2, 3, 4)),
            nodes_per_package=draw.choice((1, 1, 2, 4)),
            l3_per_node=draw.choice((1, 1, 2, 4)),
            cores_per_l3=draw.choice((1, 2, 3, 4, 8)),
            threads_per_core=draw.choice((1, 2, 2, 4, 4, 8)),
            l3_scope=draw.choice(("node", "package", "none")),
            siblings=draw.choice(("after", "adjacent")),
            numbering=draw.choice(("blocks", "interleaved")),
            l3_ids=draw.choice(("ordered", "scattered")),
            memory_only_nodes=draw.choice((0, 0, 1, 2)),
            hugepages=draw.choice(_PAGES),
            promised=draw.choice(_PROMISED),
        )
        if 6 <= shape.cpus <= _MOST_CPUS:
            return replace(shape, isolated=isolated_cpus(draw, shape))


def _slow(draw: Random, shape: Shape) -> str:
    """The CPUs of efficiency cores: the last cores, with single threads or several."""
    if draw.random() < 0.6:
        return ""
    machine = MachineNow(shape)
    slow: set[int] = set()
    for cpu in range(shape.cores // 2, shape.cores):
        slow |= {cpu} | machine.siblings[cpu]
    return format_cpus(slow)


def _homeless(draw: Random, shape: Shape) -> str:
    """The CPUs of a few cores; Linux shows no core with threads in several nodes."""
    if draw.random() < 0.85:
        return ""
    some = set(draw.sample(range(shape.cpus), draw.randint(1, 3)))
    return format_cpus(some | MachineNow(shape).siblings_of(some))


class _WideSteps(MachineSteps):
    """Draws steps of more kinds."""

    @property
    def options(self) -> dict[str, tuple[Any, ...]]:
        return _MORE_OPTIONS

    def _step(self) -> Json:
        kinds = (self._ask, self._options, self._host, self._restart, self._fault, self._reload_pool)
        (kind,) = self._draw.choices(kinds, (70, 10, 9, 6, 3, 2))
        return kind()

    def _ask(self) -> Json:
        step = super()._ask()
        if len(step["requests"]) > 1:
            # Whether a release by node can be judged there depends on the machine at that moment.
            step["requests"] = [self._request() for _ in step["requests"]]
        elif "also" not in step and self._draw.random() < 0.1:
            step["also"] = self._draw.choice(("an old one", "explained"))
        return step

    def _decorate(self, request: Json) -> None:
        chance = self._draw.random
        super()._decorate(request)
        if chance() < 0.1:
            request["cpu_thread_policy"] = self._draw.choice(("prefer", "share", "require", "isolate"))
        if chance() < 0.1:
            request["numa_policy"] = self._draw.choice(("none", "best-effort", "restricted", "single-numa-node"))
        if chance() < 0.1:
            request["uncore_cache_alignment"] = self._draw.choice(("none", "prefer", "require"))
        if chance() < 0.05:
            request["preemption_policy"] = "non-preemptive"

    def _reload_pool(self) -> Json:
        """The general pool comes, goes, or has other CPUs, while nothing else changes."""
        options: Json = {}
        if self._draw.random() < 0.7:
            options["cpu-pool"] = self._general_cpus()
        if self._draw.random() < 0.5:
            options["reserved-cpus"] = format_cpus(self._some_cpus(4))
        return {"do": "options", "options": options}

    def _host(self) -> Json:
        kind = self._draw.randrange(8)
        if kind == 0:
            return {
                "do": "host",
                "hugepages": self._draw.choice(_PAGES),
                "promised": self._draw.choice(_PROMISED),
            }
        if kind == 1:  # the second threads go, as when SMT is switched off
            cores, threads = self._shape.cores, self._shape.threads_per_core
            adjacent = self._shape.siblings == "adjacent"
            first = set(range(0, cores * threads, threads) if adjacent else range(cores))
            return {"do": "host", "offline": format_cpus(set(range(self._shape.cpus)) - first)}
        if kind == 2 and self._shape.cpu_nodes > 1:  # all CPUs of a node go, the node stays
            node = self._draw.randrange(1, self._shape.cpu_nodes)
            return {"do": "host", "offline": format_cpus(set(self._shape.node_cpus(node)) - {0})}
        return super()._host()

    def _restart(self) -> Json:
        step = super()._restart()
        if self._draw.random() < 0.2:
            step.pop("regroup", None)
            step["rewire"] = self._rewire()
        elif self._draw.random() < 0.2:
            step["options"] = self._unusable_options()
        return step

    def _unusable_options(self) -> Json:
        """Options of which some cannot be used, or contradict each other."""
        options = self._some_options()
        if self._draw.random() < 0.5:
            options |= self._draw.choice(_CONTRADICTIONS)
        else:
            options[self._draw.choice(_CAN_BE_UNUSABLE)] = UNUSABLE
        return options

    def _rewire(self) -> Json:
        """Another machine: other cores, another number of threads or packages, CPUs numbered otherwise."""
        shape, draw = self._shape, self._draw
        changes: Json = {"siblings": draw.choice(("after", "adjacent"))}
        if draw.random() < 0.4:
            changes["threads_per_core"] = draw.choice((1, 2, 4))
        if draw.random() < 0.3:
            changes["numbering"] = draw.choice(("blocks", "interleaved"))
        if draw.random() < 0.3:
            changes["cores_per_l3"] = max(shape.cores_per_l3 + draw.choice((-1, 1)), 2)
        if draw.random() < 0.3:
            changes["packages"] = draw.choice((1, 2, 3))
        return changes
