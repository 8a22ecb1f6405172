# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Completion of services in a shell: their names, as the daemon knows them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from epa_orchestrator.client import Client

#: How long (seconds) a person who has pressed the tab key waits for a daemon.
_PATIENCE: Final = 1.0
#: Shells take what is completed as part of the command line, and a name may hold any printable character: only these
#: cannot do harm there.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_MOST: Final = 1000


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
    return sorted(name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name))[:_MOST]


def _services(client: Client) -> set[str]:
    listings = [client.list_allocations(), client.general_listing()]
    names = {claim.service_name for listing in listings if listing for claim in listing.allocations}
    pages = client.memory_info().numa_hugepages.values()
    return names.union(*(node.allocations for node in pages))
