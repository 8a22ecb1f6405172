# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machine that a command reads: this host, a recording, or one of the recordings that ship."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from epa_orchestrator import __version__, paths
from epa_orchestrator.cli.output import fail

if TYPE_CHECKING:
    from epa_orchestrator.hardware.sysfs import Recorder, Sysfs


def open_machine(machine: str | None) -> tuple[Sysfs, str]:
    """The sysfs tree of the machine that `--machine` names, this host's for None, and the machine's name."""
    from epa_orchestrator.hardware.sysfs import SysfsTree, load_recording

    if machine is None:
        return SysfsTree(paths.sysfs_root()), os.uname().nodename or "host"
    shipped = Path(__file__).parents[1] / "machines"
    path = Path(machine)
    try:
        if not path.exists() and (shipped / f"{machine}.json").exists():
            path = shipped / f"{machine}.json"
        return load_recording(path.read_text(encoding="utf-8")), path.stem
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in shipped.glob("*.json")))
        fail(f"There is no file '{machine}', and no machine of that name ships: choose one of {names}")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fail(f"The recorded machine '{machine}' cannot be used: {reason}")


def write_recording(path: Path, name: str, recorder: Recorder) -> None:
    """Write what a recorder has read as a file that `--machine` takes."""
    from epa_orchestrator.hardware.sysfs import dump_recording

    description = f"Recorded by epa-orchestrator {__version__}."
    write_file(path, dump_recording(name, description, recorder.files, recorder.entries, recorder.hidden))


def is_stdout(path: Path | None) -> bool:
    """Whether a path on the command line means stdout."""
    return path is not None and str(path) == "-"


def write_file(path: Path, text: str) -> None:
    """Write a recording or a report; an error says where the snap may write. `-` is stdout."""
    if is_stdout(path):
        typer.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        hint = ""
        if paths.in_snap():
            hint = f": the snap may write below {paths.user_directory_in_snap()}, and print for other programs"
        fail(f"The file {path} cannot be written: {error.strerror}{hint}")
