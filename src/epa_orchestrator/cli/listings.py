# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The commands `status` and `list`: how full each pool is, and which service holds which CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epa_orchestrator.cli.connect import connect
from epa_orchestrator.cli.options import JsonOption, PoolOption, SocketOption
from epa_orchestrator.cli.output import end_if_read_only, print_json, say, warn

if TYPE_CHECKING:
    from epa_orchestrator.protocol.answers import Listing

#: Fields of a listing that `status --json` does not repeat for each pool.
_NOT_IN_STATUS: Final = {"allocations", "version", "warnings"}


def status(socket: SocketOption = None, json_: JsonOption = False) -> None:
    """Show whether the daemon answers, and how full each pool is."""
    with connect(socket) as client:
        listings = [client.list_allocations()]
        if general := client.general_listing():
            listings.append(general)
    problem = listings[0].state_error
    warnings = list(dict.fromkeys(warning for listing in listings for warning in listing.warnings))
    if json_:
        print_json(
            {
                "socket": str(client.path),
                "state_error": problem,
                **({"warnings": warnings} if warnings else {}),
                "pools": {each.pool: each.model_dump(exclude=_NOT_IN_STATUS) for each in listings},
            }
        )
    else:
        say(f"serving at {client.path}")
        for listing in listings:
            _say_pool(listing)
        warn(warnings, err=False)
    end_if_read_only(problem)


def list_claims(pool: PoolOption = "isolated", socket: SocketOption = None, json_: JsonOption = False) -> None:
    """Show which service holds which CPUs."""
    with connect(socket) as client:
        listing = client.list_allocations(pool)
    if json_:
        print_json(listing.model_dump(exclude_none=True))
    else:
        from epa_orchestrator.cli import tables

        tables.console().print(tables.allocations(listing))
    end_if_read_only(listing.state_error)


def _say_pool(listing: Listing) -> None:
    pool = listing.cpu_pool
    services = "1 service" if listing.total_allocations == 1 else f"{listing.total_allocations} services"
    say(
        f"pool {listing.pool}: CPUs {pool.eligible_cpus or 'none'};"
        f" {listing.remaining_available_cpus} of {listing.total_available_cpus} free,"
        f" {listing.total_allocated_cpus} held by {services}"
    )
    if pool.unavailable_allocated_cpus:
        say(
            f"pool {listing.pool}: CPUs {pool.unavailable_allocated_cpus} are held but offline or no longer in the pool"
        )
