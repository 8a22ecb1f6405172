# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `release`: takes a service's CPUs back, or says that it has none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from epa_orchestrator.cli.command_text import command_text
from epa_orchestrator.cli.completion import complete_services
from epa_orchestrator.cli.connect import connect
from epa_orchestrator.cli.options import (
    JsonOption,
    SocketOption,
    check_number,
    check_service,
    choice,
    pools,
    whole_number,
)
from epa_orchestrator.cli.output import fail, fail_if_read_only, note_change, print_json, say, warn
from epa_orchestrator.nearest import did_you_mean
from epa_orchestrator.units import format_size, named_cpus

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.answers import Allocation


class Record(NamedTuple):
    """So many hugepages of a size on a NUMA node, recorded for a service."""

    node: int
    size: str
    pages: int


def release(
    service: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE",
            help="The service whose CPUs are released.",
            callback=check_service,
            autocompletion=complete_services,
        ),
    ],
    numa_node: Annotated[
        int | None,
        typer.Option(help="Release the CPUs of this NUMA node only.", parser=whole_number, callback=check_number),
    ] = None,
    pool: Annotated[
        str | None,
        choice(pools, "--pool", help="The pool, isolated or general; by default the one that holds the CPUs."),
    ] = None,
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Release a service's CPUs. Its hugepage records stay: see the command hugepages.

    Examples:
      epa-orchestrator release nova
      epa-orchestrator release ovs-dpdk --numa-node 1
    """
    with connect(socket) as client:
        claims = _claims(client, pool)
        claim = _find(claims, service, pool)
        if claim is None:
            fail(f"Nothing was released: service '{service}' holds no CPUs{_instead(client, service, claims, pool)}")
        service = claim.service_name
        if numa_node is None:
            answer = client.allocate(service, -1, claim.pool)
        else:
            answer = client.allocate_in_node(service, numa_node, -1, claim.pool)
            left = _find(client.list_allocations(claim.pool).allocations, service)
            if left is not None and left.allocated_cores == claim.allocated_cores:
                fail(
                    f"Nothing was released: service '{service}' holds {named_cpus(claim.allocated_cores)}, but none in"
                    f" NUMA node {numa_node}"
                )
        note_change(f"'{service}' released CPUs")
        kept = _kept(client, service)
    warn(answer.warnings)
    if json_:
        print_json(json.loads(answer.encode()))
    else:
        say(f"released ({answer.remaining_available_cpus} of {answer.total_available_cpus} free)")
    if kept:
        say(f"note: '{service}' keeps its {_described(service, kept)}", err=True)


def _claims(client: Client, pool: str | None) -> list[Allocation]:
    """The claims in both pools. A `pool` that does not exist is refused, and a read-only daemon ends the command."""
    isolated, general = client.list_allocations(), client.general_listing()
    fail_if_read_only(isolated.state_error)
    if pool not in (None, "isolated"):
        client.list_allocations(pool)
    return [*isolated.allocations, *(general.allocations if general else ())]


def _find(claims: Iterable[Allocation], service: str, pool: str | None = None) -> Allocation | None:
    """The service's claim; the daemon, too, prefers the exact name."""
    from epa_orchestrator.client import is_same_name

    same = [claim for claim in claims if is_same_name(claim.service_name, service) and pool in (None, claim.pool)]
    return next((claim for claim in same if claim.service_name == service), next(iter(same), None))


def _instead(client: Client, service: str, claims: list[Allocation], pool: str | None) -> str:
    """What the service holds instead, or which one may have been meant, as the end of a sentence."""
    if elsewhere := _find(claims, service):
        return f" in pool {pool}, but {named_cpus(elsewhere.allocated_cores)} in pool {elsewhere.pool}"
    if records := _hugepage_records(client, service):
        return f", but has {_described(service, records)}"
    if not claims:
        return ", and no other service does"
    meant = did_you_mean(service, [claim.service_name for claim in claims])
    return meant or "; 'epa-orchestrator list' shows which services do"


def _kept(client: Client, service: str) -> list[Record]:
    """The hugepage records that stay after a release; none if the daemon cannot tell any longer."""
    from epa_orchestrator.client import DaemonError

    try:
        return _hugepage_records(client, service)
    except DaemonError:
        return []


def _described(service: str, records: list[Record]) -> str:
    """The records, and the command that removes the first of them, as the end of a sentence."""
    named = ", ".join(f"{each.pages} x {each.size} on NUMA node {each.node}" for each in records)
    first = ("--node", records[0].node, "--size", records[0].size, "--count", -1)
    which = "them" if len(records) == 1 else "the first of them"
    removal = command_text("hugepages", service, options=first)
    return f"recorded hugepages ({named}). To remove {which}, run: {removal}"


def _hugepage_records(client: Client, service: str) -> list[Record]:
    """The hugepages that are recorded for the service."""
    from epa_orchestrator.client import is_same_name

    return [
        Record(int(node.removeprefix("node")), format_size(int(size)), count)
        for node, pages in client.memory_info().numa_hugepages.items()
        for name, counts in pages.allocations.items()
        if is_same_name(name, service)
        for size, count in counts.items()
    ]
