# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `machine`: shows a machine as the daemon discovers it, and records it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from epa_orchestrator.cli.connect import without_daemon
from epa_orchestrator.cli.options import JsonOption, MachineOption
from epa_orchestrator.cli.output import fail, print_json
from epa_orchestrator.cli.recordings import open_machine, write_recording

if TYPE_CHECKING:
    from epa_orchestrator.hardware.sysfs import Recorder


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
    except MachineError as error:
        _record(record, name, recorder)  # served, it shows the same error
        fail(str(error))
    except SysfsError as error:
        fail(str(error))
    _record(record, name, recorder)
    if as_json:
        from epa_orchestrator.hardware.describe import describe

        print_json(describe(found, pages))
    elif record is None:
        from epa_orchestrator.cli import tables

        tables.show(*tables.machine(found, pages))


def _record(file: Path | None, name: str, recorder: Recorder) -> None:
    if file is not None:
        write_recording(file, name, recorder)
        typer.echo(f"recorded to {file}; serve it with: epa-orchestrator serve --machine {file}", err=True)
