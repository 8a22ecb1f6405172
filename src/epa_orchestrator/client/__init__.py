# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Client: asks a running daemon. One exchange over the socket, its answer checked against the protocol.

It trusts no answer, and never sends a request by itself. The command line and the charm use it. Its public names are
those below.
"""

from epa_orchestrator.client.checks import is_same_name
from epa_orchestrator.client.client import Client
from epa_orchestrator.client.errors import DaemonError, RefusedByDaemon, Unreachable, WatchEnded
from epa_orchestrator.client.watching import Watch

__all__ = ["Client", "DaemonError", "RefusedByDaemon", "Unreachable", "Watch", "WatchEnded", "is_same_name"]
