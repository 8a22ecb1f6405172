# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `hugepages`: the hugepages of every NUMA node, and the services' records."""

from __future__ import annotations

from typing import Annotated

import typer

from epa_orchestrator.cli.connect import connect
from epa_orchestrator.cli.options import JsonOption, SocketOption
from epa_orchestrator.cli.output import end_if_read_only, print_json, say, warn


def hugepages(
    service: Annotated[
        str | None, typer.Argument(help="The service whose record is set; leave out to show all.")
    ] = None,
    node: Annotated[int, typer.Option(help="The NUMA node.", min=0)] = 0,
    size: Annotated[int, typer.Option(help="The size of a page in KiB.", min=1)] = 2048,
    count: Annotated[int | None, typer.Option(help="The number of pages; -1 removes the record.", min=-1)] = None,
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the hugepages, or record how many a service uses. A record changes none of the kernel's pages."""
    if (service is None) != (count is None):
        raise typer.BadParameter("give SERVICE and --count to set a record, or neither to show all")
    with connect(socket) as client:
        if service is None or count is None:
            memory = client.memory_info()
            if json_:
                print_json(memory.model_dump(exclude_none=True))
            else:
                from epa_orchestrator.cli import tables

                tables.console().print(tables.hugepages(memory))
            end_if_read_only(memory.state_error)
            return
        answer = client.set_hugepages(service, node, size, count)
    warn(answer.warnings)
    if json_:
        print_json(answer.model_dump())
    else:
        say(answer.message)
