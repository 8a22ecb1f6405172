# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `hugepages`: the hugepages of every NUMA node, and the services' records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from epa_orchestrator.cli.completion import complete_services, complete_sizes
from epa_orchestrator.cli.connect import connect
from epa_orchestrator.cli.options import (
    MOST,
    JsonOption,
    SocketOption,
    check_number,
    check_service,
    quote,
    whole_number,
)
from epa_orchestrator.cli.output import Misuse, end_if_read_only, fail, note_change, print_json, say, warn
from epa_orchestrator.units import count_of, format_size, parse_size

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.answers import HugepagesAnswer, MemoryAnswer

#: The record that is set unless --node and --size name another.
_NODE: Final = 0
_SIZE_KB: Final = 2048


def _check_size(text: str | None) -> str | None:
    if text is not None:
        try:
            size_kb = parse_size(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if size_kb > MOST:
            raise typer.BadParameter(f"{text} is larger than any page")
    return text


def _check_count(count: int | None) -> int | None:
    if count is not None and count != -1 and not 1 <= count <= MOST:
        number = quote(str(count))
        raise typer.BadParameter(f"must be from 1 to {MOST}, or -1 to remove the record, not {number}")
    return count


def hugepages(
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="SERVICE",
            help="The service whose record is set; leave out to show all.",
            callback=check_service,
            autocompletion=complete_services,
        ),
    ] = None,
    node: Annotated[
        int | None,
        typer.Option(help="The NUMA node, 0 for a record unless given.", parser=whole_number, callback=check_number),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="The size of a page, such as 2M, 1G or a number of KiB; 2M for a record unless given.",
            callback=_check_size,
            autocompletion=complete_sizes,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(help="The number of pages; -1 removes the record.", parser=whole_number, callback=_check_count),
    ] = None,
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the hugepages, or record how many a service uses. A record changes none of the kernel's pages.

    Without SERVICE, --node and --size choose what is shown.

    Examples:
      epa-orchestrator hugepages
      epa-orchestrator hugepages --node 1 --size 1G
      epa-orchestrator hugepages nova --size 1G --count 4
      epa-orchestrator hugepages nova --size 1G --count -1
    """
    if (service is None) != (count is None):
        raise Misuse("give SERVICE and --count to set a record, or neither to show all")
    size_kb = None if size is None else parse_size(size)
    with connect(socket) as client:
        if service is None or count is None:
            memory = client.memory_info(node)
            if size_kb is not None:
                memory = _of_size(memory, size_kb)
            if json_:
                print_json(memory.model_dump(exclude_none=True))
            else:
                from epa_orchestrator.cli.show import show
                from epa_orchestrator.cli.tables import hugepages as table

                show(table(memory))
            end_if_read_only(memory.state_error)
            return
        in_kib = size is None or size.strip().isdecimal()
        record = _set if in_kib else _set_as_written
        answer = record(client, service, _NODE if node is None else node, size_kb or _SIZE_KB, count)
    warn(answer.warnings)
    pages = _pages(answer.size_kb, answer.node_id)
    done = f"{answer.message} ({pages})" if count == -1 else f"recorded {count_of(count, 'hugepage')} of {pages}"
    note_change(done)
    if json_:
        print_json(answer.model_dump())
    else:
        say(done)


def _set(client: Client, service: str, node: int, size_kb: int, count: int) -> HugepagesAnswer:
    """Set or remove the record."""
    return client.set_hugepages(service, node, size_kb, count)


def _set_as_written(client: Client, service: str, node: int, size_kb: int, count: int) -> HugepagesAnswer:
    """The same for a size with a unit: the daemon's refusals have sizes in KiB, and so also tell it in that unit."""
    from epa_orchestrator.client import RefusedByDaemon

    if count != -1:
        _require_size(client.memory_info(node), node, size_kb)
    try:
        return _set(client, service, node, size_kb, count)
    except RefusedByDaemon as error:
        if f"{size_kb} KB" not in str(error):
            raise
        sentence = f"{error} ({size_kb} KB is {format_size(size_kb)})"
        raise RefusedByDaemon(sentence, warnings=error.warnings) from None


def _require_size(memory: MemoryAnswer, node: int, size_kb: int) -> None:
    """End the command if the node has no hugepages of this size. The daemon refuses a node that does not exist."""
    pages = memory.numa_hugepages.get(f"node{node}")
    sizes = [each.size for each in pages.capacity] if pages else []
    if memory.left_out is None and sizes and size_kb not in sizes:
        known = ", ".join(map(format_size, sorted(sizes)))
        fail(f"NUMA node {node} has no hugepages of {format_size(size_kb)}: it has the sizes {known}")


def _pages(size_kb: int, node: int) -> str:
    return f"{format_size(size_kb)} on NUMA node {node}"


def _of_size(memory: MemoryAnswer, size_kb: int) -> MemoryAnswer:
    """The answer with this size of pages only."""
    return memory.model_copy(
        update={
            "numa_hugepages": {
                name: node.model_copy(
                    update={
                        "capacity": [each for each in node.capacity if each.size == size_kb],
                        "allocations": {
                            service: {str(size_kb): counts[str(size_kb)]}
                            for service, counts in node.allocations.items()
                            if str(size_kb) in counts
                        },
                    }
                )
                for name, node in memory.numa_hugepages.items()
            }
        }
    )
