# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The commands `allocate`, `explain` and `release`: a service's CPUs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epa_orchestrator.cli.connect import connect
from epa_orchestrator.cli.options import (
    CountArgument,
    CpuThreadPolicyOption,
    JsonOption,
    NearOption,
    NumaNodeOption,
    NumaPolicyOption,
    OldPolicyOption,
    PercentOption,
    PoolOption,
    PreemptionPolicyOption,
    ServiceArgument,
    SocketOption,
    UncoreCacheAlignmentOption,
)
from epa_orchestrator.cli.output import fail, print_json, say

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.answers import Allocated, CoresAnswer, Explanation, NumaCoresAnswer, PercentAnswer


def allocate(
    service: ServiceArgument,
    count: CountArgument = 0,
    percent: PercentOption = None,
    numa_node: NumaNodeOption = None,
    preemption_policy: PreemptionPolicyOption = None,
    policy: OldPolicyOption = None,
    numa_policy: NumaPolicyOption = None,
    cpu_thread_policy: CpuThreadPolicyOption = None,
    uncore_cache_alignment: UncoreCacheAlignmentOption = None,
    near: NearOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the CPUs, and change nothing.")] = False,
    pool: PoolOption = "isolated",
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Give a service CPUs: COUNT in all, those that it holds included."""
    fields = {
        "pool": pool,
        "preemption_policy": policy if preemption_policy is None else preemption_policy,
        "dry_run": dry_run,
        **_wishes(numa_policy, cpu_thread_policy, uncore_cache_alignment, near),
    }
    with connect(socket) as client:
        answer, cpus = _request_cpus(client, service, count, percent, numa_node, fields)
    if json_:
        print_json(_as_sent(answer))
        return
    free = f"{answer.remaining_available_cpus} of {answer.total_available_cpus}"
    if dry_run:
        say(f"{cpus} ({free} would still be free; dry run: nothing was changed)")
    else:
        say(f"{cpus} ({free} still free)")


def explain(
    service: ServiceArgument,
    count: CountArgument = 0,
    percent: PercentOption = None,
    numa_node: NumaNodeOption = None,
    preemption_policy: PreemptionPolicyOption = None,
    policy: OldPolicyOption = None,
    numa_policy: NumaPolicyOption = None,
    cpu_thread_policy: CpuThreadPolicyOption = None,
    uncore_cache_alignment: UncoreCacheAlignmentOption = None,
    near: NearOption = None,
    pool: PoolOption = "isolated",
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Show which CPUs a service would get, and why. If a rule refuses them, show the rule. Nothing changes."""
    from epa_orchestrator.client import RefusedByDaemon

    fields = {
        "pool": pool,
        "preemption_policy": policy if preemption_policy is None else preemption_policy,
        "dry_run": True,
        "explain": True,
        **_wishes(numa_policy, cpu_thread_policy, uncore_cache_alignment, near),
    }
    with connect(socket) as client:
        try:
            answer, cpus = _request_cpus(client, service, count, percent, numa_node, fields)
        except RefusedByDaemon as error:
            if error.explanation is None:
                raise
            if json_:
                print_json({"error": str(error), "explanation": error.explanation.model_dump(exclude_none=True)})
            else:
                _show_explanation(error.explanation, refused=True)
            fail(str(error))
    if json_:
        print_json(_as_sent(answer))
    elif answer.explanation is not None:
        say(f"{service} would get CPUs {cpus}")
        _show_explanation(answer.explanation, refused=False)


def release(
    service: Annotated[str, typer.Argument(help="The service whose CPUs are released.")],
    numa_node: Annotated[int | None, typer.Option(help="Release the CPUs of this NUMA node only.", min=0)] = None,
    pool: Annotated[
        str | None,
        typer.Option("--pool", help="The pool, isolated or general; by default the one that holds the CPUs."),
    ] = None,
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Release a service's CPUs. Its hugepage records stay: see the command hugepages."""
    with connect(socket) as client:
        holding_pool = pool or _find_pool(client, service)
        if numa_node is None:
            answer = client.allocate(service, -1, holding_pool)
        else:
            answer = client.allocate_in_node(service, numa_node, -1, holding_pool)
    if json_:
        print_json(_as_sent(answer))
    else:
        say(f"released ({answer.remaining_available_cpus} of {answer.total_available_cpus} free)")


def _wishes(
    numa_policy: str | None, cpu_thread_policy: str | None, uncore_cache_alignment: str | None, near: str | None
) -> dict[str, Any]:
    """The request's wishes for its placement, as fields of the protocol."""
    return {
        "numa_policy": numa_policy,
        "cpu_thread_policy": cpu_thread_policy,
        "uncore_cache_alignment": uncore_cache_alignment,
        "near": _near(near),
    }


def _near(text: str | None) -> int | str | None:
    """A NUMA node as a number; any other text as it is, for the daemon to check."""
    if text is not None and text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    return text


def _request_cpus(
    client: Client, service: str, count: int, percent: int | None, numa_node: int | None, fields: dict[str, Any]
) -> tuple[CoresAnswer | PercentAnswer | NumaCoresAnswer, str]:
    """Request CPUs by count, percentage or NUMA node; returns the answer and its CPUs."""
    if percent is not None and (numa_node is not None or count):
        raise typer.BadParameter("--percent goes with neither COUNT nor --numa-node: leave them out")
    if fields["dry_run"] and "dry-run" not in client.list_allocations().supported_cpu_features:
        fail("This daemon does not support dry runs and would really allocate: no request was sent")
    if percent is not None:
        by_percent = client.allocate_percent(service, percent, **fields)
        return by_percent, by_percent.allocated_cores
    if numa_node is not None:
        in_node = client.allocate_in_node(service, numa_node, count, **fields)
        return in_node, in_node.cores_allocated
    by_count = client.allocate(service, count, **fields)
    return by_count, by_count.allocated_cores


def _find_pool(client: Client, service: str) -> str:
    """The pool in which a service holds CPUs; isolated when it holds none."""
    from epa_orchestrator.client import is_same_name

    general = client.general_listing()
    claims = general.allocations if general else []
    return "general" if any(is_same_name(claim.service_name, service) for claim in claims) else "isolated"


def _as_sent(answer: Allocated) -> object:
    """The answer as the daemon sent it."""
    return json.loads(answer.encode())


def _show_explanation(explanation: Explanation, *, refused: bool) -> None:
    from epa_orchestrator.cli import tables

    console = tables.console()
    for part in tables.explanation(explanation, refused=refused):
        console.print(part)
