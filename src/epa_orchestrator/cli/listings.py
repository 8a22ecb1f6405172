# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The commands `status` and `list`: whether all is well, and which service holds which CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epa_orchestrator.cli import watching
from epa_orchestrator.cli.completion import complete_services
from epa_orchestrator.cli.connect import connect, require_feature
from epa_orchestrator.cli.options import JsonOption, SocketOption, check_number, choice, pools, whole_number
from epa_orchestrator.cli.output import (
    EXIT_UNREACHABLE,
    Misuse,
    end_if_read_only,
    fail,
    print_json,
    print_line,
    say,
    write,
)
from epa_orchestrator.cli.watching import WatchOption
from epa_orchestrator.nearest import did_you_mean

if TYPE_CHECKING:
    from epa_orchestrator.cli.holdings import Holding
    from epa_orchestrator.cli.places import Places
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.answers import Listing

_OUTPUTS: Final = ("wide", "json", "name", "csv")
_SORTS: Final = ("name", "cpus", "count", "node", "pool")


def status(socket: SocketOption = None, json_: JsonOption = False) -> None:
    """Show whether all is well, and what to do if not.

    It also shows how full each pool and each NUMA node is.

    Examples:
      epa-orchestrator status
      epa-orchestrator status --json
    """
    from epa_orchestrator.cli import status_screen

    with connect(socket) as client:
        listings = client.listings()
        machine = client.machine() if client.supports("get-machine") else None
        memory = client.memory_info()
        failed = _failed_checks(client)
    found = status_screen.Status(str(client.path), listings, machine, memory, failed)
    if json_:
        print_json(status_screen.document(found))
    else:
        from epa_orchestrator.cli.show import show

        show(*status_screen.parts(found))
    end_if_read_only(listings[0].state_error)


def _failed_checks(client: Client) -> list[str]:
    """The checks of the host's isolation that fail; none where the daemon audits no host, or has no time to tell."""
    from epa_orchestrator.client.errors import RefusedByDaemon, Unreachable

    try:
        checks = client.isolation().checks if client.supports("get-isolation") else []
    except (RefusedByDaemon, Unreachable):
        return []
    return [check.id for check in checks if check.result == "fail"]


def list_claims(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Show only the service with this name, or if there is none, those with names like 'vm-*'.",
            autocompletion=complete_services,
        ),
    ] = None,
    cpu: Annotated[
        int | None,
        typer.Option(
            help="Show only claims that hold or withhold this CPU.", parser=whole_number, callback=check_number
        ),
    ] = None,
    node: Annotated[
        int | None,
        typer.Option(help="Show only claims with CPUs in this NUMA node.", parser=whole_number, callback=check_number),
    ] = None,
    pool: Annotated[
        str | None,
        choice(pools, "--pool", help="The pool, isolated or general; both unless given (JSON: isolated)."),
    ] = None,
    sort: Annotated[
        str, choice(lambda: _SORTS, "--sort", help=f"The order: {', '.join(_SORTS[:-1])} or {_SORTS[-1]}.")
    ] = "name",
    output: Annotated[
        str | None,
        choice(
            lambda: _OUTPUTS,
            "--output",
            "-o",
            help="wide (all columns), json, name (the names alone) or csv, instead of a table.",
        ),
    ] = None,
    socket: SocketOption = None,
    json_: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
    watch: WatchOption = False,
) -> None:
    """Show which service holds which CPUs.

    Nodes are NUMA nodes. L3 is the number of L3 cache domains, Shared the number of cores with a thread of another
    owner or of the operating system. Withheld CPUs are siblings that no other service gets. With NAME it also says,
    on stderr, what such services hold that have hugepages only.

    With --watch and --json, the first line has the claims, and each further one a change, as docs/reference/protocol.md
    describes them. After a restart of the daemon, a line has the claims again.

    Examples:
      epa-orchestrator list
      epa-orchestrator list 'vm-*' --sort count
      epa-orchestrator list --cpu 12 -o wide
      epa-orchestrator list --node 1 -o name
      epa-orchestrator list --watch
    """
    from epa_orchestrator.cli.holdings import TooLongError, holdings, ordered, select

    if json_ and output not in (None, "json"):
        raise Misuse(f"--json does not go with -o {output}: leave one of them out")
    output = "json" if json_ else output
    if watch and output == "json" and (pattern, cpu, node) != (None, None, None):
        raise Misuse("--watch prints every change as JSON: leave out NAME, --cpu and --node")

    def draw() -> str | None:
        """Print the claims as they are now; why the daemon is read-only."""
        every = listings = client.listings()
        if pool is not None:  # the daemon says why there is no such pool
            listings = [each for each in listings if each.pool == pool] or [client.list_allocations(pool)]
        places = _places(client, node) if _needs_places(output, node, sort) else None
        shown_listings = listings[:1] if output == "json" else listings
        try:
            held = holdings(listings, places)
        except TooLongError:
            fail(f"The server at {client.path} names more CPUs than any machine has", EXIT_UNREACHABLE)
        of_pools = [each for each in held if each.claim.pool in {listing.pool for listing in shown_listings}]
        chosen = select(of_pools, pattern, cpu, node)
        if cpu is not None and not chosen:
            _require_cpu(client, cpu)
        as_sent = len(chosen) == len(of_pools) and sort == "name"
        _print(shown_listings, ordered(chosen, sort), held, output, as_sent=as_sent)
        if (pattern, cpu, node) != (None, None, None):
            by_name = pattern if (cpu, node) == (None, None) else None
            _say_the_rest(client, every, of_pools, by_name, found=bool(chosen))
        return listings[0].state_error

    problem = None
    with connect(socket) as client:
        if not watch:
            problem = draw()
        elif output == "json":
            watching.watch_as_json(client, pool or "isolated")
        else:
            watching.watch(client, draw)
    end_if_read_only(problem)


def _say_the_rest(
    client: Client, every: Sequence[Listing], held: Sequence[Holding], pattern: str | None, *, found: bool
) -> None:
    """Say that no claim matches; but with a pattern first what such services hold that have no CPUs."""
    hint, records = None, dict[str, str]()
    if pattern is not None:
        from epa_orchestrator.cli.hugepage_records import only_hugepages
        from epa_orchestrator.cli.patterns import names_meant

        with_cpus = {claim.service_name for listing in every for claim in listing.allocations}
        others = only_hugepages(client.memory_info(), with_cpus)
        records = {name: others[name] for name in names_meant(pattern, [*with_cpus, *others]) if name in others}
        hint = did_you_mean(pattern, [*(each.service for each in held), *others])
    for name, text in records.items():
        say(f"'{name}' holds hugepages only: {text}", err=True)
    if not found and not records:
        say(f"no claim matches{hint or ''}", err=True)


def _print(
    listings: Sequence[Listing], shown: list[Holding], held: list[Holding], output: str | None, *, as_sent: bool
) -> None:
    """Print the claims `shown` in the form `output`; `as_sent` if they are all claims, in any order."""
    match output:
        case "json":
            listing = listings[0]
            claims = listing.allocations if as_sent else [each.claim for each in shown]
            print_json(listing.model_copy(update={"allocations": claims}).model_dump(exclude_none=True))
        case "name":
            for name in dict.fromkeys(each.service for each in shown):
                print_line(name)
        case "csv":
            from epa_orchestrator.cli.claims_table import csv

            write(csv(shown))
        case _:
            _print_table(listings, shown, held, wide=output == "wide")


def _print_table(listings: Sequence[Listing], shown: list[Holding], held: list[Holding], *, wide: bool) -> None:
    """Print a table and its totals on a terminal; for a program, rows of fixed columns alone."""
    from epa_orchestrator.cli.claims_table import claims
    from epa_orchestrator.cli.show import show, width_for_people

    if width_for_people() is not None:
        title = f"Pool {listings[0].pool}" if len(listings) == 1 else "Claims"
        show(claims(listings, shown, held, title, "wide" if wide else "needed"))
        return
    table = claims(listings, shown, held, columns="all")
    totals, table.notes = table.notes, []
    show(table)
    for line in totals:
        say(line, err=True)


def _require_cpu(client: Client, cpu: int) -> None:
    """End the command if the machine has no such CPU; an older daemon does not tell."""
    if not client.supports("get-machine"):
        return
    from epa_orchestrator.cpuset import CpuSet

    present = CpuSet.parse(client.machine().machine.present)
    if present and cpu not in present:
        fail(f"This host has no CPU {cpu}: its CPUs are {present}")


def _needs_places(output: str | None, node: int | None, sort: str) -> bool:
    return node is not None or sort == "node" or output not in ("json", "name")


def _places(client: Client, node: int | None) -> Places | None:
    """The machine that the claims are on; None if an older daemon does not tell."""
    if node is not None:
        require_feature(client, "get-machine", "tell where NUMA nodes are", ", or leave out --node")
    elif not client.supports("get-machine"):
        return None
    from epa_orchestrator.cli.places import Places
    from epa_orchestrator.cpuset import CpuSet

    places = Places(client.machine())
    if node is not None and node not in places.nodes:
        fail(f"NUMA node {node} does not exist: the nodes are {CpuSet(places.nodes)}")
    return places
