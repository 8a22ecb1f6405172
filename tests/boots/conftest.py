# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Booted kernels, each with its own kernel line; tests of the same line share one boot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.architectures.bare import AMD64, BareMachine
from tests.boots.lines import Kernel
from tests.machine.machine import REPOSITORY, Shape
from tools.packing import python_environment, run, workplace

#: What runs in the guest, with the standard library and the room of the audit alone.
INSIDE: Final = ("tests/__init__.py", "tests/boots/__init__.py", "tests/boots/inside.py", "tests/boots/served.py")

#: The Python of Debian's release in the guest.
PYTHON: Final = "3.13"

QUIET: Final = "quiet loglevel=1 mitigations=off"


class Lab:
    """Boots kernels one after the other; the one that was asked for last runs."""

    def __init__(self, files: Path) -> None:
        self._files = files
        self._kernel: Kernel | None = None
        self._machine: BareMachine | None = None

    def machine(self, kernel: Kernel) -> BareMachine:
        """The machine that runs this kernel."""
        if self._machine is None or self._kernel != kernel:
            self.end()
            shape = Shape(
                sockets=1,
                cores=4 // kernel.threads,
                threads=kernel.threads,
                nodes=1,
                memory=768,
                isolated="",
                hugepages=0,
                append=f"{QUIET} {kernel.line}",
            )
            self._machine = BareMachine(AMD64, self._files, shape).__enter__()
            self._kernel = kernel
        return self._machine

    def run(self, kernel: Kernel, *words: str) -> dict[str, Any]:
        """What a module in the guest prints on this kernel, such as a scenario of inside.py."""
        path = "/job/src:/job:/job/site"
        environment = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/root"}
        return json.loads(self.machine(kernel).run("python3", "-m", *words, env=environment, timeout=200).out)

    def end(self) -> None:
        """End the running machine."""
        if self._machine is not None:
            self._machine.shutdown()
            self._machine = None


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Kernels to boot, with the sources in /job/src."""
    if not AMD64.is_built:
        pytest.skip(f"there is no machine in {AMD64.built}: `python -m tests.boots.build` builds it, on Debian")
    files = tmp_path_factory.mktemp("job")
    copy_sources(files)
    lab = Lab(files)
    yield lab
    lab.end()


@pytest.fixture(scope="session")
def equipped_lab(tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> Iterator[Lab]:
    """The same with the packages that the daemon and the command line need, in /job/site."""
    files = tmp_path_factory.mktemp("equipped")
    copy_sources(files)
    site = ["--target", str(files / "site"), "-r", "snap/requirements.txt"]
    with workplace() as place:
        run(["python3", "-m", "pip", "install", "-q", *site], REPOSITORY, python_environment(PYTHON, "amd64", place))
    lab.end()
    equipped = Lab(files)
    yield equipped
    equipped.end()


def copy_sources(files: Path) -> None:
    """Copy the package and the tests' own modules for the guest."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "src" / "epa_orchestrator", files / "src" / "epa_orchestrator", ignore=ignored)
    for name in INSIDE:
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, files / name)
