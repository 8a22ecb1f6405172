# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Stories: machines and steps for the simulation, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any, Final

from tests.faults.hosts import MachineNow
from tests.functional.harness import format_cpus, parse_cpus
from tools.synthetic import Shape, all_but_first_cores

Json = dict[str, Any]

#: The most CPUs of a machine: small machines reach all corner cases, and are quick.
_MOST_CPUS: Final = 32


@dataclass(frozen=True)
class Story:
    """A machine and what happens on it. The steps are plain data; any of them can be left out."""

    seed: int
    machine: MachineNow
    steps: list[Json] = field(default_factory=list[Json])

    def describe_machine(self) -> str:
        """The shape of the machine where it differs from the default."""
        default, shape = Shape(), self.machine.shape
        values = {each.name: getattr(shape, each.name) for each in fields(Shape)}
        text = f"Shape({', '.join(f'{k}={v!r}' for k, v in values.items() if v != getattr(default, k))})"
        more = {name: getattr(self.machine, name) for name in ("slow", "homeless")}
        return " ".join([text, *(f"{name}={cpus}" for name, cpus in more.items() if cpus)])


def make_story(draw: Random, seed: int, steps: int) -> Story:
    """The story of a seed."""
    shape = _shape(draw)
    return Story(seed, MachineNow(shape), MachineSteps(draw, shape).make(steps))


def _shape(draw: Random) -> Shape:
    while True:
        shape = Shape(
            packages=draw.choice((1, 1, 2)),
            nodes_per_package=draw.choice((1, 1, 2)),
            l3_per_node=draw.choice((1, 1, 2)),
            cores_per_l3=draw.choice((2, 3, 4, 8)),
            threads_per_core=draw.choice((1, 2, 2, 2, 2, 4)),
            l3_scope=draw.choice(("node", "node", "package", "none")),
            siblings=draw.choice(("after", "after", "adjacent")),
            numbering=draw.choice(("blocks", "blocks", "interleaved")),
            l3_ids=draw.choice(("ordered", "scattered")),
            memory_only_nodes=draw.choice((0, 0, 0, 1)),
            hugepages=draw.choice((None, {2048: (16, 16)}, {2048: (16, 9), 1048576: (2, 2)})),
        )
        if 8 <= shape.cpus <= _MOST_CPUS:
            return replace(shape, isolated=isolated_cpus(draw, shape))


def isolated_cpus(draw: Random, shape: Shape) -> str:
    """A list of isolated CPUs: all, most, or all but the first core of each node."""
    match draw.randrange(4):
        case 0:
            return format_cpus(range(shape.cpus))
        case 1:
            return format_cpus(draw.sample(range(shape.cpus), shape.cpus * 3 // 4))
        case _:
            return all_but_first_cores(shape, 1)


class MachineSteps:
    """Draws steps for a machine of one shape."""

    @property
    def options(self) -> dict[str, tuple[Any, ...]]:
        """The values that options are drawn from."""
        return OPTIONS

    def __init__(self, draw: Random, shape: Shape) -> None:
        self._draw = draw
        self._shape = shape
        self._services = ["a", "b", "c", "d", "e", "f"][: draw.choice((2, 3, 4, 6))]
        self._general = draw.random() < 0.5
        self._per_node = max(shape.cpus // shape.cpu_nodes, 1)

    def make(self, count: int) -> list[Json]:
        """A list of steps; half of all lists begin with options."""
        first = [self._options()] if self._draw.random() < 0.5 else []
        return [*first, *(self._step() for _ in range(count))]

    def _step(self) -> Json:
        kinds = (self._ask, self._options, self._host, self._restart, self._fault)
        (kind,) = self._draw.choices(kinds, (78, 9, 6, 4, 3))
        return kind()

    def _ask(self) -> Json:
        if self._draw.random() < 0.15:
            return {"do": "ask", "requests": [self._request(release=False) for _ in range(self._draw.randint(2, 4))]}
        step: Json = {"do": "ask", "requests": [self._request()]}
        also = self._draw.random()
        if also < 0.15:
            step["also"] = "again"
        elif also < 0.25:
            step["also"] = "dry run first"
        return step

    def _request(self, *, release: bool = True) -> Json:
        """A request; a release by node is alone in its step, since only a listing shows what it did to offline CPUs."""
        makers = (self._cores, self._numa, self._percent, self._pages)
        (make,) = self._draw.choices(makers, (40, 40, 8, 12))
        request = {"service_name": self._draw.choice(self._services)} | make()
        if not release and request["action"] == "allocate_numa_cores":
            request["num_of_cores"] = max(request["num_of_cores"], 1)
        if request["action"] != "allocate_hugepages":
            self._decorate(request)
        return request

    def _cores(self) -> Json:
        counts = (-1, -1, 0, 1, 1, 2, 2, 3, 4, 5, self._draw.randint(1, self._shape.cpus))
        return {"action": "allocate_cores", "num_of_cores": self._draw.choice(counts)}

    def _numa(self) -> Json:
        node = self._draw.randrange(self._shape.nodes + (self._draw.random() < 0.05))
        counts = (-1, 1, 1, 2, 2, 3, 4, self._draw.randint(1, self._per_node))
        return {"action": "allocate_numa_cores", "numa_node": node, "num_of_cores": self._draw.choice(counts)}

    def _percent(self) -> Json:
        return {"action": "allocate_cores_percent", "percent": self._draw.choice((-1, 0, 10, 25, 50, 80, 100))}

    def _pages(self) -> Json:
        return {
            "action": "allocate_hugepages",
            "node_id": self._draw.randrange(self._shape.nodes),
            "size_kb": self._draw.choice((2048, 2048, 1048576)),
            "hugepages_requested": self._draw.choice((-1, 1, 2, 4, 9, 16)),
        }

    def _decorate(self, request: Json) -> None:
        chance = self._draw.random
        if self._general and chance() < 0.3:
            request["pool"] = "general"
        if chance() < 0.15:
            request["preemption_policy"] = self._draw.choice(("legacy", "non-preemptive"))
        if chance() < 0.05:
            request["dry_run"] = True
        if chance() < 0.05:
            request["explain"] = True
        if chance() < 0.15:
            request["cpu_thread_policy"] = self._draw.choice(("prefer", "share", "require", "isolate", "isolate"))
        if chance() < 0.05:
            request["numa_policy"] = self._draw.choice(("none", "best-effort", "restricted", "single-numa-node"))
        if chance() < 0.05:
            request["uncore_cache_alignment"] = self._draw.choice(("none", "prefer", "require"))
        if chance() < 0.05 and request["action"] != "allocate_numa_cores":
            request["near"] = self._draw.randrange(self._shape.nodes)

    def _options(self) -> Json:
        return {"do": "options", "options": self._some_options()}

    def _some_options(self) -> Json:
        options: Json = {}
        if self._general and self._draw.random() < 0.8:
            options["cpu-pool"] = self._general_cpus()
        if self._draw.random() < 0.15:
            options["reserved-cpus"] = format_cpus(self._some_cpus(3))
        for name in self._draw.sample(sorted(self.options), self._draw.choice((0, 0, 1, 1, 2, 3, 5))):
            options[name] = self._draw.choice(self.options[name])
        if self._draw.random() < 0.3:
            options["cpu-thread-policy"] = "isolate"
        return options

    def _general_cpus(self) -> str:
        rest = set(range(self._shape.cpus)) - parse_cpus(self._shape.isolated)
        if self._draw.random() < 0.15:  # it may come to overlap the isolated CPUs
            rest |= self._some_cpus(4)
        return format_cpus(rest)

    def _some_cpus(self, most: int) -> set[int]:
        return set(self._draw.sample(range(self._shape.cpus), self._draw.randint(1, most)))

    def _host(self) -> Json:
        step: Json = {"do": "host"}
        match self._draw.randrange(10):
            case 0 | 1 | 2:
                step["offline"] = ""
            case 3 | 4 | 5:
                step["offline"] = format_cpus(self._some_cpus(5) - {0})
            case 6:
                step["isolated"] = isolated_cpus(self._draw, self._shape)
            case 7:
                step["isolated"] = self._shape.isolated
            case 8:
                nodes = range(1, self._shape.nodes)
                step["gone"] = self._draw.sample(nodes, 1) if nodes and self._draw.random() < 0.5 else []
            case _:
                step["unreadable"] = self._draw.random() < 0.5
        return step

    def _restart(self) -> Json:
        step: Json = {"do": "restart"}
        chance = self._draw.random
        if chance() < 0.3:
            step["crash"] = True
        if chance() < 0.15:
            step["regroup"] = self._regroup()
        if chance() < 0.15:
            step["options"] = self._some_options()
        return step

    def _regroup(self) -> Json:
        """Other NUMA nodes over the same cores, as after a change of NPS or SNC in the firmware."""
        shape = self._shape
        in_package = shape.nodes_per_package * shape.l3_per_node * shape.cores_per_l3
        cuts = [cut for cut in (1, 2, 4) if in_package % cut == 0]
        nodes = self._draw.choice(cuts)
        return {"nodes_per_package": nodes, "l3_per_node": 1, "cores_per_l3": in_package // nodes}

    def _fault(self) -> Json:
        requests = [self._request(release=False) for _ in range(self._draw.randint(1, 3))]
        return {"do": "fault", "kind": self._draw.choice(("commit", "statement", "full")), "requests": requests}


OPTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "numa-policy": ("best-effort", "none", "restricted", "single-numa-node"),
    "numa-allocation-strategy": ("packed", "spread", "distribute"),
    "prefer-closest-numa-nodes": (True, False),
    "uncore-cache-alignment": ("prefer", "none", "require"),
    "cpu-thread-policy": ("prefer", "share", "require", "isolate"),
    "cpu-distribution": ("packed", "cores", "caches"),
    "numa-reclaim": ("if-needed", "always", "never"),
    "resize-policy": ("in-place", "reallocate"),
    "default-allocation-percent": (1, 50, 80, 100),
    "large-system-threshold": (4, 100),
    "large-system-reserved-cpus": (0, 2, 16),
    "default-preemption-policy": ("legacy", "non-preemptive"),
    "reserved-hugepages": ("", "0:2048:4"),
}
