# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The orchestrator's command line, run on the installed daemon: actions show what a terminal would show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import daemon_health
from epa_orchestrator.cli import show
from errors import CharmError

#: How long (seconds) a command may take.
_TIME: Final = 120.0
#: What a command puts before a sentence about its failure.
_PREFIX: Final = "epa-orchestrator: "


def run(*words: str) -> str:
    """What a command prints, folded; sentences that it adds, such as why a rule refuses the CPUs, come first.

    Raises CharmError with these sentences when the command prints nothing else.
    """
    command = [sys.executable, "-m", "epa_orchestrator", *words]
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIME,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CharmError(f"epa-orchestrator {words[0]} did not end within {_TIME:g} seconds") from None
    sentences = [line.removeprefix(_PREFIX) for line in done.stderr.splitlines()]
    if done.returncode and not done.stdout.strip():
        raise CharmError("\n".join(sentences) or f"epa-orchestrator {words[0]} failed with exit code {done.returncode}")
    return "\n".join(filter(None, (show.plain(*sentences), done.stdout.rstrip())))


def output_directory() -> Path:
    """The directory for results that are too long for Juju; only root may write in it.

    Raises CharmError where the snap is not installed.
    """
    directory = _snap_common()
    if not directory.is_dir():
        raise CharmError("the snap is not installed: see 'juju debug-log'")
    return directory


def _environment() -> dict[str, str]:
    """The environment of the snap's own command, with the charm's Python packages."""
    data = daemon_health.SOCKET.parents[1]
    own = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "SNAP_DATA": str(data),
        "SNAP_COMMON": str(_snap_common()),
        show.FOLD: "1",
    }
    settings = daemon_health.settings_file()
    return {
        **{name: text for name, text in os.environ.items() if not name.startswith(("EPA_", "SNAP", "JUJU_"))},
        **own,
        **({"EPA_SETTINGS": str(settings)} if settings.exists() else {}),
    }


def _snap_common() -> Path:
    return daemon_health.SOCKET.parents[2] / "common"
