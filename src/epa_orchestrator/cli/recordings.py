# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machine that a command reads: this host, a recording, or one of the recordings that ship."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from epa_orchestrator import __version__, paths
from epa_orchestrator.cli.output import fail, write
from epa_orchestrator.cli.streams import end_output
from epa_orchestrator.natural import natural

if TYPE_CHECKING:
    from epa_orchestrator.hardware.sysfs import Recorder, Sysfs
    from epa_orchestrator.isolation.host_files import HostFiles

_SHIPPED: Final = Path(__file__).parents[1] / "machines"


def shipped_machines() -> list[str]:
    """The names of the recordings that ship."""
    return sorted((file.stem for file in _SHIPPED.glob("*.json")), key=natural)


def read_shipped(name: str) -> str:
    """The text of a recording that ships."""
    return (_SHIPPED / f"{name}.json").read_text(encoding="utf-8")


def open_machine(machine: str | None) -> tuple[Sysfs, str]:
    """The sysfs tree of the machine that `--machine` names, this host's for None, and the machine's name."""
    from epa_orchestrator.hardware.sysfs import SysfsTree, load_recording

    if machine is None:
        return SysfsTree(paths.sysfs_root()), os.uname().nodename or "host"
    path = Path(machine)
    try:
        if not path.exists() and (_SHIPPED / f"{machine}.json").exists():
            path = _SHIPPED / f"{machine}.json"
        return load_recording(path.read_text(encoding="utf-8")), path.stem
    except FileNotFoundError:
        names = ", ".join(shipped_machines())
        fail(f"There is no file '{machine}', and no machine of that name ships: choose one of {names}")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fail(f"The recorded machine '{machine}' cannot be used: {reason}")


def open_host(machine: str | None) -> tuple[HostFiles, float] | None:
    """The files of this host, or of a recorded one, with the time of the reading, in seconds since 1970.

    None where a recording has the machine only.
    """
    from epa_orchestrator.cli.audited_host import live_files
    from epa_orchestrator.isolation.recording import host_of

    if machine is None:
        root = paths.host_root(paths.sysfs_root())
        return (live_files(root), time.time()) if root is not None else None
    try:
        recording = host_of(Path(machine).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # one that ships, or that cannot be used, which `open_machine` says
        return None
    return (recording.files, recording.at) if recording.at else None


def write_recording(path: Path, name: str, recorder: Recorder, host: dict[str, Any] | None = None) -> None:
    """Write what a recorder has read as a file that `--machine` takes, with the facts of the host's isolation."""
    from epa_orchestrator.hardware.sysfs import dump_recording

    description = f"Recorded by epa-orchestrator {__version__}."
    more = {} if host is None else {"host": host}
    write_file(path, dump_recording(name, description, recorder.files, recorder.entries, recorder.hidden, **more))


def is_stdout(path: Path | None) -> bool:
    """Whether a path on the command line means stdout."""
    return path is not None and str(path) == "-"


def write_file(path: Path, text: str) -> None:
    """Write a recording, a report or a picture; an error says where the snap may write. `-` is stdout."""
    if is_stdout(path):
        write(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except BrokenPipeError as error:  # the path is a pipe's
        end_output(error)
    except OSError as error:
        hint = ""
        if paths.in_snap():
            hint = f": the snap may write below {paths.user_directory_in_snap()}, and print for other programs"
        fail(f"The file {path} cannot be written: {error.strerror}{hint}")
