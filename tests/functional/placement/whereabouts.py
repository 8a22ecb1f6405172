# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The `placement` that an answer must have, worked out from the machine alone."""

from __future__ import annotations

from epa_orchestrator.hardware.machine import Machine
from tests.functional.harness import Daemon, Json, format_cpus, parse_cpus


def whereabouts(machine: Machine, pool: set[int], cpus: set[int], others: set[int], withheld: set[int]) -> Json:
    """The `placement` of CPUs; only threads in the pool count as part of a core."""

    def l3(cpu: int) -> object:
        domains = [n for n, domain in enumerate(machine.l3_domains) if cpu in domain]
        return domains[0] if domains else (package(cpu), node(cpu))

    def node(cpu: int) -> int | None:
        return next((each.id for each in machine.nodes if cpu in each.cpus), None)

    def package(cpu: int) -> int:
        return next((n for n, each in enumerate(machine.packages) if cpu in each.cpus), 0)

    mine = [threads for core in machine.cores if (threads := set(core.cpus) & pool) & cpus]
    return {
        "numa_nodes": format_cpus({n for cpu in cpus if (n := node(cpu)) is not None}),
        "packages": len(set(map(package, cpus))),
        "l3_domains": len(set(map(l3, cpus))),
        "whole_cores": sum(threads <= cpus for threads in mine),
        "shared_cores": sum(bool(threads & others) for threads in mine),
        "withheld_cpus": format_cpus(withheld),
    }


def check_placement(daemon: Daemon, machine: Machine, answer: Json, reserved: set[int]) -> None:
    listing = daemon.ok("list_allocations")
    daemon.claims()
    pool = parse_cpus(listing["cpu_pool"]["eligible_cpus"])
    others, withheld = set(reserved), set[int]()
    for entry in listing["allocations"]:
        kept = parse_cpus(entry.get("withheld_cpus", ""))
        if entry["service_name"] == answer["service_name"]:
            withheld = kept
        else:
            others |= parse_cpus(entry["allocated_cores"]) | kept
    cpus = parse_cpus(answer["allocated_cores" if "allocated_cores" in answer else "cores_allocated"])
    assert answer["placement"] == whereabouts(machine, pool | reserved, cpus, others, withheld)
