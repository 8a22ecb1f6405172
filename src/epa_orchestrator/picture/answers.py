# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Answers: the picture of what a daemon has answered, and the same as a JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from epa_orchestrator.allocation.cpu_states import CpuState
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.describe import from_description
from epa_orchestrator.natural import natural
from epa_orchestrator.picture.model import Core, Group, Pages, Picture, State, build_picture
from epa_orchestrator.protocol.answers import Listing, MemoryAnswer
from epa_orchestrator.protocol.machine import MachineAnswer

#: What the JSON document calls states that only a drawing tells apart.
_STATES: Final[Mapping[State, CpuState]] = {"free-general": "free"}


def picture_of(machine: MachineAnswer, listings: Iterable[Listing], memory: MemoryAnswer) -> Picture:
    """The picture of a host: its machine, its claims in all pools, and its hugepages.

    The answers are of three moments. A service that has lost its CPUs in between is not shown.
    """
    found, _ = from_description(machine.machine.model_dump())
    states = {state: CpuSet.parse(machine.states.get(state, "")) for state in get_args(CpuState)}
    owned = states["claimed"] | states["unavailable"]
    owners: dict[str, CpuSet] = {}
    withheld: dict[str, CpuSet] = {}
    for claim in [claim for listing in listings for claim in listing.allocations]:
        name, cpus = claim.service_name, CpuSet.parse(claim.allocated_cores) & owned
        owned -= cpus
        owners[name] = owners.get(name, EMPTY) | cpus
        withheld[name] = withheld.get(name, EMPTY) | CpuSet.parse(claim.withheld_cpus or "")
    named = sorted([(name, cpus) for name, cpus in owners.items() if cpus], key=lambda each: natural(each[0]))
    pools = {name: CpuSet.parse(cpus) for name, cpus in machine.pools.items()}
    general = pools.get("general", EMPTY) if pools.get("isolated") else EMPTY
    return build_picture(found, states, named, _pages(memory), withheld=withheld, general=general)


def _pages(memory: MemoryAnswer) -> list[Pages]:
    """The hugepages by node and size, without sizes of which a node has neither pages nor records."""
    found: list[Pages] = []
    for node, counts in memory.numa_hugepages.items():
        recorded: dict[int, int] = {}
        for sizes in counts.allocations.values():
            for size, count in sizes.items():
                recorded[int(size)] = recorded.get(int(size), 0) + count
        capacity = {each.size: each for each in counts.capacity}
        for size in sorted(recorded.keys() | capacity.keys()):
            total, free = (capacity[size].total, capacity[size].free) if size in capacity else (0, 0)
            pages = Pages(int(node.removeprefix("node")), size, recorded.get(size, 0), free, total)
            if pages.total or pages.recorded:
                found.append(pages)
    return sorted(found)


def document_of(picture: Picture) -> dict[str, Any]:
    """The picture as JSON: the boxes with their CPUs, the services, the counts and the hugepages."""
    return {
        "counts": _counts(picture),
        "services": [{"mark": owner.mark, "name": owner.name, "cpus": str(owner.cpus)} for owner in picture.owners],
        "boxes": [_box(group, picture) for group in picture.groups],
        "hugepages": [pages._asdict() | {"others": pages.others} for pages in picture.pages],
        "nodes_without_cpus": picture.memory_only,
    }


def _counts(picture: Picture) -> dict[str, int]:
    found: dict[str, int] = {}
    for state, count in picture.counts.items():
        found[_STATES.get(state, state)] = found.get(_STATES.get(state, state), 0) + count
    return found


def _box(group: Group, picture: Picture) -> dict[str, Any]:
    inside: dict[str, Any] = {"label": group.label}
    if group.children:
        return inside | {"boxes": [_box(child, picture) for child in group.children]}
    return inside | {"cores": _cores(group.cores, picture)}


def _cores(cores: Sequence[Core], picture: Picture) -> list[dict[str, Any]]:
    return [
        {
            "type": core.type,
            "cpus": [
                {
                    "id": cpu.id,
                    "state": _STATES.get(cpu.state, cpu.state),
                    "service": picture.owners[cpu.owner].name if cpu.owner is not None else None,
                }
                for cpu in core.cpus
            ],
        }
        for core in cores
    ]
