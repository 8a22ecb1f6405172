# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The orchestrator's command line, run on the installed daemon: actions show what a terminal would show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import daemon_health
from epa_orchestrator.cli import show
from errors import CharmError

#: How long (seconds) a command may take.
_TIME: Final = 120.0
#: What a command puts before a sentence about its failure.
_PREFIX: Final = "epa-orchestrator: "
#: What it puts before a sentence about wrong use, after lines that are about the command line only.
_MISUSE: Final = "\nError: "


def run_json(*words: str, longer: float = 0.0) -> dict[str, Any]:
    """The JSON object that a command prints with --json, whatever its exit code; it may take so many seconds `longer`.

    Raises CharmError with the command's sentence where it fails.
    """
    done = _run(*words, "--json", longer=longer)
    try:
        document = json.loads(done.stdout)
    except ValueError:
        raise _failure(words[0], done) from None
    if "error" in document:
        raise CharmError(document["error"])
    return document


def run(*words: str) -> str:
    """What a command prints, folded; sentences that it adds, such as why a rule refuses the CPUs, come first.

    Raises CharmError with these sentences when the command prints nothing else.
    """
    done = _run(*words)
    if done.returncode and not done.stdout.strip():
        raise _failure(words[0], done)
    return "\n".join(filter(None, (show.plain(*_sentences(done)), done.stdout.rstrip())))


def _run(*words: str, longer: float = 0.0) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [sys.executable, "-m", "epa_orchestrator", *words],
            env=_environment(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIME + longer,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CharmError(f"epa-orchestrator {words[0]} did not end within {_TIME + longer:g} seconds") from None


def _failure(command: str, done: subprocess.CompletedProcess[str]) -> CharmError:
    sentences = "\n".join(_sentences(done))
    return CharmError(sentences or f"epa-orchestrator {command} failed with exit code {done.returncode}")


def _sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.removeprefix(_PREFIX) for line in done.stderr.rpartition(_MISUSE)[2].splitlines()]


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
