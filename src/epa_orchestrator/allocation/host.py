# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Host: the machine as it is now, read again when the kernel's lists of CPUs and nodes have changed, or on request."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from epa_orchestrator.allocation.pools import Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.hardware.blind_spots import find_blind_spots
from epa_orchestrator.hardware.devices import devices_like, node_of_device
from epa_orchestrator.hardware.hugepages import HiddenPagesError, Hugepages
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.promised import count_by_node, count_of_size, count_on_node
from epa_orchestrator.hardware.settled import Reading, UnsettledError, read_settled
from epa_orchestrator.hardware.sysfs import Sysfs
from epa_orchestrator.names import IsolatedCpusFrom
from epa_orchestrator.units import count_of, named_cpus

log = logging.getLogger(__name__)


#: How often (seconds) the whole machine is read again although its lists show no change: a cache or a core can change
#: alone.
_READ_EVERY: Final = 60.0
#: The same after a change: the kernel shows the caches of a CPU a moment after it has listed the CPU as online.
_READ_AFTER_CHANGE: Final = 1.0

#: Tells where CPUs are isolated, or meant to be, when the given source has none; "" if there are none.
FoundElsewhere = Callable[[IsolatedCpusFrom], str]


def _nothing(source: IsolatedCpusFrom) -> str:
    del source
    return ""


_UNREADABLE: Final = "No CPUs can be granted because the machine cannot be read: "


class _Built(NamedTuple):
    """Pools, and what they were built from; `order` is the number of the last call of `look_again` before that."""

    reading: Reading
    order: int
    settings: Settings
    pools: Pools
    warnings: tuple[str, ...]


class Host:
    """Checks the kernel's lists at each reading and each batch, and discovers the machine again after a change.

    It remembers where each CPU was last `seen`; `seen` stays the same object as long as it does not change. Discovery
    takes 0.1 s with a thousand CPUs, so an event loop uses `known_pools` and leaves `pools` and `read_again` to another
    thread. `due` is the time (`time.monotonic`) for the next `read_again` in an idle moment.
    """

    def __init__(
        self, sysfs: Sysfs, settings: Settings, seen: LastSeen | None = None, found_elsewhere: FoundElsewhere = _nothing
    ) -> None:
        self._sysfs = sysfs
        self._settings = settings
        self._found_elsewhere = found_elsewhere
        self._lock = threading.Lock()
        self._order = 0
        self._built: _Built | None = None
        self.seen = seen or LastSeen()
        self._cores = self.seen.known_cores(None)
        self.due = math.inf

    def use(self, settings: Settings) -> None:
        """Use other settings from now on."""
        self._settings = settings

    def look_again(self) -> None:
        """Let the next look read the whole machine, whatever its lists show."""
        self._order += 1

    def known_pools(self) -> Pools | None:
        """The present pools; None where discovery is needed first."""
        built = self._built
        if built is None or built.settings is not self._settings or not self._is_as_read(built):
            return None
        return built.pools

    @property
    def latest_pools(self) -> Pools | None:
        """The pools that were built last, without a look at the host; None before the first ones.

        Each thread may find that the host has changed: these pools are never older than those that another call gave.
        """
        return self._built.pools if self._built is not None else None

    def pools(self) -> Pools:
        """The pools as they are now; the same object as long as nothing has changed.

        Raises SysfsError.
        """
        with self._lock:
            built, settings = self._built, self._settings
            if (
                built is None
                or built.reading.isolated_from != settings.isolated_cpus_from
                or not self._is_as_read(built)
            ):
                return self._read()
            if built.settings is not settings:
                return self._build(built.reading, built.order, settings)
            return built.pools

    def read_again(self) -> None:
        """Read the whole machine; other threads use the pools as they were until it is read.

        Raises SysfsError.
        """
        with self._lock:
            self._read()

    def warnings(self) -> tuple[str, ...]:
        """Sentences about the host and the settings that the operator should know, as of the present pools.

        The same object as long as the pools are; () before the first reading.
        """
        return self._built.warnings if self._built is not None else ()

    def hugepages_by_node(self, node_ids: Iterable[int]) -> dict[int, tuple[Hugepages, ...]]:
        """The kernel's hugepage counts on all nodes as they are now."""
        return count_by_node(self._sysfs, node_ids)

    def hugepages(self, node_id: int) -> tuple[Hugepages, ...]:
        """The kernel's hugepage counts on one node as they are now."""
        return count_on_node(self._sysfs, node_id, self._node_ids())

    def hugepages_of(self, node_id: int, size_kb: int) -> Hugepages | None:
        """The kernel's counts for one size (KiB) on a node as they are now, None where it has no such pages.

        Raises Refused where this process may not read them.
        """
        try:
            return count_of_size(self._sysfs, node_id, size_kb, self._node_ids())
        except HiddenPagesError as error:
            raise Refused(str(error), rule="not-found") from None

    def _node_ids(self) -> tuple[int, ...]:
        machine = self._built.pools.machine if self._built is not None else None
        return machine.node_ids if machine is not None else ()

    def node_of_device(self, machine: Machine, name: str) -> int:
        """The NUMA node of a PCI device or a network interface. Raises DeviceError."""
        return node_of_device(self._sysfs, machine, name)

    def devices_like(self, name: str) -> str:
        """How the sentence about a missing device goes on: what this host has."""
        return devices_like(self._sysfs, name)

    def _is_as_read(self, built: _Built) -> bool:
        reading = built.reading
        return reading.machine is not None and built.order == self._order and reading.signs.hold(self._sysfs)

    def _read(self) -> Pools:
        order, settings = self._order, self._settings
        before = self._built.reading if self._built is not None else None
        try:
            reading = read_settled(self._sysfs, before, settings.isolated_cpus_from)
        except UnsettledError:
            self.look_again()  # the lists may look as before when they have settled
            raise
        if before is None or not _is_same(reading, before):
            self._note(reading)
        self.due = time.monotonic() + (_READ_EVERY if before in (None, reading) else _READ_AFTER_CHANGE)
        return self._build(reading, order, settings)

    def _build(self, reading: Reading, order: int, settings: Settings) -> Pools:
        """Build the pools of a reading; its isolated CPUs come from where these settings say."""
        built = self._built
        if built is not None and built.settings is settings and _is_same(reading, built.reading):
            pools = built.pools
        else:
            problem = reading.problem and _UNREADABLE + reading.problem
            pools = build_pools(reading.machine, problem, settings, self._cores)
        warnings = self._find_warnings(pools)
        known = built.warnings if built is not None else ()
        if warnings == known:
            warnings = known
        for warning in warnings:
            if warning not in known:
                log.warning("%s", warning)
        self._built = _Built(reading, order, settings, pools, warnings)
        return pools

    def _find_warnings(self, pools: Pools) -> tuple[str, ...]:
        """The warnings for these pools. It runs after each reading of the host and each change of the settings."""
        if pools.machine is None:
            return pools.warnings
        return (*pools.warnings, *self._isolated_elsewhere(pools), *find_blind_spots(self._sysfs, pools.machine))

    def _isolated_elsewhere(self, pools: Pools) -> Iterator[str]:
        """The warning that another source has CPUs, if the operator's has none."""
        settings = pools.settings
        if pools.machine is None or pools.machine.isolated or "isolated-cpus-from" in settings.unusable:
            return
        if found := self._found_elsewhere(settings.isolated_cpus_from):
            yield f"Pool isolated has no CPUs, so requests for pinning are refused: {found}"

    def _note(self, reading: Reading) -> None:
        machine = reading.machine
        if machine is None:
            log.error("%s%s", _UNREADABLE, reading.problem)
            return
        self._remember(machine)
        log.info(
            "machine: %s online, %s isolated, %s, %s, %s, %s",
            named_cpus(str(machine.online)),
            machine.isolated or "none",
            count_of(len(machine.packages), "package"),
            count_of(len(machine.nodes), "NUMA node"),
            count_of(len(machine.l3_domains), "L3 domain"),
            count_of(len(machine.cores), "core"),
        )

    def _remember(self, machine: Machine) -> None:
        seen = self.seen.updated(machine)
        if seen != self.seen:
            self.seen = seen
        cores = seen.known_cores(machine)
        if cores != self._cores:  # equal ones stay the same object, so that the ledger sees quickly that they are equal
            self._cores = cores


def _is_same(reading: Reading, other: Reading) -> bool:
    """Whether two readings found the same machine, or the same problem; texts that mean the same may differ."""
    return (reading.machine, reading.problem) == (other.machine, other.problem)
