# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Proposal: whether proposed settings may replace the current ones, on this host and with these claims.

Only changed settings are judged: an operator can change one setting even when another no longer fits the machine. What
the machine does not show is not judged: a snap can be configured before its plugs are connected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.option_values import ReservedHugepages
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.names import PoolName
from epa_orchestrator.units import count_of, format_size


class NotAcceptable(EpaError):
    """Settings that do not fit the host or its claims; the message names option, value and remedy."""


@dataclass(frozen=True)
class HostState:
    """The host that settings have to fit: its machine, its hugepages by NUMA node, and its claims.

    `machine` and `ledger` are None when they cannot be read; `problem` says why. `hugepages` covers the NUMA nodes on
    which the proposal reserves pages; a node whose hugepages cannot be read has None. The isolated CPUs of `machine`
    are those by the proposed settings; `isolated_before` are those by the current ones, empty if they cannot be read.
    """

    machine: Machine | None
    hugepages: Mapping[int, tuple[Hugepages, ...] | None]
    ledger: Ledger | None
    problem: str = ""
    isolated_before: CpuSet = EMPTY


def check_proposal(current: Settings, proposed: Settings, host: HostState) -> None:
    """Raise NotAcceptable when the proposed settings do not fit the machine, or take CPUs or pages from claims."""
    for option in ("cpu-pool", "reserved-cpus", "reserved-hugepages"):
        if proposed.value(option) and proposed.value(option) != current.value(option):
            _check_machine(option, proposed, host)
    if proposed.isolated_cpus_from != current.isolated_cpus_from:
        _check_overlap(proposed, host, f" of isolated-cpus-from={proposed.isolated_cpus_from}")
    _check_claims(current, proposed, host)
    _check_hugepage_records(current, proposed, host)


def _check_machine(option: str, proposed: Settings, host: HostState) -> None:
    if host.machine is None:
        return
    if option == "reserved-hugepages":
        for entry in proposed.reserved_hugepages:
            if (sizes := host.hugepages.get(entry.node_id, ())) is not None:
                _check_hugepages(entry, sizes)
        return
    cpus: CpuSet = proposed.cpu_pool if option == "cpu-pool" else proposed.reserved_cpus
    if unknown := cpus - host.machine.present:
        raise NotAcceptable(
            f"{option}={cpus} names CPUs {unknown}, which this machine does not have: choose from"
            f" {host.machine.present}"
        )
    if option == "cpu-pool":
        _check_overlap(proposed, host)


def _check_overlap(proposed: Settings, host: HostState, of_source: str = "") -> None:
    cpus = proposed.cpu_pool
    if host.machine is not None and (both := cpus & host.machine.isolated):
        raise NotAcceptable(f"cpu-pool={cpus} overlaps the isolated CPUs {both}{of_source}: remove them from cpu-pool")


def _check_hugepages(entry: ReservedHugepages, sizes: tuple[Hugepages, ...]) -> None:
    totals = {pages.size_kb: pages.total for pages in sizes}
    size = format_size(entry.size_kb)
    if entry.size_kb not in totals:
        raise NotAcceptable(
            f"reserved-hugepages={entry}: NUMA node {entry.node_id} has no hugepages of {size}: choose another node or"
            " size; in a snap, check that its plugs are connected"
        )
    if entry.pages > (total := totals[entry.size_kb]):
        raise NotAcceptable(
            f"reserved-hugepages={entry} reserves more than the {count_of(total, 'hugepage')} of {size} that NUMA node"
            f" {entry.node_id} has: reserve fewer"
        )


def _check_claims(current: Settings, proposed: Settings, host: HostState) -> None:
    pools: tuple[PoolName, ...] = ("isolated", "general")
    removed = {pool: cpus for pool in pools if (cpus := _removed_cpus(pool, current, proposed, host))}
    if not removed:
        return
    if host.ledger is None:
        raise NotAcceptable(f"CPUs cannot leave a pool while the claims cannot be read: {host.problem}")
    losses = {
        service: lost
        for service, claim in sorted(host.ledger.claims.items())
        if claim.pool in removed and (lost := (claim.cpus | claim.withheld) & removed[claim.pool])
    }
    if losses:
        held = ", ".join(f"{cpus} (held by {service})" for service, cpus in losses.items())
        raise NotAcceptable(
            f"{_changed_options(current, proposed)} would remove CPUs in use from their pool: {held};"
            " release them first, or choose other CPUs"
        )


def _removed_cpus(pool: PoolName, current: Settings, proposed: Settings, host: HostState) -> CpuSet:
    """The CPUs that the change removes from a pool, as far as they can be read; reserved ones also if not isolated."""
    if pool == "isolated":
        reserved = proposed.reserved_cpus - current.reserved_cpus
        if host.machine is None or proposed.isolated_cpus_from == current.isolated_cpus_from:
            return reserved
        return reserved | host.isolated_before - host.machine.isolated
    return (current.cpu_pool - current.reserved_cpus) - (proposed.cpu_pool - proposed.reserved_cpus)


def _changed_options(current: Settings, proposed: Settings) -> str:
    options = ("isolated-cpus-from", "cpu-pool", "reserved-cpus")
    changed = [name for name in options if current.value(name) != proposed.value(name)]
    return " and ".join(f"{name}={proposed.value(name) or 'empty'}" for name in changed)


def _check_hugepage_records(current: Settings, proposed: Settings, host: HostState) -> None:
    earlier = {(node_id, size_kb): pages for node_id, size_kb, pages in current.reserved_hugepages}
    for entry in proposed.reserved_hugepages:
        node_id, size_kb, reserved = entry
        if reserved <= earlier.get((node_id, size_kb), 0):
            continue
        if host.ledger is None:
            raise NotAcceptable(f"Hugepages cannot be reserved while the claims cannot be read: {host.problem}")
        totals = [pages.total for pages in host.hugepages.get(node_id) or () if pages.size_kb == size_kb]
        if not totals:
            continue
        total = totals[0]
        recorded = host.ledger.recorded.get((node_id, size_kb), 0)
        if reserved + recorded > total:
            holders = ", ".join(
                f"{counts[node_id, size_kb]} by {service}"
                for service, counts in sorted(host.ledger.pages.items())
                if (node_id, size_kb) in counts
            )
            raise NotAcceptable(
                f"reserved-hugepages={entry} leaves {total - reserved} of {total} pages, but"
                f" {recorded} are in use ({holders}): release some first, or reserve fewer"
            )
