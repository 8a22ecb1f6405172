# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The program of the charm: a service of systemd, on the CPUs that the charm has claimed."""

from __future__ import annotations

import subprocess
from pathlib import Path

UNIT = Path("/etc/systemd/system/epa-consumer.service")


def start(cpus: str | None) -> None:
    """Run the program on these CPUs, a list such as 2-3,8; None runs it on all. It restarts only for other CPUs."""
    affinity = "" if cpus is None else f"CPUAffinity={cpus}\n"
    text = f"[Unit]\nDescription=A program on isolated CPUs\n[Service]\nExecStart=sleep infinity\n{affinity}"
    if UNIT.exists() and UNIT.read_text(encoding="utf-8") == text:
        _systemctl("start", UNIT.name)
        return
    UNIT.write_text(text, encoding="utf-8")
    _systemctl("daemon-reload")
    _systemctl("restart", UNIT.name)


def stop() -> None:
    """Stop the program, and remove its service."""
    if UNIT.exists():
        _systemctl("stop", UNIT.name)
        UNIT.unlink()
        _systemctl("daemon-reload")


def _systemctl(*words: str) -> None:
    subprocess.run(["systemctl", *words], check=True)
