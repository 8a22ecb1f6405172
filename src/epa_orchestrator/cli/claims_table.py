# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The table of claims, its totals, and the same rows as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.holdings import Holding, Totals, holdings, ordered, totals
from epa_orchestrator.natural import natural
from epa_orchestrator.units import count_of

if TYPE_CHECKING:
    from epa_orchestrator.protocol.answers import Listing

#: Which columns a table has: those that differ between claims, the same and some more, or every one.
Columns = Literal["needed", "wide", "all"]
#: The columns of the table, and of CSV. Scripts count them: a new one goes to the end.
_COLUMNS: Final = {
    "Service": "service",
    "CPUs": "cpus",
    "Count": "count",
    "Pool": "pool",
    "Nodes": "numa_nodes",
    "L3": "l3_domains",
    "Packages": "packages",
    "Shared": "shared_cores",
    "Withheld": "withheld_cpus",
    "Unavailable": "unavailable_cpus",
    "By node": "by_node",
    "Preemption": "preemption_policy",
}
#: What a narrow terminal leaves out, the first one first.
_OPTIONAL: Final = ("Packages", "By node", "Preemption", "Shared", "L3", "Pool", "Nodes", "Count")


def allocations(listing: Listing) -> FittedTable:
    """The claims of one pool, with its totals."""
    held = holdings([listing])
    return claims([listing], ordered(held), held, f"Pool {listing.pool}")


def claims(
    listings: Sequence[Listing],
    shown: Sequence[Holding],
    held: Sequence[Holding],
    title: str = "Claims",
    columns: Columns = "needed",
) -> FittedTable:
    """A table of the claims `shown`, with the totals of these pools; `held` has all claims.

    Only with all columns they are the same whatever the claims are, as a program needs them.
    """
    headings = list(_COLUMNS) if columns == "all" else _headings(shown, listings, wide=columns == "wide")
    notes: list[str] = []
    if len(shown) < sum(len(listing.allocations) for listing in listings):
        notes.append(f"{len(shown)} of {count_of(len(held), 'claim')} shown")
    for listing in listings:
        notes += total_lines(totals(listing, held))
    if outdated := sorted({name for each in listings for name in each.outdated_placements}, key=natural):
        notes.append(f"The current settings would place these differently: {', '.join(outdated)}")
    table = FittedTable(headings, title, notes, _OPTIONAL)
    for each in shown:
        cells = _cells(each)
        table.add_row(*(cells[column] for column in headings))
    return table


def total_lines(total: Totals) -> list[str]:
    """The CPUs of a pool by state, as a sum."""
    states = [f"{total.claimed} claimed", f"{total.free} free", f"{total.withheld} withheld"]
    states += [f"{total.unavailable} unavailable"] if total.unavailable else []
    states += [f"{total.not_usable} not usable"] if total.not_usable else []
    lines = [f"Pool {total.pool}: {count_of(total.configured, 'CPU')} = {' + '.join(states)}"]
    if total.outside:
        lines.append(f"Claimed, but no longer in pool {total.pool}: {total.outside}")
    return lines


def csv(shown: Iterable[Holding]) -> str:
    """The claims as comma-separated values, with all columns and a heading."""
    import csv
    import io

    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_COLUMNS.values())
    for each in shown:
        cells = _cells(each)
        writer.writerow([cells[column] for column in _COLUMNS])
    return written.getvalue()


def _cells(each: Holding) -> dict[str, str]:
    """A claim's cell in each column."""
    claim, place = each.claim, each.place
    return {
        "Service": claim.service_name,
        "CPUs": claim.allocated_cores,
        "Count": str(claim.cores_count),
        "Pool": claim.pool,
        "Nodes": str(place.nodes) if place else "",
        "L3": str(place.l3_domains) if place else "",
        "Packages": str(place.packages) if place else "",
        "Shared": str(place.shared_cores) if place else "",
        "Withheld": claim.withheld_cpus or "",
        "Unavailable": str(each.unavailable),
        "By node": "yes" if claim.is_explicit else "no",
        "Preemption": claim.preemption_policy,
    }


def _headings(shown: Sequence[Holding], listings: Sequence[Listing], *, wide: bool) -> list[str]:
    """The columns that a person needs: those that differ between claims, and with `wide` some more."""
    placed = any(each.place for each in shown)
    needed = {
        "Pool": wide or len(listings) > 1,
        "Nodes": placed,
        "L3": placed,
        "Packages": wide and placed,
        "Shared": placed,
        "Withheld": any(each.withheld for each in shown),
        "Unavailable": any(each.unavailable for each in shown),
        "By node": wide or any(each.claim.is_explicit for each in shown),
        "Preemption": wide or any(each.claim.preemption_policy != "legacy" for each in shown),
    }
    return [column for column in _COLUMNS if needed.get(column, True)]
