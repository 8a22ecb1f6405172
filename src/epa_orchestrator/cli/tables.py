# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tables: a daemon's answers, a machine and the history as Rich tables."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterable
from typing import Final

from rich.console import Console, ConsoleRenderable
from rich.table import Table
from rich.text import Text

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.placement.cost import LABELS
from epa_orchestrator.protocol.answers import Explanation, Listing, MemoryAnswer
from epa_orchestrator.state.events import Event

#: The number of choices that fit next to each other on a terminal of 80 columns.
_CHOICES: Final = 3
#: A comma inside a CPU list.
_COMMA: Final = re.compile(r"(?<=[0-9]),(?=[0-9])")


def console() -> Console:
    """A console that prints text as it is: names come from clients, and must not act as markup."""
    return Console(markup=False, highlight=False, emoji=False)


def plain(*parts: ConsoleRenderable | str) -> str:
    """Tables and lines as text without colours, as a terminal of 110 columns would show them."""
    written = io.StringIO()
    terminal = Console(file=written, width=110, color_system=None, markup=False, highlight=False, emoji=False)
    for part in parts:
        terminal.print(part)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()).rstrip()


def allocations(listing: Listing) -> Table:
    """The claims of a pool."""
    caption = (
        f"{listing.total_allocated_cpus} CPUs held, {listing.remaining_available_cpus} of"
        f" {listing.total_available_cpus} free"
    )
    withheld = any(claim.withheld_cpus for claim in listing.allocations)
    columns = ("Service", "CPUs", "Count", "By node", "Preemption", *(("Withheld",) if withheld else ()))
    table = FittedTable(columns, f"Pool {listing.pool}", caption)
    for claim in listing.allocations:
        explicit = "yes" if claim.is_explicit else "no"
        cpus, withheld_cpus = _breakable(claim.allocated_cores), _breakable(claim.withheld_cpus or "")
        row = (claim.service_name, cpus, str(claim.cores_count), explicit, claim.preemption_policy)
        table.add_row(*map(_text, row), *((_text(withheld_cpus),) if withheld else ()))
    if listing.outdated_placements:
        names = ", ".join(listing.outdated_placements)
        table.caption = Text("\n").join(
            (_text(caption), _text(f"The current settings would place these differently: {names}"))
        )
    return table


def explanation(found: Explanation, *, refused: bool) -> Iterable[ConsoleRenderable]:
    """The reason for the choice, and the compared choices as columns, with the level that is compared first on top."""
    if not refused:  # the refusal's own sentence gives the reason
        yield _text(_breakable(found.decided_by))
    if found.scopes:
        yield _choices(found, refused=refused)
    room = ", ".join(f"{node}: {count}" for node, count in found.room.items())
    yield _text(f"CPUs available to the service, by NUMA node: {room}")
    yield _text("Placed by: " + ", ".join(f"{name}={_option_value(value)}" for name, value in found.policy.items()))


def _choices(found: Explanation, *, refused: bool) -> Table:
    """One column for each choice, one row for each level at which some choice costs something."""
    candidates = found.scopes[:_CHOICES]
    first, *others = candidates
    all_equal = all(each.cost == first.cost for each in others)
    title = "The best choices; the first difference decides"
    if refused:
        title = "The best choice without that rule"
    elif all_equal:
        title = "The best choices, which are equally good" if others else "The choice"
    columns = ("", "best" if refused else "chosen", *("next best" for _ in others))
    table = FittedTable(columns, title)
    table.add_row("on NUMA nodes", *(_text(_breakable(each.numa_nodes) or "none") for each in candidates))
    table.add_row("CPUs", *(_text(_breakable(each.cpus)) for each in candidates), end_section=True)
    levels = {name: [each.cost.get(name, 0) for each in candidates] for name in first.cost}
    deciding = next((name for name, values in levels.items() if others and values[0] != values[1]), None)
    for name, values in levels.items():
        if any(values):
            mark = " <" if name == deciding else ""
            table.add_row(_text(f"{LABELS.get(name, name)}{mark}"), *map(str, values))
    return table


def hugepages(answer: MemoryAnswer) -> Table:
    """The hugepages of every NUMA node, and the services that they are recorded for."""
    table = FittedTable(("Node", "Size (KiB)", "Total", "Free", "Recorded for"), "Hugepages", _left_out(answer))
    for node, pages in answer.numa_hugepages.items():
        if not pages.capacity and not pages.allocations:
            table.add_row(_text(node), "-", "0", "0", "")
        sizes = {capacity.size: (str(capacity.total), str(capacity.free)) for capacity in pages.capacity}
        holders: dict[int, list[str]] = {}
        for name, counts in pages.allocations.items():
            for size, count in counts.items():
                holders.setdefault(int(size), []).append(f"{name}: {count}")
        for size in sorted(sizes.keys() | holders.keys()):
            total, free = sizes.get(size, ("gone", "0"))
            table.add_row(_text(node), str(size), total, free, _text(", ".join(holders.get(size, ()))))
    return table


def _left_out(answer: MemoryAnswer) -> str | None:
    """What a long answer leaves out: nodes and sizes without any pages."""
    if answer.left_out is None:
        return None
    places = [f"on nodes {_breakable(answer.left_out.nodes)}"] if answer.left_out.nodes else []
    places += [f"of {size} KiB on nodes {_breakable(nodes)}" for size, nodes in answer.left_out.sizes_kb.items()]
    return f"No pages {'; '.join(places)}"


def machine(found: Machine, pages: dict[int, tuple[Hugepages, ...]]) -> Iterable[Table]:
    """A machine: its CPUs and domains, then its NUMA nodes."""
    widths = "/".join(map(str, sorted({len(core.cpus) for core in found.cores}))) or "0"
    summary = FittedTable(("Property", "Value"), "Machine")
    for name, value in (
        ("CPUs online", f"{len(found.online)} of {len(found.present)}: {_breakable(found.online)}"),
        ("CPUs isolated", _breakable(found.isolated) or "none"),
        ("Packages", str(len(found.packages))),
        ("Cores", f"{len(found.cores)}, {widths} threads each{_core_types(found)}"),
        ("L3 domains", str(len(found.l3_domains)) if found.l3_domains else "unknown"),
    ):
        summary.add_row(name, value)
    if found.l2_clusters:
        summary.add_row("L2 clusters", f"{len(found.l2_clusters)}, cores that share an L2 cache")
    nodes = FittedTable(("Node", "CPUs", "L3 domains", "Memory (MiB)", "Distances", "Hugepages"), "NUMA nodes")
    for node in found.nodes:
        l3_count = sum(1 for domain in found.l3_domains if domain & node.cpus)
        sizes = ", ".join(f"{size.total} x {size.size_kb} KiB ({size.free} free)" for size in pages[node.id])
        nodes.add_row(
            str(node.id),
            _breakable(node.cpus) or "none",
            str(l3_count),
            "?" if node.memory_kb is None else str(node.memory_kb // 1024),
            " ".join(map(str, node.distances)),
            sizes or "none",
        )
    return summary, nodes


def history(events: list[Event]) -> Table:
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
        table.add_row(*(_text(_or_damaged(event, name, cell)) for name, cell in cells.items()))
    return table


def _or_damaged(event: Event, column: str, text: str) -> str:
    """The text, or "damaged" when that column of the database cannot be read."""
    return "damaged" if column in event.damaged else text


def _text(text: str) -> Text:
    return Text(printable(text))


def _breakable(cpus: CpuSet | str) -> str:
    """A CPU list, or a sentence with one, that a narrow column breaks only between the list's items."""
    return _COMMA.sub(", ", str(cpus))


def _core_types(found: Machine) -> str:
    performance = sum(1 for core in found.cores if core.type == "performance")
    efficiency = sum(1 for core in found.cores if core.type == "efficiency")
    return f" ({performance} performance, {efficiency} efficiency)" if performance or efficiency else ""


def _option_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _takings(event: Event) -> str:
    """Who took which CPUs from whom in the event, as the end of a text."""
    took = [f"; took {_breakable(cpus)} from {service}" for service, cpus in event.taken_from.items()]
    lost = [f"; lost {_breakable(cpus)} to {service}" for service, cpus in event.taken_by.items()]
    others = [f"; took CPUs from {event.taken_from_others} more services"] if event.taken_from_others else []
    return "".join([*took, *others, *lost])


def _held(record: dict[str, object] | None) -> str:
    if record is None:
        return "nothing"
    if "hugepages" in record:
        return f"{record['hugepages']} x {record['size_kb']} KiB on node {record['node_id']}"
    marks = [str(record["pool"])] if record["pool"] != "isolated" else []
    marks += ["by node"] if record["explicit"] else []
    marks += [f"withholds {_breakable(str(record['withheld']))}"] if "withheld" in record else []
    marks += [str(record["policy"])] if record["policy"] != "legacy" else []
    return f"{_breakable(str(record['cpus']))}{' (' + ', '.join(marks) + ')' if marks else ''}"
