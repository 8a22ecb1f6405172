# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Promises about what a granted request gets, worked out from the documents without the daemon's own code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.faults.claims import WISHES, Held, Json, require
from tests.faults.hosts import MachineNow
from tests.functional.harness import parse_cpus

#: The policies that a request may only make stricter, from the weakest to the strictest.
_NUMA_RULES: Final = ("restricted", "single-numa-node")
_THREAD_RULES: Final = ("require", "isolate")


def has_wishes(request: Json) -> bool:
    """Whether a request has wishes for the placement of its CPUs."""
    return any(request.get(wish) is not None for wish in WISHES)


def numa_policy(options: Json, request: Json) -> Any:
    """The NUMA policy in force for a request; a rule of the operator stays in force under a weaker wish."""
    return _in_force(options.get("numa-policy", "best-effort"), request.get("numa_policy"), _NUMA_RULES)


def thread_policy(options: Json, request: Json) -> Any:
    """The thread policy in force for a request."""
    return _in_force(options.get("cpu-thread-policy", "prefer"), request.get("cpu_thread_policy"), _THREAD_RULES)


def _in_force(option: Any, wish: Any, rules: tuple[str, ...]) -> Any:
    strict = [rule for rule in rules if rule in (option, wish)]
    return strict[-1] if strict else wish or option


def judge_numa_nodes(machine: MachineNow, options: Json, request: Json, chosen: set[int]) -> None:
    """CPUs in no node go with no others under a rule on nodes; `single-numa-node` means one node."""
    policy = numa_policy(options, request)
    if policy not in _NUMA_RULES or "numa_node" in request:
        return
    nodes = {node for node, cpus in machine.nodes.items() if cpus & chosen}
    unknown = chosen - set[int]().union(*machine.nodes.values())
    require(not (nodes and unknown), "CPUs of a node with CPUs in none", request, chosen, "in none:", unknown)
    require(policy != "single-numa-node" or len(nodes) <= 1, "several nodes", request, chosen, nodes)


def judge_whole_cores(machine: MachineNow, options: Json, request: Json, chosen: set[int], after: Held) -> None:
    """With `require`, each core is the service's alone: also without threads of the operating system."""
    if thread_policy(options, request) == "require":
        others = machine.siblings_of(chosen) & machine.online - after.cpus
        require(not others, "a part of a core", request, chosen, "the rest:", others)


def judge_sharing(
    machine: MachineNow,
    options: Json,
    request: Json,
    chosen: set[int],
    free: set[int],
    foreign: set[int],
    siblings: set[int],
) -> None:
    """With `prefer`, a new claim shares no core with the `foreign` CPUs while there are enough free cores.

    NUMA nodes and packages come first, so this holds for machines with one of each. `free` and `foreign` are of the
    moment before the request: the CPUs that it could get, and those of other services or the operating system.
    `siblings` are the threads that the daemon can know to share cores with the `chosen` CPUs.
    """
    ordinary = (
        thread_policy(options, request) == "prefer"
        and options.get("cpu-distribution", "packed") == "packed"
        and options.get("prefer-core-type", "none") == "none"
        and len(machine.nodes) == 1
        and machine.shape.packages == 1
        and not machine.homeless
    )
    if not ordinary:
        return
    clean = {cpu for cpu in free if machine.siblings[cpu] & machine.online <= free}
    # A core with a reserved thread, even an offline one, is no whole core.
    clean -= machine.siblings_of(foreign | parse_cpus(options.get("reserved-cpus", "")))
    shared = machine.siblings_of(chosen) & foreign & siblings
    require(not shared or len(chosen) > len(clean), "a shared core", request, chosen, "with", shared, "free:", clean)


def free_pages(
    machine: MachineNow, options: Json, records: Mapping[tuple[str, int, int], int], node: int, size_kb: int
) -> int:
    """How many hugepages are neither in use, promised by the kernel, recorded nor reserved."""
    kernel = machine.pages(node, size_kb)
    assert kernel is not None
    total, free = kernel
    promised = machine.promised(node, size_kb)
    recorded = sum(count for record, count in records.items() if record[1:] == (node, size_kb))
    waiting = recorded + _reserved_pages(options, node, size_kb) - (total - free + promised)
    return max(free - promised - max(waiting, 0), 0)


def _reserved_pages(options: Json, node: int, size_kb: int) -> int:
    entries = [entry.split(":") for entry in options.get("reserved-hugepages", "").split(",") if entry]
    return sum(int(count) for at, size, count in entries if (int(at), int(size)) == (node, size_kb))
