# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tools for tests of the configure hook: an installed snap on a synthetic host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.configure.hook import apply_options
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.sysfs import SysfsTree
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import database_files, opening
from tools.synthetic import Shape, build, write_tree

#: Two NUMA nodes of four cores with one thread each: node 0 has CPUs 0-3, node 1 has CPUs 4-7.
SHAPE = Shape(packages=2, cores_per_l3=4, isolated="2-3,6-7", hugepages={2048: (8, 8)})


USED = {"cpu-pool": "0-1", "numa-reclaim": "never"}


class Snap:
    """The directories of an installed snap whose daemon does not run."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.data, self.common, self.sys = base / "data", base / "common", base / "sys"
        for directory in (self.data, self.common):
            directory.mkdir()
        self.settings = self.data / "settings.json"
        self.database = self.common / database_files.FILE_NAME
        write_tree(build(SHAPE), self.sys)

    def put(self, options: dict[str, Any]) -> None:
        apply_options(options, self.settings, self.common, SysfsTree(self.sys))

    def claim(self, cpus: str, pages: int = 0) -> None:
        """Give nova CPUs, and hugepages of node 0."""
        ledger = Ledger.of(
            [Claim("nova", "isolated", CpuSet.parse(cpus), EMPTY, "legacy")],
            {"nova": {(0, 2048): pages}} if pages else {},
        )
        opening.create(self.database, ledger, Peer(1, 0, 0), 1.0)

    def content(self) -> dict[str, bytes]:
        """The files in the snap's directories."""
        files = [path for directory in (self.data, self.common) for path in directory.rglob("*") if path.is_file()]
        # SQLite creates an empty log and its index when it reads a database, and keeps them.
        return {
            str(path.relative_to(self.base)): path.read_bytes()
            for path in files
            if not path.name.endswith("-shm") and path.stat().st_size
        }

    def refusal(self, options: dict[str, Any], kind: type[EpaError]) -> str:
        """The sentence of the error with which the options are refused; no file has changed."""
        before = self.content()
        with pytest.raises(kind) as caught:
            self.put(options)
        assert self.content() == before
        return str(caught.value)
