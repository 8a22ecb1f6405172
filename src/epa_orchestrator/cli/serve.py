# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `serve`: runs the daemon, on this host or on a recorded machine."""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from epa_orchestrator import paths
from epa_orchestrator.cli.options import MachineOption
from epa_orchestrator.cli.output import Misuse, fail
from epa_orchestrator.cli.recordings import open_machine

if TYPE_CHECKING:
    from epa_orchestrator.isolation.host_files import HostFiles


def serve(
    machine: MachineOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove all claims and the history of the recorded machine first.")
    ] = False,
) -> None:
    """Serve the socket until SIGTERM or Ctrl-C.

    Examples:
      epa-orchestrator serve
      epa-orchestrator serve --machine demo-48 --fresh
    """
    if fresh and machine is None:
        raise Misuse("--fresh goes with --machine only: the claims of a real host are never removed")
    if machine is not None and paths.in_snap():
        fail(
            "The snap serves its own host only, because its socket and database are those of the real claims: serve a"
            " recorded machine from a checkout, as the README shows"
        )
    # As in __main__: the collector visits no imported objects, which would take a twentieth of the start.
    gc.disable()
    from epa_orchestrator.daemon.main import Locations, StartError, run

    gc.freeze()
    gc.enable()
    sysfs, name = open_machine(machine)
    locations = Locations(
        socket_path=paths.socket_path(),
        state_directory=paths.state_directory(None if machine is None else name),
        legacy_state=paths.legacy_state(),
        settings_file=paths.settings_file(),
        sysfs=sysfs,
        sysfs_name=f"the recorded machine {name}" if machine else "this host",
        open_host=partial(_open_host, machine),
        host_root=paths.host_root(paths.sysfs_root()) if machine is None else None,
        recorded=machine is not None,
        fresh=fresh,
    )
    try:
        run(locations)
    except StartError as error:
        fail(str(error))


def _open_host(machine: str | None) -> HostFiles | None:
    """The host to audit. The auditor's thread calls this, so that no start waits for the import."""
    from epa_orchestrator.cli.served_host import served_host

    return served_host(machine)
