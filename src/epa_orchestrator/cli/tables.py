# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tables of hugepages, of a machine and of the history."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from epa_orchestrator.cli.claims_table import allocations
from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.natural import natural
from epa_orchestrator.cli.show import console, plain, show
from epa_orchestrator.cli.units import count_of, format_memory, format_size

if TYPE_CHECKING:
    from epa_orchestrator.hardware.hugepages import Hugepages
    from epa_orchestrator.hardware.machine import Machine
    from epa_orchestrator.protocol.answers import MemoryAnswer
    from epa_orchestrator.state.events import Event

__all__ = ["allocations", "console", "history", "hugepages", "machine", "plain", "show"]


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


def history(events: list[Event]) -> FittedTable:
    """The history's changes, oldest first."""
    table = FittedTable(("When", "Service", "Before", "After", "Action", "Peer"), "History")
    for event in events:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
        process, user = (_or_damaged(event, name, str(getattr(event.peer, name))) for name in ("pid", "uid"))
        cells = {
            "at": when,
            "service": event.service,
            "before": _held(event.before),
            "after": f"{_held(event.after)}{_takings(event)}",
            "action": event.action,
            "peer": f"pid {process} uid {user}",
        }
        table.add_row(*(_or_damaged(event, name, cell) for name, cell in cells.items()))
    return table


def _or_damaged(event: Event, column: str, text: str) -> str:
    """The text, or "damaged" when that column of the database cannot be read."""
    return "damaged" if column in event.damaged else text


def _core_types(found: Machine) -> str:
    performance = sum(1 for core in found.cores if core.type == "performance")
    efficiency = sum(1 for core in found.cores if core.type == "efficiency")
    return f" ({performance} performance, {efficiency} efficiency)" if performance or efficiency else ""


def _takings(event: Event) -> str:
    """Who took which CPUs from whom in the event, as the end of a text."""
    took = [f"; took {cpus} from {service}" for service, cpus in event.taken_from.items()]
    lost = [f"; lost {cpus} to {service}" for service, cpus in event.taken_by.items()]
    others = [f"; took CPUs from {event.taken_from_others} more services"] if event.taken_from_others else []
    return "".join([*took, *others, *lost])


def _size(size_kb: object) -> str:
    """A size of the database, which may be damaged."""
    return format_size(size_kb) if isinstance(size_kb, int) else str(size_kb)


def _held(record: dict[str, object] | None) -> str:
    if record is None:
        return "nothing"
    if "hugepages" in record:
        return f"{record['hugepages']} x {_size(record['size_kb'])} on node {record['node_id']}"
    marks = [str(record["pool"])] if record["pool"] != "isolated" else []
    marks += ["by node"] if record["explicit"] else []
    marks += [f"withholds {record['withheld']}"] if "withheld" in record else []
    marks += [str(record["policy"])] if record["policy"] != "legacy" else []
    return f"{record['cpus']}{' (' + ', '.join(marks) + ')' if marks else ''}"
