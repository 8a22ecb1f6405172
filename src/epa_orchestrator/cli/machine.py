# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `machine`: shows the machine that the daemon serves, or that it would discover, and records it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from epa_orchestrator import paths
from epa_orchestrator.cli.command_text import command_text
from epa_orchestrator.cli.connect import ask_if_possible, without_daemon
from epa_orchestrator.cli.options import JsonOption, MachineOption, SocketOption
from epa_orchestrator.cli.output import Misuse, end_if_read_only, fail, print_json, say, warn
from epa_orchestrator.cli.recordings import is_stdout, open_host, open_machine, write_recording

if TYPE_CHECKING:
    from epa_orchestrator.hardware.sysfs import Recorder
    from epa_orchestrator.protocol.machine import MachineAnswer


def machine(
    machine: MachineOption = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Write the machine to this file, for `serve --machine` and `audit --root`; `-` is stdout."),
    ] = None,
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the CPUs, NUMA nodes and hugepages of the machine.

    It asks the daemon which machine it serves. If none answers, or with --machine or --record, it reads the machine
    itself. With --socket it asks this daemon only.

    Examples:
      epa-orchestrator machine
      epa-orchestrator machine --json
      epa-orchestrator machine --record host.json
    """
    if json_ and is_stdout(record):
        raise Misuse("--record - and --json both print on stdout: leave one of them out")
    answer = _ask(socket) if machine is None and record is None else None
    if answer is None:
        with without_daemon():
            _show(machine, record, as_json=json_)
    else:
        _show_answer(answer, as_json=json_)
        end_if_read_only(answer.state_error)


def _ask(socket: Path | None) -> MachineAnswer | None:
    otherwise = "This is what the command reads itself"
    return ask_if_possible(socket, "get-machine", "describe the machine", lambda client: client.machine(), otherwise)


def _show_answer(answer: MachineAnswer, *, as_json: bool) -> None:
    document = answer.machine.model_dump()
    if as_json:
        print_json(document)
    else:
        from epa_orchestrator.cli import tables
        from epa_orchestrator.cli.show import show
        from epa_orchestrator.hardware.describe import from_description

        show(*tables.machine(*from_description(document)))
    warn(answer.warnings)


def _show(machine: str | None, record: Path | None, *, as_json: bool) -> None:
    from epa_orchestrator.hardware.devices import read_devices
    from epa_orchestrator.hardware.discovery import MachineError, read_machine
    from epa_orchestrator.hardware.hugepages import read_hugepages, read_promised
    from epa_orchestrator.hardware.isolated_cpus import read_all_sources
    from epa_orchestrator.hardware.sysfs import Recorder, SysfsError

    sysfs, name = open_machine(machine)
    recorder = Recorder(sysfs)
    try:
        found = read_machine(recorder)
        pages = {node_id: read_hugepages(recorder, node_id) for node_id in found.node_ids}
        for size_kb in {each.size_kb for counts in pages.values() for each in counts}:
            read_promised(recorder, size_kb)  # for the recording: the daemon reads it
        if record is not None:
            _note([*read_all_sources(recorder), *read_devices(recorder)])
    except MachineError as error:
        _record(record, machine, name, recorder)  # served, it shows the same error
        fail(_unreadable(machine, error))
    except SysfsError as error:
        fail(_unreadable(machine, error))
    _record(record, machine, name, recorder)
    if as_json:
        from epa_orchestrator.hardware.describe import describe

        print_json(describe(found, pages))
    elif record is None:
        from epa_orchestrator.cli import tables
        from epa_orchestrator.cli.show import show

        show(*tables.machine(found, pages))


def _note(problems: list[str]) -> None:
    for problem in problems:
        say(f"note: {problem}", err=True)


def _unreadable(machine: str | None, error: Exception) -> str:
    """The sentence about a machine that cannot be read."""
    read = f"The recorded machine '{machine}'" if machine is not None else f"The machine in {paths.sysfs_root()}"
    return f"{read} cannot be shown: {error}"


def _record(file: Path | None, machine: str | None, name: str, recorder: Recorder) -> None:
    if file is not None:
        from epa_orchestrator.isolation.recording import record_host

        host = open_host(machine)
        write_recording(file, name, recorder, None if host is None else record_host(*host)[1])
        if is_stdout(file):
            return
        say(f"recorded to {file}; serve it with: {command_text('serve', options=('--machine', file))}", err=True)
        if host is not None:
            say(f"its isolation can be judged with: {command_text('audit', options=('--root', file))}", err=True)
