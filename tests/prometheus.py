# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Prometheus and its promtool, for tests: those on PATH, or those of Debian's or Ubuntu's package, without its service.

`python -m tests.prometheus` gets the package before the tests run. It is downloaded (19 MB) and unpacked into
build/prometheus, and nothing is installed.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parents[1] / "build" / "prometheus"


class UnavailableError(Exception):
    """This host has no Prometheus, and no package of it can be had."""


def program(name: str) -> Path:
    """The path of `prometheus` or `promtool`.

    Raises UnavailableError.
    """
    found = shutil.which(name)
    return Path(found) if found else _unpacked() / "usr" / "bin" / name


def _unpacked() -> Path:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with (DIRECTORY / "lock").open("w") as lock:  # the workers of xdist share the directory
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = DIRECTORY / "root"
        if not root.exists():
            _unpack(root)
    return root


def _unpack(root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        try:
            _download(directory)
        except UnavailableError:  # a host that has never asked its mirror knows no packages
            _run(["apt-get", "update"], directory)
            _download(directory)
        (package,) = Path(directory).glob("prometheus_*.deb")
        _run(["dpkg-deb", "-x", str(package), "new"], directory)
        (Path(directory) / "new").rename(root)


def _download(directory: str) -> None:
    # apt drops its rights for a download, and the user that it becomes may not write here.
    _run(["apt-get", "-o", "APT::Sandbox::User=root", "download", "prometheus"], directory)


def _run(command: list[str], directory: str) -> None:
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True, timeout=300)
    except FileNotFoundError:
        raise UnavailableError(f"this host has no {command[0]}") from None
    except subprocess.SubprocessError as error:
        reason = str(getattr(error, "stderr", "") or error).strip()
        raise UnavailableError(f"{' '.join(command)}: {reason}") from None


if __name__ == "__main__":
    try:
        print(program("promtool"))
    except UnavailableError as unavailable:
        print(unavailable, file=sys.stderr)
        sys.exit(1)
