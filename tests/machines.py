"""The machines that tests run on: made-up ones, and recorded real ones where the checkout has them beside it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from epa_orchestrator.hardware.machine import Machine, read_machine
from epa_orchestrator.hardware.sysfs import RecordedSysfs, SysfsTree
from tools.synthetic import Shape, build

#: Outside the repository, and never part of it: tests that need them skip where they are absent.
REAL_MACHINES = Path(__file__).parents[2] / "shared" / "machines"


def real_machine_files() -> list[Path]:
    return sorted(REAL_MACHINES.glob("*/*.json"))


def made_up(shape: Shape) -> Machine:
    return read_machine(RecordedSysfs(build(shape)))


def _materialise() -> ModuleType:
    """The script that comes with the real machines."""
    spec = importlib.util.spec_from_file_location("materialise", REAL_MACHINES / "materialise.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_real_machine(document: dict[str, Any], root: Path) -> SysfsTree:
    """Write the sysfs tree of a real machine below a directory."""
    _materialise().materialise(document, str(root))
    return SysfsTree(root / "sys")


def real_sysfs(document: dict[str, Any], *, verbatim: bool = False) -> RecordedSysfs:
    """The same tree in memory, which spares thousands of small files."""
    files, links, directories = _materialise().tree(document, verbatim)
    entries: dict[str, list[str]] = {}
    for path in [*links, *directories]:
        while "/" in path:
            path, _, name = path.rpartition("/")
            entries.setdefault(path, []).append(name)
    return RecordedSysfs({path: text.strip() for path, text in files.items()}, entries)


def real_machine(name: str) -> Machine:
    """A real machine by its name; skips the test where it is absent."""
    for path in real_machine_files():
        if path.stem == name:
            return read_machine(real_sysfs(json.loads(path.read_text(encoding="utf-8"))))
    pytest.skip(f"the recorded machine {name} is not here")
