# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `completion`, and the completion of services in a shell: their names, as the daemon knows them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epa_orchestrator.natural import natural

if TYPE_CHECKING:
    from epa_orchestrator.client import Client

#: Set by a shell's script when it wants to know what can follow on the command line.
VARIABLE: Final = "_EPA_ORCHESTRATOR_COMPLETE"
SHELLS: Final = ("bash", "zsh", "fish")

#: How long (seconds) a person who has pressed the tab key waits for a daemon.
_PATIENCE: Final = 1.0
#: Shells take what is completed as part of the command line, and a name may hold any printable character: only these
#: cannot do harm there.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_MOST: Final = 1000


def _check_shell(shell: str) -> str:
    if shell not in SHELLS:
        raise typer.BadParameter(f"there is completion for {', '.join(SHELLS)} only")
    return shell


def _complete_shell(incomplete: str) -> list[str]:
    return [shell for shell in SHELLS if shell.startswith(incomplete)]


def completion(
    shell: Annotated[
        str,
        typer.Argument(
            metavar="SHELL",
            help="The shell: bash, zsh or fish.",
            callback=_check_shell,
            autocompletion=_complete_shell,
        ),
    ],
) -> None:
    """Print the script that completes this command in a shell. In the snap, bash has it already.

    Examples:
      source <(epa-orchestrator completion bash)
      epa-orchestrator completion zsh > ~/.zfunc/_epa-orchestrator
      epa-orchestrator completion fish | source
    """
    typer.echo(script(shell))


def script(shell: str) -> str:
    """The script for a shell, which runs the command with VARIABLE set."""
    from typer.completion import get_completion_script  # pyright: ignore[reportPrivateImportUsage]

    return get_completion_script(prog_name="epa-orchestrator", complete_var=VARIABLE, shell=shell)


def complete_services(ctx: typer.Context, incomplete: str) -> list[str]:
    """The services that hold something and whose names begin like this; nothing when no daemon answers."""
    from epa_orchestrator import paths
    from epa_orchestrator.client import Client, DaemonError

    given = ctx.params.get("socket") or os.environ.get("EPA_SOCKET")
    client = Client(Path(given) if given else paths.client_socket_path(), _PATIENCE)
    try:
        names = _services(client)
    except DaemonError:
        return []
    matching = [name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name)]
    return sorted(matching, key=natural)[:_MOST]


def complete_machines(incomplete: str) -> list[str]:
    """The machines that ship and whose names begin like this."""
    from epa_orchestrator.cli.recordings import shipped_machines

    return [name for name in shipped_machines() if name.startswith(incomplete)]


def _services(client: Client) -> set[str]:
    listings = [client.list_allocations(), client.general_listing()]
    names = {claim.service_name for listing in listings if listing for claim in listing.allocations}
    pages = client.memory_info().numa_hugepages.values()
    return names.union(*(node.allocations for node in pages))
