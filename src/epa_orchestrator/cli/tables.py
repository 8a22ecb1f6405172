"""Display: what the command line shows a person, as Rich tables."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from typing import Final

from rich.console import Console, ConsoleRenderable
from rich.table import Table
from rich.text import Text

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.placement.cost import LABELS
from epa_orchestrator.protocol.answers import Explanation, Listing, MemoryAnswer
from epa_orchestrator.state.store import Event

#: How many choices fit beside each other on a terminal of 80 columns.
_COLUMNS: Final = 3


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is: names come from clients, and must not act as markup."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def plain(*parts: ConsoleRenderable | str) -> str:
    """What a terminal of 110 columns would show of tables and lines, without colours."""
    file = io.StringIO()
    terminal = Console(file=file, width=110, color_system=None, markup=False, highlight=False, emoji=False)
    for part in parts:
        terminal.print(part)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).rstrip()


def allocations(listing: Listing) -> Table:
    """The claims of a pool."""
    caption = (
        f"{listing.total_allocated_cpus} CPUs held, {listing.remaining_available_cpus} of"
        f" {listing.total_available_cpus} free"
    )
    withheld = any(claim.withheld_cpus for claim in listing.allocations)
    columns = ("Service", "CPUs", "Count", "By node", "Policy", *(("Withheld",) if withheld else ()))
    table = _table(columns, f"Pool {listing.pool}", caption)
    for claim in listing.allocations:
        explicit = "yes" if claim.is_explicit else "no"
        row = (claim.service_name, claim.allocated_cores, str(claim.cores_count), explicit, claim.preemption_policy)
        table.add_row(*map(_text, row), *((_text(claim.withheld_cpus or ""),) if withheld else ()))
    if listing.outdated_placements:
        names = ", ".join(listing.outdated_placements)
        table.caption = Text("\n").join((_text(caption), _text(f"The settings in use would place otherwise: {names}")))
    return table


def explanation(found: Explanation, *, refused: bool) -> Iterable[ConsoleRenderable]:
    """What decided, and the choices that were compared, side by side: what is compared first stands on top."""
    if not refused:  # a refusal says it itself
        yield _text(found.decided_by)
    if found.scopes:
        yield _choices(found, refused=refused)
    room = ", ".join(f"{node}: {count}" for node, count in found.room.items())
    yield _text(f"CPUs that the service could have, by NUMA node: {room}")
    yield _text("Placed by: " + ", ".join(f"{name}={_value(value)}" for name, value in found.policy.items()))


def _choices(found: Explanation, *, refused: bool) -> Table:
    """One column for each choice; levels in which all of them have nothing are left out."""
    scopes = found.scopes[:_COLUMNS]
    first, *others = scopes
    equal = all(scope.cost == first.cost for scope in others)
    title = "The best choices; the first difference decides"
    if refused:
        title = "The best choice without that rule"
    elif equal:
        title = "The best choices, which are equally good" if others else "The choice"
    columns = ("", "best" if refused else "chosen", *("next best" for _ in others))
    table = _table(columns, title)
    table.add_row("on NUMA nodes", *(_text(scope.numa_nodes) for scope in scopes))
    table.add_row("CPUs", *(_text(scope.cpus.replace(",", ", ")) for scope in scopes), end_section=True)
    decided = False
    for name in first.cost:
        values = [scope.cost.get(name, 0) for scope in scopes]
        if not any(values):
            continue
        decides = not decided and bool(others) and values[0] != values[1]
        decided = decided or decides
        table.add_row(_text(f"{LABELS.get(name, name)}{' <' if decides else ''}"), *map(str, values))
    return table


def hugepages(answer: MemoryAnswer) -> Table:
    """The hugepages of every node, and who has them recorded."""
    table = _table(("Node", "Size (KiB)", "Total", "Free", "Recorded for"), "Hugepages")
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


def machine(found: Machine, pages: dict[int, tuple[Hugepages, ...]]) -> Iterable[Table]:
    """What discovery found."""
    widths = "/".join(map(str, sorted({len(core.cpus) for core in found.cores}))) or "0"
    summary = _table(("What", "Found"), "Machine")
    for what, text in (
        ("CPUs online", f"{len(found.online)} of {len(found.present)}: {_breakable(found.online)}"),
        ("CPUs isolated", _breakable(found.isolated) or "none"),
        ("Packages", str(len(found.packages))),
        ("Cores", f"{len(found.cores)}, {widths} threads each{_types(found)}"),
        ("L3 domains", str(len(found.l3_domains)) if found.l3_domains else "unknown"),
    ):
        summary.add_row(what, text)
    nodes = _table(("Node", "CPUs", "L3 domains", "Memory (MiB)", "Distances", "Hugepages"), "NUMA nodes")
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
    """Changes, oldest first."""
    table = _table(("When", "Service", "Before", "After", "Action", "Peer"), "History")
    table.columns[0].no_wrap = True
    for event in events:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
        process, user = (_or_damaged(event, name, str(getattr(event.peer, name))) for name in ("pid", "uid"))
        cells = {
            "at": when,
            "service": event.service,
            "before": _holding(event.before),
            "after": _holding(event.after),
            "action": event.action,
            "peer": f"pid {process} uid {user}",
        }
        table.add_row(*(_text(_or_damaged(event, name, cell)) for name, cell in cells.items()))
    return table


def _or_damaged(event: Event, column: str, text: str) -> str:
    """The text, or "damaged" when its column of the database cannot be read."""
    return "damaged" if column in event.damaged else text


def _text(text: str) -> Text:
    return Text(printable(text))


def _breakable(cpus: CpuSet) -> str:
    """A CPU list that a narrow column breaks between numbers."""
    return str(cpus).replace(",", ", ")


def _types(found: Machine) -> str:
    fast = sum(1 for core in found.cores if core.type == "performance")
    slow = sum(1 for core in found.cores if core.type == "efficiency")
    return f" ({fast} performance, {slow} efficiency)" if fast or slow else ""


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _holding(record: dict[str, object] | None) -> str:
    if record is None:
        return "nothing"
    if "hugepages" in record:
        return f"{record['hugepages']} x {record['size_kb']} KiB on node {record['node_id']}"
    marks = [str(record["pool"])] if record["pool"] != "isolated" else []
    marks += ["by node"] if record["explicit"] else []
    marks += [f"withholds {record['withheld']}"] if "withheld" in record else []
    marks += [str(record["policy"])] if record["policy"] != "legacy" else []
    return f"{record['cpus']}{' (' + ', '.join(marks) + ')' if marks else ''}"


def _table(columns: tuple[str, ...], title: str, caption: str | None = None) -> Table:
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
