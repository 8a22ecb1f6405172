# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Host: the machine as it is now, re-read when the kernel's `online` or `isolated` CPUs have changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import NamedTuple

from epa_orchestrator.allocation.pools import Pool, Pools, build_pools
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.hardware.devices import node_of_device
from epa_orchestrator.hardware.discovery import MachineError, read_isolation, read_machine
from epa_orchestrator.hardware.hugepages import Hugepages, read_hugepages, read_hugepages_of
from epa_orchestrator.hardware.machine import LastSeen, Machine
from epa_orchestrator.hardware.sysfs import Sysfs

log = logging.getLogger(__name__)


class _Built(NamedTuple):
    """Pools, and what they were built from."""

    isolation: tuple[str | None, str | None]
    settings: Settings
    pools: Pools
    warnings: tuple[str, ...]


class Host:
    """Checks a sysfs root at each reading and each batch, and discovers the machine again only after a change.

    It remembers where each CPU was last `seen`; `seen` stays the same object as long as it does not change. Discovery
    after a change takes 0.1 s with a thousand CPUs, so an event loop uses `known_pools` and leaves `pools` to another
    thread.
    """

    def __init__(self, sysfs: Sysfs, settings: Settings, seen: LastSeen | None = None) -> None:
        self._sysfs = sysfs
        self._settings = settings
        self._lock = threading.Lock()
        self._isolation: tuple[str | None, str | None] | None = None
        self._machine: Machine | None = None
        self._problem: str | None = None
        self._built: _Built | None = None
        self.seen = seen or LastSeen()

    def use(self, settings: Settings) -> None:
        """Use other settings from now on."""
        self._settings = settings

    def known_pools(self) -> Pools | None:
        """The present pools; None where discovery is needed first."""
        built = self._built
        if built is None or built.settings is not self._settings or built.pools.machine is None:
            return None
        return built.pools if read_isolation(self._sysfs) == built.isolation else None

    def pools(self) -> Pools:
        """The pools as they are now; the same object as long as nothing has changed."""
        with self._lock:
            isolation, settings = read_isolation(self._sysfs), self._settings
            machine, problem = self._machine, self._problem
            if isolation != self._isolation or machine is None:
                self._discover()
                self._isolation = isolation
            built = self._built
            if built is None or built.settings is not settings or (self._machine, self._problem) != (machine, problem):
                pools = build_pools(self._machine, self._problem, settings, self.seen.cores)
                warnings = self._find_warnings(pools)
                _log_new(warnings, built.warnings if built is not None else ())
                built = _Built(isolation, settings, pools, warnings)
            if built.isolation != isolation:
                built = built._replace(isolation=isolation)
            self._built = built
            return built.pools

    def warnings(self) -> tuple[str, ...]:
        """Sentences about the host and the settings that the operator should know, as of the present pools.

        The same object as long as the pools are; () before the first reading.
        """
        return self._built.warnings if self._built is not None else ()

    def hugepages(self, node_id: int) -> tuple[Hugepages, ...]:
        """The kernel's hugepage counts on a node as they are now."""
        return read_hugepages(self._sysfs, node_id)

    def hugepages_of(self, node_id: int, size_kb: int) -> Hugepages | None:
        """The kernel's counts for one size (KiB) on a node as they are now, None where it has no such pages."""
        return read_hugepages_of(self._sysfs, node_id, size_kb)

    def node_of_device(self, machine: Machine, name: str) -> int:
        """The NUMA node of a PCI device or a network interface. Raises DeviceError."""
        return node_of_device(self._sysfs, machine, name)

    def _find_warnings(self, pools: Pools) -> tuple[str, ...]:
        """The warnings for these pools. It runs after each reading of the host and each change of the settings."""
        found = [*pools.settings.warnings]
        if pools.general is not None and pools.machine is not None:
            found += _of_general_pool(pools.general, pools.machine)
        return tuple(found)

    def _discover(self) -> None:
        known = self._machine, self._problem
        try:
            self._machine, self._problem = read_machine(self._sysfs), None
        except (MachineError, ValueError) as error:  # ValueError: a number of thousands of digits, or the like
            self._machine = None
            self._problem = f"No CPUs can be granted because the machine cannot be read: {error}"
        if (self._machine, self._problem) == known:
            return
        if self._machine is None:
            log.error("%s", self._problem)
        else:
            self._remember(self._machine)
            log.info(
                "machine: CPUs %s online, %s isolated, %d packages, %d NUMA nodes, %d L3 domains, %d cores",
                self._machine.online,
                self._machine.isolated or "none",
                len(self._machine.packages),
                len(self._machine.nodes),
                len(self._machine.l3_domains),
                len(self._machine.cores),
            )

    def _remember(self, machine: Machine) -> None:
        placed = EMPTY
        for node in machine.nodes:
            placed |= node.cpus
        nodes = {node_id: cpus - placed for node_id, cpus in self.seen.nodes.items()}
        for node in machine.nodes:
            nodes[node.id] = nodes.get(node.id, EMPTY) | node.cpus
        seen = LastSeen(nodes, machine.known_cores(self.seen.cores))
        if seen != self.seen:
            # Equal cores stay the same object, so that the ledger sees quickly that they have not changed.
            self.seen = seen._replace(cores=self.seen.cores) if seen.cores == self.seen.cores else seen


def _log_new(warnings: tuple[str, ...], known: tuple[str, ...]) -> None:
    for warning in warnings:
        if warning not in known:
            log.warning("%s", warning)


def _of_general_pool(pool: Pool, machine: Machine) -> Iterator[str]:
    """The warnings about the pool `general`."""
    # The warnings of the settings name unusable options already.
    if pool.problem is not None and pool.settings.unusable.keys().isdisjoint(("cpu-pool", "reserved-cpus")):
        yield pool.problem
    if missing := pool.configured - machine.present:
        yield f"cpu-pool names CPUs {missing}, which this machine does not have: remove them from cpu-pool"
