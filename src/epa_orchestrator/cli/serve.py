# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `serve`: runs the daemon, on this host or on a recorded machine."""

from __future__ import annotations

from epa_orchestrator import paths
from epa_orchestrator.cli.options import MachineOption
from epa_orchestrator.cli.output import fail
from epa_orchestrator.cli.recordings import open_machine


def serve(machine: MachineOption = None) -> None:
    """Serve the socket until SIGTERM or Ctrl-C."""
    from epa_orchestrator.daemon.main import Locations, StartError, run

    sysfs, name = open_machine(machine)
    locations = Locations(
        socket_path=paths.socket_path(),
        state_directory=paths.state_directory(None if machine is None else name),
        legacy_state=paths.legacy_state(),
        settings_file=paths.settings_file(),
        sysfs=sysfs,
        sysfs_name=f"the recorded machine {name}" if machine else "this host",
        recorded=machine is not None,
    )
    try:
        run(locations)
    except StartError as error:
        fail(str(error))
