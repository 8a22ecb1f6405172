# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `release`: takes a service's CPUs back, or says that it has none."""

from __future__ import annotations

import difflib
import heapq
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epa_orchestrator.cli.connect import connect
from epa_orchestrator.cli.options import JsonOption, SocketOption
from epa_orchestrator.cli.output import end_if_read_only, fail, print_json, say, warn

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.answers import Allocation

#: Comparing two names takes time that grows with the square of their length, and a server may send many long ones: so
#: many names are compared, by so many of their characters, of which this part must be the same.
_MOST_COMPARED: Final = 50
_COMPARED_LENGTH: Final = 64
_SIMILAR: Final = 0.6


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
        claims = _claims(client, pool)
        claim = _find(claims, service)
        if claim is None:
            fail(f"Nothing was released: service '{service}' holds no CPUs{_hint(service, claims)}")
        pool = pool or claim.pool
        service = claim.service_name
        if numa_node is None:
            answer = client.allocate(service, -1, pool)
        else:
            answer = client.allocate_in_node(service, numa_node, -1, pool)
            left = _find(client.list_allocations(claim.pool).allocations, service)
            if left is not None and left.allocated_cores == claim.allocated_cores:
                fail(
                    f"Nothing was released: service '{service}' holds CPUs {claim.allocated_cores}, none of them in"
                    f" NUMA node {numa_node}"
                )
    warn(answer.warnings)
    if json_:
        print_json(json.loads(answer.encode()))
    else:
        say(f"released ({answer.remaining_available_cpus} of {answer.total_available_cpus} free)")


def _claims(client: Client, pool: str | None) -> list[Allocation]:
    """The claims in both pools. A `pool` that does not exist is refused, and a read-only daemon ends the command."""
    isolated, general = client.list_allocations(), client.general_listing()
    end_if_read_only(isolated.state_error)
    if pool not in (None, "isolated"):
        client.list_allocations(pool)
    return [*isolated.allocations, *(general.allocations if general else ())]


def _find(claims: Iterable[Allocation], service: str) -> Allocation | None:
    """The service's claim; the daemon, too, prefers the exact name."""
    from epa_orchestrator.client import is_same_name

    same = [claim for claim in claims if is_same_name(claim.service_name, service)]
    return next((claim for claim in same if claim.service_name == service), next(iter(same), None))


def _hint(service: str, claims: list[Allocation]) -> str:
    """What may have been meant, as the end of a sentence."""
    if not claims:
        return ", and no other service does"
    nearest = nearest_name(service, [claim.service_name for claim in claims])
    return f"; did you mean '{nearest}'?" if nearest else "; 'epa-orchestrator list' shows which services do"


def nearest_name(name: str, others: Iterable[str]) -> str | None:
    """The name that is most like this one; None when none is similar."""

    def compared(text: str) -> str:
        return text[:_COMPARED_LENGTH].casefold()

    matcher = difflib.SequenceMatcher(autojunk=False, b=compared(name))

    def similarity(other: str, *, exact: bool) -> float:
        matcher.set_seq1(compared(other))
        return matcher.ratio() if exact else matcher.quick_ratio()

    likely = heapq.nlargest(_MOST_COMPARED, others, key=lambda other: similarity(other, exact=False))
    nearest = max(likely, key=lambda other: similarity(other, exact=True), default=None)
    return nearest if nearest is not None and similarity(nearest, exact=True) >= _SIMILAR else None
