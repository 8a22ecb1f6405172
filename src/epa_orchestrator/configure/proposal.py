"""Proposal: whether settings may replace the ones in use, on this machine and with these claims.

Only what a change brings about is judged: a machine that came back with other CPUs must not keep the operator from
changing something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import ReservedHugepages, Settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.names import PoolName


class NotAcceptable(EpaError):
    """Settings that must not be put in use; the message names option, value and remedy."""


@dataclass(frozen=True)
class Surroundings:
    """What the settings have to fit: the machine with its hugepages by node id, and the claims.

    `machine` and `ledger` are None when they cannot be read; `problem` says why. `hugepages` has the nodes that the
    proposal reserves pages on.
    """

    machine: Machine | None
    hugepages: Mapping[int, tuple[Hugepages, ...]]
    ledger: Ledger | None
    problem: str = ""


def check(current: Settings, proposed: Settings, around: Surroundings) -> None:
    """Raise NotAcceptable when the proposed settings do not fit the machine, or would orphan claims."""
    for option in ("cpu-pool", "reserved-cpus", "reserved-hugepages"):
        if proposed.value(option) and proposed.value(option) != current.value(option):
            _check_machine(option, proposed, around)
    _check_claims(current, proposed, around)
    _check_hugepage_records(current, proposed, around)


def _check_machine(option: str, proposed: Settings, around: Surroundings) -> None:
    if around.machine is None:
        raise NotAcceptable(f"{option} cannot be checked against the machine: {around.problem}")
    if option == "reserved-hugepages":
        for entry in proposed.reserved_hugepages:
            _check_hugepages(entry, around)
        return
    cpus: CpuSet = proposed.cpu_pool if option == "cpu-pool" else proposed.reserved_cpus
    if unknown := cpus - around.machine.present:
        raise NotAcceptable(
            f"{option}={cpus} names CPUs {unknown}, which this machine does not have: choose out of"
            f" {around.machine.present}"
        )
    if option == "cpu-pool" and (both := cpus & around.machine.isolated):
        raise NotAcceptable(f"cpu-pool={cpus} overlaps the isolated CPUs {both}: take them out of cpu-pool")


def _check_hugepages(entry: ReservedHugepages, around: Surroundings) -> None:
    sizes = {pages.size_kb: pages.total for pages in around.hugepages.get(entry.node_id, ())}
    kind = f"hugepages of {entry.size_kb} KiB"
    if entry.size_kb not in sizes:
        raise NotAcceptable(
            f"reserved-hugepages={':'.join(map(str, entry))}: NUMA node {entry.node_id} shows no {kind}; choose another"
            " node or size, and in a snap see that its plugs are connected"
        )
    if entry.pages > sizes[entry.size_kb]:
        raise NotAcceptable(
            f"reserved-hugepages={':'.join(map(str, entry))} reserves more than the {sizes[entry.size_kb]} {kind} that"
            f" NUMA node {entry.node_id} has: reserve fewer"
        )


def _check_claims(current: Settings, proposed: Settings, around: Surroundings) -> None:
    leaving = {pool: leaving for pool in ("isolated", "general") if (leaving := _leaving(pool, current, proposed))}
    if not leaving:
        return
    if around.ledger is None:
        raise NotAcceptable(f"CPUs cannot be taken out of a pool while the claims are not known: {around.problem}")
    losses = {
        service: lost
        for service, claim in sorted(around.ledger.claims.items())
        if claim.pool in leaving and (lost := (claim.cpus | claim.withheld) & leaving[claim.pool])
    }
    if losses:
        held = ", ".join(f"{cpus} (held by {service})" for service, cpus in losses.items())
        raise NotAcceptable(
            f"{_changed(current, proposed)} would take CPUs out of the pool that are in use: {held};"
            " release them first, or choose other CPUs"
        )


def _leaving(pool: PoolName, current: Settings, proposed: Settings) -> CpuSet:
    """The CPUs that leave a pool, whatever the kernel isolates."""
    if pool == "isolated":
        return proposed.reserved_cpus - current.reserved_cpus
    return (current.cpu_pool - current.reserved_cpus) - (proposed.cpu_pool - proposed.reserved_cpus)


def _changed(current: Settings, proposed: Settings) -> str:
    options = [name for name in ("cpu-pool", "reserved-cpus") if current.value(name) != proposed.value(name)]
    return " and ".join(f"{name}={proposed.value(name) or 'empty'}" for name in options)


def _check_hugepage_records(current: Settings, proposed: Settings, around: Surroundings) -> None:
    for entry in proposed.reserved_hugepages:
        node_id, size_kb, reserved = entry
        if reserved <= current.reserved_pages(node_id, size_kb):
            continue
        if around.ledger is None:
            raise NotAcceptable(f"Hugepages cannot be reserved while the claims are not known: {around.problem}")
        total = next(pages.total for pages in around.hugepages[node_id] if pages.size_kb == size_kb)
        recorded = around.ledger.recorded.get((node_id, size_kb), 0)
        if reserved + recorded > total:
            holders = ", ".join(
                f"{counts[node_id, size_kb]} by {service}"
                for service, counts in sorted(around.ledger.pages.items())
                if (node_id, size_kb) in counts
            )
            raise NotAcceptable(
                f"reserved-hugepages={':'.join(map(str, entry))} leaves {total - reserved} of {total} pages, but"
                f" {recorded} are in use ({holders}): release some first, or reserve fewer"
            )
