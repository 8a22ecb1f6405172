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

INSIDE: Final = Path(__file__).with_name("inside.py")

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

    def run(self, kernel: Kernel, scenario: str) -> dict[str, Any]:
        """What a scenario of inside.py prints on this kernel."""
        environment = {"PYTHONPATH": "/job/src", "PYTHONDONTWRITEBYTECODE": "1"}
        machine = self.machine(kernel)
        return json.loads(machine.run("python3", "/job/inside.py", scenario, env=environment, timeout=120).out)

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
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "src" / "epa_orchestrator", files / "src" / "epa_orchestrator", ignore=ignored)
    shutil.copy(INSIDE, files)
    lab = Lab(files)
    yield lab
    lab.end()
