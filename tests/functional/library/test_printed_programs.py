# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The programs that the guide for consumers prints run as printed, and those of the library's docstring are valid."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Final

from charms.epa_orchestrator.v0 import epa
from tests.functional.harness import PATIENCE, Daemon
from tools.packing import ROOT

GUIDE: Final = ROOT / "docs" / "how-to" / "use-the-library.md"


def programs(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def start(daemon: Daemon, program: str) -> subprocess.Popen[str]:
    environment = {"SNAP_DATA": str(daemon.data), "PYTHONPATH": str(ROOT / "lib")}
    return subprocess.Popen([sys.executable, "-u", "-c", program], env=environment, stdout=subprocess.PIPE, text=True)


def test_claim_and_release(daemon: Daemon) -> None:
    program, _ = programs(GUIDE.read_text(encoding="utf-8"))
    with start(daemon, program) as running:
        assert running.communicate(timeout=PATIENCE)[0] == "my-service runs on CPUs 1,9\n"
    assert running.returncode == 0
    assert daemon.claims() == {}


def test_watch(daemon: Daemon) -> None:
    _, program = programs(GUIDE.read_text(encoding="utf-8"))
    with start(daemon, program) as running:
        assert running.stdout is not None
        try:
            assert running.stdout.readline() == "my-service has CPUs 1,9\n"
            daemon.cores("my-service", -1)
            assert running.stdout.readline() == "my-service has no CPUs\n"
        finally:
            running.kill()


def test_docstring_has_valid_programs() -> None:
    found = programs(epa.__doc__ or "")
    assert len(found) == 2
    for program in found:
        compile(program, "<docstring>", "exec")


def test_guide_names_every_error() -> None:
    kinds = {name for name, value in vars(epa).items() if isinstance(value, type) and issubclass(value, epa.EpaError)}
    assert kinds <= set(re.findall(r"`(\w+)`", GUIDE.read_text(encoding="utf-8")))
