# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `report`: prints or writes what a bug report needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from epa_orchestrator import paths
from epa_orchestrator.cli.command_text import command_text
from epa_orchestrator.cli.options import MachineOption, SocketOption
from epa_orchestrator.cli.output import end_if_read_only, say, write
from epa_orchestrator.cli.recordings import is_stdout, open_host, open_machine, write_file


def report(
    file: Annotated[
        Path | None, typer.Argument(help="Write the report to this file instead of printing it; `-` is stdout.")
    ] = None,
    machine: MachineOption = None,
    socket: SocketOption = None,
    json_: Annotated[bool, typer.Option("--json", help="Print failures as JSON, too: the report always is.")] = False,
) -> None:
    """Print what a bug report needs, as one JSON document.

    It has versions, options, claims, hugepages, history and a recording of the machine. It has no secrets and no host
    name, and says what could not be read. If the daemon serves a recorded machine that does not ship, give it with
    --machine.

    Examples:
      epa-orchestrator report
      epa-orchestrator report report.json
      epa-orchestrator serve --machine report.json
    """
    del json_  # cli.command reads it
    from epa_orchestrator.cli.report_parts import Sources, build_report, missing_parts
    from epa_orchestrator.client import Client
    from epa_orchestrator.state.database_files import FILE_NAME

    sysfs, name = open_machine(machine)
    sources = Sources(
        client=Client(socket or paths.client_socket_path()),
        sysfs=sysfs,
        settings_file=paths.settings_file(),
        # The database of this host is that of another daemon than the one at a socket that was given.
        database=None if socket else paths.state_directory(None if machine is None else name) / FILE_NAME,
        snap_revision=paths.snap_revision(),
        own_machine=machine is None,
        host=open_host(machine),
    )
    document = build_report(sources)
    text = json.dumps(document, indent=1)
    if file is None or is_stdout(file):
        write(f"{text}\n")
    else:
        write_file(file, text + "\n")
        serve = command_text("serve", options=("--machine", file))
        say(f"reported to {file}; its machine can be served with: {serve}", err=True)
        say(f"its isolation can be judged with: {command_text('audit', options=('--root', file))}", err=True)
    for sentence in (*document["notes"], *missing_parts(document)):
        say(sentence, err=True)
    end_if_read_only(document.get("pools", {}).get("isolated", {}).get("state_error"))
