# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Holdings: the claims of listings with their places, which of them a person wants to see, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from epa_orchestrator.cli.patterns import names_meant
from epa_orchestrator.cli.places import Place, Places
from epa_orchestrator.cpuset import CpuSet, lowest, union
from epa_orchestrator.natural import natural

if TYPE_CHECKING:
    from epa_orchestrator.protocol.answers import Allocation, Listing

#: The most characters of all CPU lists of the claims. A daemon's lists name each CPU once, and once more if it is
#: withheld; longer ones would take long to read.
_LONGEST: Final = 2_000_000


class TooLongError(Exception):
    """The CPU lists of a listing are longer than any daemon's."""


@dataclass(frozen=True)
class Holding:
    """A claim, the CPUs that it names as sets, and its place if the daemon has told about the machine."""

    claim: Allocation
    cpus: CpuSet
    withheld: CpuSet
    unavailable: CpuSet
    place: Place | None

    @property
    def service(self) -> str:
        """The name of the service."""
        return self.claim.service_name


@dataclass(frozen=True)
class Totals:
    """The CPUs of a pool by state: they add up to `configured`; claimed ones outside the pool are `outside`.

    `not_usable` CPUs are those that the pool cannot grant and that no claim of it holds; `not_usable_cpus` names them,
    and those that claims of the other pool hold are `held_elsewhere`.
    """

    pool: str
    configured: int
    claimed: int
    free: int
    withheld: int
    unavailable: int
    not_usable: int
    not_usable_cpus: CpuSet
    held_elsewhere: CpuSet
    outside: CpuSet


def holdings(listings: Sequence[Listing], places: Places | None = None) -> list[Holding]:
    """The claims of all listings. Raises TooLongError."""
    claims = [(claim, listing) for listing in listings for claim in listing.allocations]
    if sum(len(claim.allocated_cores) + len(claim.withheld_cpus or "") for claim, _ in claims) > _LONGEST:
        raise TooLongError
    gone = {listing.pool: CpuSet.parse(listing.cpu_pool.unavailable_allocated_cpus) for listing in listings}
    found: list[Holding] = []
    for claim, listing in claims:
        cpus, withheld = CpuSet.parse(claim.allocated_cores), CpuSet.parse(claim.withheld_cpus or "")
        place = places.of(cpus, withheld) if places else None
        found.append(Holding(claim, cpus, withheld, cpus & gone[listing.pool], place))
    return found


def totals(listing: Listing, held: Iterable[Holding]) -> Totals:
    """The CPUs of the listing's pool by state; `held` has the claims of all pools."""
    held = list(held)
    configured, eligible = (
        CpuSet.parse(cpus) for cpus in (listing.cpu_pool.configured_cpus, listing.cpu_pool.eligible_cpus)
    )
    owned = _union(each.cpus for each in held)
    gone = CpuSet.parse(listing.cpu_pool.unavailable_allocated_cpus)
    claimed = listing.total_allocated_cpus - len(gone)
    withheld = len((_union(each.withheld for each in held) & eligible) - owned)
    unavailable = len(gone & configured)
    elsewhere = _union(each.cpus for each in held if each.claim.pool != listing.pool)
    used = claimed + listing.remaining_available_cpus + withheld + unavailable
    return Totals(
        pool=listing.pool,
        configured=len(configured),
        claimed=claimed,
        free=listing.remaining_available_cpus,
        withheld=withheld,
        unavailable=unavailable,
        not_usable=max(len(configured) - used, 0),
        not_usable_cpus=configured - (eligible - elsewhere) - gone,
        held_elsewhere=configured & elsewhere,
        outside=gone - configured,
    )


def select(
    held: Iterable[Holding], pattern: str | None = None, cpu: int | None = None, node: int | None = None
) -> list[Holding]:
    """The claims that hold or withhold this CPU, and have CPUs in this NUMA node; `pattern` is a name or a pattern."""
    held = list(held)
    meant = None if pattern is None else {*names_meant(pattern, [each.service for each in held])}
    return [
        each
        for each in held
        if (meant is None or each.service in meant)
        and (cpu is None or cpu in each.cpus or cpu in each.withheld)
        and (node is None or (each.place is not None and node in each.place.nodes))
    ]


def ordered(held: Iterable[Holding], by: str = "name") -> list[Holding]:
    """The claims in an order of ORDERS, those that are equal in it by name."""
    key = ORDERS[by]
    return sorted(held, key=lambda each: (key(each), natural(each.service), each.claim.pool))


def _lowest_node(each: Holding) -> int:
    return lowest(each.place.nodes.mask) if each.place else -1


#: The orders of a list: the largest claim first, everything else from the lowest.
ORDERS: Final[dict[str, Callable[[Holding], Any]]] = {
    "name": lambda _: 0,
    "cpus": lambda each: lowest(each.cpus.mask),
    "count": lambda each: -each.claim.cores_count,
    "node": _lowest_node,
    "pool": lambda each: ("isolated", "general").index(each.claim.pool),
}


def _union(sets: Iterable[CpuSet]) -> CpuSet:
    return CpuSet.from_mask(union(cpus.mask for cpus in sets))
