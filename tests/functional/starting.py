# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Start a daemon, and see whether it serves or gives up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from .harness import PATIENCE, connect, decode, encode, read_to_end

LISTING: Final = encode("list_allocations", {})
COMMAND: Final = [sys.executable, "-m", "epa_orchestrator", "serve"]


def answers(path: Path) -> bool:
    """Whether a process serves the socket."""
    try:
        with connect(path) as client:
            client.sendall(LISTING)
            return "error" not in decode(read_to_end(client))
    except OSError:
        return False


def run_to_exit(environment: dict[str, str]) -> str:
    """The last line that a daemon prints which must give up at its start."""
    ended = subprocess.run(
        COMMAND,
        env=environment,
        timeout=PATIENCE,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode > 0, (ended.returncode, ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr, ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.strip()]
    assert said, "it prints nothing"
    return said[-1]
