# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tables of hugepages and of a machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.natural import natural
from epa_orchestrator.units import count_of, format_memory, format_size

if TYPE_CHECKING:
    from epa_orchestrator.hardware.hugepages import Hugepages
    from epa_orchestrator.hardware.machine import Machine
    from epa_orchestrator.protocol.answers import MemoryAnswer


def hugepages(answer: MemoryAnswer) -> FittedTable:
    """The hugepages of every NUMA node, and the services that they are recorded for."""
    table = FittedTable(("Node", "Size", "Total", "Free", "Recorded for"), "Hugepages", _left_out(answer))
    for node, pages in answer.numa_hugepages.items():
        if not pages.capacity and not pages.allocations:
            table.add_row(node, "", 0, 0, "")
        sizes = {capacity.size: (str(capacity.total), str(capacity.free)) for capacity in pages.capacity}
        holders: dict[int, list[str]] = {}
        for name, counts in pages.allocations.items():
            for size, count in counts.items():
                holders.setdefault(int(size), []).append(f"{name}: {count}")
        for size in sorted(sizes.keys() | holders.keys()):
            total, free = sizes.get(size, ("gone", "0"))
            table.add_row(node, format_size(size), total, free, ", ".join(sorted(holders.get(size, ()), key=natural)))
    return table


def _left_out(answer: MemoryAnswer) -> str | None:
    """What a long answer leaves out: nodes and sizes without any pages."""
    if answer.left_out is None:
        return None
    places = [f"on nodes {answer.left_out.nodes}"] if answer.left_out.nodes else []
    places += [f"of {format_size(int(size))} on nodes {nodes}" for size, nodes in answer.left_out.sizes_kb.items()]
    return f"No pages {'; '.join(places)}"


def machine(found: Machine, pages: dict[int, tuple[Hugepages, ...]]) -> Iterable[FittedTable]:
    """A machine: its CPUs and domains, then its NUMA nodes."""
    sizes = sorted({len(core.cpus) for core in found.cores}) or [0]
    threads = count_of(sizes[0], "thread") if len(sizes) == 1 else f"{'/'.join(map(str, sizes))} threads"
    summary = FittedTable(("Property", "Value"), "Machine")
    for name, value in (
        ("CPUs online", f"{len(found.online)} of {len(found.present)}: {found.online}"),
        ("CPUs isolated", found.isolated or "none"),
        ("Packages", str(len(found.packages))),
        ("Cores", f"{len(found.cores)}, {threads} each{_core_types(found)}"),
        ("L3 domains", str(len(found.l3_domains)) if found.l3_domains else "unknown"),
        ("NUMA nodes", str(len(found.nodes))),
    ):
        summary.add_row(name, value)
    if found.l2_clusters:
        summary.add_row("L2 clusters", f"{len(found.l2_clusters)}, cores that share an L2 cache")
    nodes = FittedTable(("Node", "CPUs", "L3 domains", "Memory", "Distances", "Hugepages"), "NUMA nodes")
    for node in found.nodes:
        l3_count = sum(1 for domain in found.l3_domains if domain & node.cpus)
        held = ", ".join(f"{size.total} x {format_size(size.size_kb)} ({size.free} free)" for size in pages[node.id])
        nodes.add_row(
            str(node.id),
            node.cpus or "none",
            str(l3_count),
            "?" if node.memory_kb is None else format_memory(node.memory_kb),
            " ".join(map(str, node.distances)),
            held or "none",
        )
    return summary, nodes


def _core_types(found: Machine) -> str:
    performance = sum(1 for core in found.cores if core.type == "performance")
    efficiency = sum(1 for core in found.cores if core.type == "efficiency")
    return f" ({performance} performance, {efficiency} efficiency)" if performance or efficiency else ""
