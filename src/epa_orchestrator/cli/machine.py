# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `machine`: shows a machine as the daemon discovers it, and records it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from epa_orchestrator.cli.connect import without_daemon
from epa_orchestrator.cli.options import JsonOption, MachineOption
from epa_orchestrator.cli.output import fail, print_json
from epa_orchestrator.cli.recordings import open_machine, write_recording


def machine(
    machine: MachineOption = None,
    record: Annotated[Path | None, typer.Option(help="Write the machine to this file, for `serve --machine`.")] = None,
    json_: JsonOption = False,
) -> None:
    """Show the CPUs, NUMA nodes and hugepages that the daemon finds."""
    with without_daemon():
        _show(machine, record, as_json=json_)


def _show(machine: str | None, record: Path | None, *, as_json: bool) -> None:
    from epa_orchestrator.hardware.discovery import MachineError, read_machine
    from epa_orchestrator.hardware.hugepages import read_hugepages, read_promised
    from epa_orchestrator.hardware.sysfs import Recorder, SysfsError

    sysfs, name = open_machine(machine)
    recorder = Recorder(sysfs)
    try:
        found = read_machine(recorder)
        pages = {node_id: read_hugepages(recorder, node_id) for node_id in found.node_ids}
        for size_kb in {each.size_kb for counts in pages.values() for each in counts}:
            read_promised(recorder, size_kb)  # for the recording: the daemon reads it
    except (MachineError, SysfsError) as error:
        fail(str(error))
    if record is not None:
        write_recording(record, name, recorder)
        typer.echo(f"recorded to {record}; serve it with: epa-orchestrator serve --machine {record}", err=True)
    if as_json:
        from epa_orchestrator.hardware.describe import describe

        print_json(describe(found, pages))
    elif record is None:
        from epa_orchestrator.cli import tables

        tables.console().print(*tables.machine(found, pages))
