# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command `completion`, and the completion of services in a shell: their names, as the daemon knows them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epa_orchestrator.cli.output import write
from epa_orchestrator.cli.patterns import names_beginning
from epa_orchestrator.natural import natural
from epa_orchestrator.units import format_size

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
    write(f"{script(shell)}\n")


def script(shell: str) -> str:
    """The script for a shell, which runs the command with VARIABLE set."""
    from typer.completion import get_completion_script  # pyright: ignore[reportPrivateImportUsage]

    return get_completion_script(prog_name="epa-orchestrator", complete_var=VARIABLE, shell=shell)


def complete_services(ctx: typer.Context, incomplete: str) -> list[str]:
    """The services that hold something and whose names begin like this; nothing when no daemon answers."""
    return _beginning(incomplete, _ask(ctx, _services))


def complete_sizes(ctx: typer.Context, incomplete: str) -> list[str]:
    """The sizes of the hugepages of the daemon's machine; nothing when no daemon answers."""
    return [size for size in _ask(ctx, _sizes) if size.startswith(incomplete)]


def complete_interfaces(incomplete: str) -> list[str]:
    """The network interfaces of this host that are devices."""
    from epa_orchestrator import paths
    from epa_orchestrator.hardware.devices import interfaces
    from epa_orchestrator.hardware.sysfs import SysfsError, SysfsTree

    try:
        return _beginning(incomplete, interfaces(SysfsTree(paths.sysfs_root())))
    except SysfsError:
        return []


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    """The names that such a word means, those that do no harm in a shell."""
    harmless = [name for name in names if _HARMLESS.fullmatch(name)]
    return sorted(names_beginning(incomplete, harmless), key=natural)[:_MOST]


def _ask(ctx: typer.Context, ask: Callable[[Client], Iterable[str]]) -> Iterable[str]:
    """What a daemon answers; nothing when none does."""
    from epa_orchestrator import paths
    from epa_orchestrator.client import Client, DaemonError

    given = ctx.params.get("socket") or os.environ.get("EPA_SOCKET")
    try:
        return ask(Client(Path(given) if given else paths.client_socket_path(), _PATIENCE))
    except DaemonError:
        return ()


def complete_machines(incomplete: str) -> list[str]:
    """The machines that ship and whose names begin like this."""
    from epa_orchestrator.cli.recordings import shipped_machines

    return [name for name in shipped_machines() if name.startswith(incomplete)]


def _sizes(client: Client) -> list[str]:
    nodes = client.memory_info().numa_hugepages.values()
    return [format_size(size) for size in sorted({each.size for node in nodes for each in node.capacity})]


def _services(client: Client) -> set[str]:
    names = {claim.service_name for listing in client.listings() for claim in listing.allocations}
    pages = client.memory_info().numa_hugepages.values()
    return names.union(*(node.allocations for node in pages))
