# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The daemon, asked over its socket: whether it works, which CPUs and hugepages are held, and releasing them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import snapd
from epa_orchestrator.client.checks import is_same_name
from epa_orchestrator.client.client import Client, DaemonError
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.protocol.answers import Listing, MemoryAnswer
from epa_orchestrator.units import count_of, format_size, named_cpus
from errors import CharmError
from snap_file import NAME

SOCKET: Final = Path("/var/snap/epa-orchestrator/current/data/epa.sock")

_ANSWER_TIMEOUT: Final = 60.0
#: The largest number of services that one sentence names.
_MAX_NAMES: Final = 20


@dataclass(frozen=True)
class Holdings:
    """Everything that is held: the listing of each pool, and the hugepages."""

    listings: list[Listing]
    memory: MemoryAnswer

    @property
    def services(self) -> list[str]:
        """The services that hold CPUs or hugepages, sorted."""
        cpus = {claim.service_name for listing in self.listings for claim in listing.allocations}
        pages = {service for node in self.memory.numa_hugepages.values() for service in node.allocations}
        return sorted(cpus | pages)

    @property
    def usage(self) -> str:
        """How many CPUs are free, and how many services hold some; empty if no service does."""
        services = {claim.service_name for listing in self.listings for claim in listing.allocations}
        if not services:
            return ""
        free = sum(listing.remaining_available_cpus for listing in self.listings)
        total = sum(listing.total_available_cpus for listing in self.listings)
        return f"{free} of {total} CPUs free, {len(services)} service{'s' * (len(services) != 1)}"

    @property
    def records(self) -> Iterator[tuple[str, str, int, int]]:
        """The hugepage records: node (as `node0`), service, page size (KiB), count."""
        for node, pages in self.memory.numa_hugepages.items():
            for service, counts in pages.allocations.items():
                for size_kb, count in counts.items():
                    yield node, service, int(size_kb), count


def settings_file() -> Path:
    """The options as the snap's configure hook has stored them for the daemon."""
    return SOCKET.parents[1] / "settings.json"


def ensure_started() -> None:
    """Connect to the socket, so that systemd starts the daemon if it does not run.

    The daemon's first start imports the older daemon's claims. That has to happen before another snap can write to the
    directory of the older state, and before the configure hook compares options with the claims. A daemon that does not
    answer is no error here: `check` reports it.
    """
    with contextlib.suppress(DaemonError):
        _client().list_allocations()


def check(isolated: CpuSet) -> None:
    """Check that the daemon works; `isolated` are the CPUs that count as isolated.

    Raises CharmError when the daemon does not answer, cannot read its state, does not see the host, or has a pool
    without usable CPUs.
    """
    client = _client()
    try:
        listing = client.list_allocations()
        general = client.general_listing()
    except DaemonError as error:
        raise CharmError(
            f"run 'sudo snap start --enable {NAME}': the daemon does not answer ({error}); 'snap logs {NAME}' may say"
            " why"
        ) from error
    if listing.state_error:
        raise CharmError(f"the daemon answers read requests only: {listing.state_error}")
    if unseen := isolated - _reserved_cpus() - CpuSet.parse(listing.cpu_pool.configured_cpus):
        raise CharmError(
            f"run 'sudo snap connect {NAME}:sys-devices-system-node': the daemon does not see the isolated CPUs"
            f" {unseen}; 'snap logs {NAME}' may say why"
        )
    if general and general.cpu_pool.configured_cpus and not general.cpu_pool.eligible_cpus:
        raise CharmError(
            f"set cpu-pool to online CPUs that are not isolated (isolated: {isolated or 'none'}): none of its CPUs can"
            " be granted"
        )


def warnings() -> tuple[str, ...]:
    """The daemon's warnings about itself, its options and the host, as its command `status` shows them.

    Raises CharmError when the daemon does not answer.
    """
    try:
        return tuple(_client().list_allocations().warnings)
    except DaemonError as error:
        raise CharmError(f"the daemon does not answer: {error}") from error


def holdings() -> Holdings:
    """All claims and hugepage records.

    Raises CharmError when the daemon does not answer.
    """
    client = _client()
    try:
        return Holdings(client.listings(), client.memory_info())
    except DaemonError as error:
        raise CharmError(f"the daemon does not answer: {error}") from error


def release(service: str) -> list[str]:
    """Release all CPUs and hugepage records of a service; returns a description of each.

    Raises CharmError; its message names what was released before the failure.
    """
    held = holdings()
    client = _client()
    released: list[str] = []
    try:
        for listing in held.listings:
            for claim in listing.allocations:
                if is_same_name(claim.service_name, service):
                    client.allocate(claim.service_name, -1, listing.pool)
                    released.append(f"{named_cpus(claim.allocated_cores)} of pool {listing.pool}")
        for node, name, size_kb, count in held.records:
            if is_same_name(name, service):
                client.set_hugepages(name, int(node.removeprefix("node")), size_kb, -1)
                released.append(f"{count_of(count, 'hugepage')} of {format_size(size_kb)} on {node}")
    except DaemonError as error:
        raise CharmError(f"released {', '.join(released) or 'nothing'}, then failed: {error}") from error
    return released


def reason_to_keep_snap() -> str | None:
    """Why removing the snap could take CPUs or hugepages from a service; None when nothing is held."""
    try:
        held = holdings()
    except CharmError as error:
        return f"its claims cannot be read: {error}"
    if problem := held.listings[0].state_error:
        return f"its claims cannot be read: {problem}"
    if not held.services:
        return None
    names = held.services[:_MAX_NAMES]
    if unnamed := len(held.services) - len(names):
        names.append(f"{unnamed} more")
    return (
        f"CPUs or hugepages are still held by {', '.join(names)}; when these services have stopped, run"
        f" 'sudo {NAME} release' for each, then 'sudo snap remove {NAME}'"
    )


def _reserved_cpus() -> CpuSet:
    """The CPUs in the snap's option reserved-cpus.

    Raises CharmError when it is no CPU list, as an earlier snap may have accepted it: no CPU is granted then.
    """
    option = str(snapd.options(NAME).get("reserved-cpus", ""))
    try:
        return CpuSet.parse(option)
    except ValueError as error:
        raise CharmError(
            f"set reserved-cpus to a list of CPUs such as 2-5,8: no CPU is granted until then ({error})"
        ) from error


def _client() -> Client:
    return Client(SOCKET, timeout=_ANSWER_TIMEOUT)
