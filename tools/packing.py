# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Helpers for packing: the Python and the architecture that a package is for, and running commands."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import yaml

ROOT: Final = Path(__file__).parents[1]

#: The supported architectures, by Debian's name: the kernel's name, and the number of the machine in ELF files.
ARCHITECTURES: Final = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183), "s390x": ("s390x", 22)}

#: The versions of glibc whose wheels run on the base: 2.17 is the oldest that wheels are built for, core24 has 2.39.
_GLIBC_MINORS: Final = range(39, 16, -1)


class PackError(Exception):
    """Packing failed; the message is one sentence."""


def architecture() -> str:
    """This machine's architecture, by Debian's name."""
    for name, (machine, _) in ARCHITECTURES.items():
        if machine == platform.machine():
            return name
    raise PackError(f"unsupported architecture {platform.machine()}: use one of {', '.join(ARCHITECTURES)}")


def document(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping."""
    return cast("dict[str, Any]", yaml.safe_load(path.read_text(encoding="utf-8")))


def running_python() -> str:
    """The version of the running Python, such as 3.11."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@contextlib.contextmanager
def workplace() -> Generator[Path]:
    """A temporary directory in which files are laid out before they are packed."""
    with tempfile.TemporaryDirectory(prefix="epa-pack-") as directory:
        yield Path(directory)


def python_environment(version: str, target: str, workplace: Path) -> dict[str, str]:
    """Environment variables that make `python3 -m pip install --target` install for a Python such as 3.12.

    `target` is the architecture of that Python. If this machine has the Python with pip, `python3` becomes it.
    Otherwise `python3` is the running Python, which downloads wheels for the other version but cannot compile for it,
    so the packed program starts slower. Compiled files are the same on all architectures.
    """
    interpreter = _interpreter(version)
    environment = {"PIP_ONLY_BINARY": ":all:"}
    if target != architecture():
        environment |= {"PIP_PLATFORM": " ".join(_wheel_platforms(target)), "PIP_PYTHON_VERSION": version}
    if interpreter is None:
        print(f"Python {version} with pip is not on this machine: the package is not compiled and starts slower")
        environment |= {"PIP_PYTHON_VERSION": version, "PYTHONDONTWRITEBYTECODE": "1"}
    return environment | {"PATH": _path_with(interpreter or Path(sys.executable), workplace)}


def check_architecture(directory: Path, target: str) -> None:
    """Raise PackError if a library in the directory is for another architecture than `target`."""
    _, expected = ARCHITECTURES[target]
    for file in sorted([*directory.rglob("*.so"), *directory.rglob("*.so.[0-9]*")]):
        header = file.read_bytes()[:20]
        order = "big" if header[5:6] == b"\2" else "little"
        machine = int.from_bytes(header[18:20], order)
        if header[:4] != b"\x7fELF" or machine != expected:
            name = file.relative_to(directory)
            raise PackError(f"{name} is no library for {target}: run `pip cache purge` and pack again")


def run(command: list[str], cwd: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a command; raises PackError when it fails or is missing."""
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    try:
        subprocess.run(command, cwd=cwd, env={**os.environ, **quiet, **(environment or {})}, check=True)
    except FileNotFoundError:
        raise PackError(f"the program {command[0]} is missing: install it") from None
    except subprocess.CalledProcessError as error:
        raise PackError(f"{' '.join(command)[:200]} failed with status {error.returncode}") from None


def drop_foreign_bytecode(directory: Path, version: str) -> None:
    """Remove compiled files for other Pythons than `version`."""
    tag = f".cpython-{version.replace('.', '')}.pyc"
    for file in directory.rglob("*.pyc"):
        if not file.name.endswith(tag):
            file.unlink()


def _wheel_platforms(target: str) -> list[str]:
    """The platforms of the wheels that run on the base, the best first."""
    machine, _ = ARCHITECTURES[target]
    return [*(f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS), f"manylinux2014_{machine}"]


def _interpreter(version: str) -> Path | None:
    if version == running_python():
        return Path(sys.executable)
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [Path(found)] if (found := shutil.which(f"python{version}")) else []
    candidates += sorted(path for path in versions.glob(f"{version}.*/bin/python3") if re.search(r"\d/bin", str(path)))
    return next((path for path in candidates if _has_pip(path)), None)


def _has_pip(interpreter: Path) -> bool:
    done = subprocess.run([interpreter, "-m", "pip", "--version"], capture_output=True, check=False)
    return done.returncode == 0


def _path_with(interpreter: Path, workplace: Path) -> str:
    """A PATH whose `python3` is the interpreter."""
    directory = workplace / "bin"
    directory.mkdir(exist_ok=True)
    (directory / "python3").write_text(f'#!/bin/sh\nexec "{interpreter}" "$@"\n', encoding="utf-8")
    (directory / "python3").chmod(0o755)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"
