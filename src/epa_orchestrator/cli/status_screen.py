# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The screen of `status`: whether all is well, the pools and NUMA nodes, and each problem with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from epa_orchestrator.cli.command_text import command_text
from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.holdings import Holding, Totals, holdings, ordered, totals
from epa_orchestrator.cli.hugepage_records import only_hugepages
from epa_orchestrator.cli.not_usable import about_not_usable
from epa_orchestrator.cpuset import EMPTY, CpuSet, union
from epa_orchestrator.natural import natural
from epa_orchestrator.units import count_of, format_size

if TYPE_CHECKING:
    from epa_orchestrator.protocol.answers import Listing, MemoryAnswer
    from epa_orchestrator.protocol.machine import MachineAnswer

#: Fields of a listing that `status --json` does not repeat for each pool.
_NOT_IN_DOCUMENT: Final = {"allocations", "version", "warnings", "state_error"}
#: The states of CPUs that a NUMA node shows, each with its heading.
_STATES: Final = {"claimed": "Claimed", "free": "Free", "withheld": "Withheld", "unavailable": "Unavailable"}
#: The heading of CPUs that a pool has and cannot use.
_NOT_USABLE: Final = "Not usable"
#: The columns of a NUMA node by what is counted; those that are not in `_ALWAYS` only if there are such CPUs.
_COUNTED: Final = {**_STATES, "not_usable": _NOT_USABLE}
_ALWAYS: Final = ("claimed", "free", "withheld")
#: The heading of the other CPUs of a NUMA node, if it has any: those that are reserved, and the operating system's.
_IN_NO_POOL: Final = "In no pool"
#: Linux knows at most four sizes of hugepages on one machine.
_MOST_SIZES: Final = 4
#: What a narrow terminal leaves out of the pools.
_OPTIONAL: Final = ("CPU list", "Services", _NOT_USABLE, "CPUs")
#: A sentence names so many services.
_MOST_NAMED: Final = 5


@dataclass(frozen=True)
class Status:
    """What a daemon answers about itself; `machine` is None if it is an older one.

    `failed_checks` are the ids of the checks of the host's isolation that fail.
    """

    socket: str
    listings: Sequence[Listing]
    machine: MachineAnswer | None
    memory: MemoryAnswer
    failed_checks: Sequence[str] = ()

    @property
    def version(self) -> str | None:
        """The daemon's version."""
        return self.machine.daemon_version if self.machine else None

    @property
    def only_hugepages(self) -> list[str]:
        """The services that hold hugepages, but no CPUs."""
        return [*only_hugepages(self.memory, {each.service for each in self.held})]

    @cached_property
    def held(self) -> list[Holding]:
        """The claims of all pools."""
        return ordered(holdings(self.listings))

    @cached_property
    def totals(self) -> list[Totals]:
        """The CPUs of each pool by state."""
        held = self.held
        return [totals(listing, held) for listing in self.listings]

    @cached_property
    def not_usable(self) -> CpuSet:
        """The CPUs that some pool has and cannot use."""
        return CpuSet.from_mask(union(each.not_usable_cpus.mask for each in self.totals))


def problems(found: Status) -> list[str]:
    """What is wrong, each in a sentence with what to do, the worst first."""
    listings = found.listings
    sentences = [f"READ-ONLY: {listings[0].state_error}"] if listings[0].state_error else []
    sentences += dict.fromkeys(warning for listing in listings for warning in listing.warnings)
    if not any(listing.cpu_pool.configured_cpus for listing in listings):
        sentences.append(
            "there are no CPUs to grant: set isolcpus= on the kernel command line and restart the host, choose another"
            " isolated-cpus-from, or set cpu-pool"
        )
    lost = [each for each in found.held if each.unavailable]
    if lost:
        cpus = ", ".join(f"{each.unavailable} of '{each.service}'" for each in lost[:_MOST_NAMED])
        more = f" and those of {count_of(len(lost) - _MOST_NAMED, 'more service')}" if len(lost) > _MOST_NAMED else ""
        services = "the service" if len(lost) == 1 else "the services"
        release = command_text("release", lost[0].service if len(lost) == 1 else "SERVICE")
        sentences.append(
            f"claimed CPUs are offline or no longer in their pool: {cpus}{more}. Bring them back, or restart"
            f" {services} after this command: {release}"
        )
    return sentences


def remarks(found: Status) -> list[str]:
    """What an operator may want to know although all is well."""
    unusable = [sentence for total in found.totals for sentence in about_not_usable(total, found.machine)]
    return [*_about_isolation(found), *unusable, *_about_outdated(found)]


def _about_isolation(found: Status) -> list[str]:
    failed = found.failed_checks
    if not failed:
        return []
    checks, fail = ("check", "fails") if len(failed) == 1 else ("checks", "fail")
    return [
        f"isolated CPUs are disturbed: {checks} {', '.join(failed)} {fail}. See what to do: sudo epa-orchestrator audit"
    ]


def _about_outdated(found: Status) -> list[str]:
    outdated = sorted({name for each in found.listings for name in each.outdated_placements}, key=natural)
    if not outdated:
        return []
    names = ", ".join(outdated[:_MOST_NAMED]) + ("" if len(outdated) <= _MOST_NAMED else ", …")
    would = f"the current settings would place {count_of(len(outdated), 'service')} differently: {names}"
    return [f"{would}. They may stay, or be released and started again"]


def parts(found: Status) -> Iterator[FittedTable | str]:
    """The screen."""
    wrong = problems(found)
    yield f"epa-orchestrator {found.version or '(version unknown)'}: {_verdict(found, wrong)}"
    yield f"serving at {found.socket}"
    if more := len(found.only_hugepages):
        services = len({each.service for each in found.held})
        yield f"{count_of(services, 'service')}, {more} more with hugepages only"
    yield _pools(found)
    if found.machine is not None and found.machine.machine.nodes:
        yield _nodes(found, found.machine)
    for sentence in wrong:
        yield f"warning: {sentence}"
    for sentence in remarks(found):
        yield f"note: {sentence}"


def _verdict(found: Status, wrong: Sequence[str]) -> str:
    if wrong:
        return f"{count_of(len(wrong), 'problem')}, see below"
    count = len(found.not_usable)
    but = [f"{count_of(count, 'CPU')} cannot be used"] if count else []
    but += ["isolated CPUs are disturbed"] if found.failed_checks else []
    return f"all is well, but {' and '.join(but)}, see below" if but else "all is well"


def document(found: Status) -> dict[str, Any]:
    """The same as JSON."""
    warnings = list(dict.fromkeys(warning for listing in found.listings for warning in listing.warnings))
    problem = found.listings[0].state_error
    return {
        "ok": not problems(found),
        **({"daemon_version": found.version} if found.version else {}),
        "socket": found.socket,
        **({"state_error": problem} if problem else {}),
        **({"warnings": warnings} if warnings else {}),
        "problems": problems(found),
        "notes": remarks(found),
        **({"hugepages_only": names} if (names := found.only_hugepages) else {}),
        "pools": {
            each.pool: each.model_dump(exclude=_NOT_IN_DOCUMENT, exclude_none=True)
            | {"total_withheld_cpus": total.withheld, "not_usable_cpus": str(total.not_usable_cpus)}
            for each, total in zip(found.listings, found.totals, strict=True)
        },
        **({"nodes": _node_documents(found, found.machine)} if found.machine else {}),
    }


def _pools(found: Status) -> FittedTable:
    """How full each pool is."""
    sums = found.totals
    special = any(each.unavailable or each.not_usable for each in sums)
    more = ("Unavailable", _NOT_USABLE) if special else ()
    headings = ("Pool", "CPUs", "Claimed", "Free", "Withheld", *more, "Services", "CPU list")
    table = FittedTable(headings, "Pools", optional=_OPTIONAL)
    for listing, total in zip(found.listings, sums, strict=True):
        extra = (total.unavailable, total.not_usable) if special else ()
        table.add_row(
            *(total.pool, total.configured, total.claimed, total.free, total.withheld, *extra),
            listing.total_allocations,
            listing.cpu_pool.configured_cpus or "none",
        )
    return table


def _nodes(found: Status, answer: MachineAnswer) -> FittedTable:
    """How full each NUMA node is."""
    nodes = _node_documents(found, answer)
    shown = [name for name in _COUNTED if name in _ALWAYS or any(node[name] for node in nodes)]
    sizes = sorted({each["size_kb"] for node in nodes for each in node["hugepages"] if each["total"]})[:_MOST_SIZES]
    headings = [_COUNTED[name] for name in shown]
    pages = [f"Free {format_size(size)}" for size in sizes]
    others = [node["cpus"] - sum(node[name] for name in shown) for node in nodes]
    headings += [_IN_NO_POOL] if any(others) else []
    table = FittedTable(("Node", "CPUs", *headings, *pages), "NUMA nodes", optional=(*reversed(pages), _IN_NO_POOL))
    for node, other in zip(nodes, others, strict=True):
        free = {each["size_kb"]: f"{each['free']} of {each['total']}" for each in node["hugepages"]}
        table.add_row(
            "none" if node["id"] is None else node["id"],
            node["cpus"],
            *(node[name] for name in shown),
            *([other] if any(others) else []),
            *(free.get(size, "0 of 0") for size in sizes),
        )
    return table


def _node_documents(found: Status, answer: MachineAnswer) -> list[dict[str, Any]]:
    """Each NUMA node with its number of CPUs in each state, and the hugepages that can still be recorded.

    CPUs that are in no node, such as those that are offline or of a node that is gone, follow with the id None.
    """
    states = {state: CpuSet.parse(answer.states.get(state, "")) for state in _STATES}
    states["not_usable"] = found.not_usable - CpuSet.from_mask(union(cpus.mask for cpus in states.values()))
    described: list[dict[str, Any]] = []
    nodes: list[tuple[int | None, CpuSet]] = [(node.id, CpuSet.parse(node.cpus)) for node in answer.machine.nodes]
    known = CpuSet.parse(answer.machine.online) | states["unavailable"] | states["not_usable"]
    in_nodes = EMPTY
    for _, cpus in nodes:
        in_nodes |= cpus
    if nodes and (elsewhere := known - in_nodes):
        nodes.append((None, elsewhere))
    for node_id, cpus in nodes:
        pages = found.memory.numa_hugepages.get(f"node{node_id}")
        described.append(
            {
                "id": node_id,
                "cpus": len(cpus),
                **{state: len(members & cpus) for state, members in states.items()},
                "hugepages": [
                    {"size_kb": each.size, "total": each.total, "free": each.free}
                    for each in (pages.capacity if pages else ())
                ],
            }
        )
    return described
