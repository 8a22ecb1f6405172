# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""States that tests of faults compare: claims and hugepage records at one moment, in a form that JSON can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.daemon.main import Locations, open_state
from epa_orchestrator.hardware.sysfs import SysfsTree
from epa_orchestrator.state.store import Store
from tests.functional.harness import Daemon

#: Claims by service: pool, CPUs, whether explicit, and preemption policy. Records by service, node and size.
State: TypeAlias = dict[str, Any]


def of_ledger(ledger: Ledger) -> State:
    """The state of a ledger."""
    claims = {
        claim.service: [claim.pool, str(claim.cpus), bool(claim.explicit), claim.preemption_policy]
        for claim in ledger.claims.values()
    }
    pages = {
        f"{service} {node} {size}": count
        for service, counts in ledger.pages.items()
        for (node, size), count in counts.items()
    }
    return {"claims": claims, "pages": pages}


def of_daemon(daemon: Daemon) -> State:
    """The state that a running daemon shows."""
    claims: dict[str, Any] = {}
    for pool in ("isolated", "general"):
        for entry in daemon.call("list_allocations", pool=pool).get("allocations", []):
            values = (entry[key] for key in ("pool", "allocated_cores", "is_explicit", "preemption_policy"))
            claims[entry["service_name"]] = list(values)
    pages = {
        f"{service} {node.removeprefix('node')} {size}": count
        for node, memory in daemon.ok("get_memory_info")["numa_hugepages"].items()
        for service, sizes in memory["allocations"].items()
        for size, count in sizes.items()
    }
    return {"claims": claims, "pages": pages}


def opened(directory: Path, legacy_state: Path) -> tuple[State | None, Store | None, str | None]:
    """The state that a starting daemon finds, and its store, or the reason why it cannot write."""
    locations = Locations(
        socket_path=directory / "unused.sock",
        state_directory=directory,
        legacy_state=legacy_state,
        settings_file=None,
        sysfs=SysfsTree(directory / "no-sysfs"),
        sysfs_name="sysfs",
    )
    found = open_state(locations)
    return None if found.ledger is None else of_ledger(found.ledger), found.store, found.problem
