# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A made-up machine as a sysfs tree on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tools.synthetic import Shape, build

from .cpus import format_cpus, parse_cpus

#: A file system in memory, None where there is none.
MEMORY: Final = Path("/dev/shm") if Path("/dev/shm").is_dir() else None


class Host:
    """A made-up machine as a sysfs tree on disk, which a test can change under the running daemon."""

    def __init__(self, root: Path, shape: Shape) -> None:
        self.root = root
        self._shape = self._first = shape
        self._files: dict[str, str] = {}
        self._show(shape)

    @property
    def isolated(self) -> set[int]:
        """The isolated CPUs, offline ones too."""
        return parse_cpus(self._shape.isolated)

    def isolated_in(self, node: int) -> set[int]:
        """The isolated CPUs of a node, offline ones too."""
        return set(self._shape.node_cpus(node)) & self.isolated

    def core_of(self, cpu: int) -> frozenset[int]:
        """All threads of the CPU's core, offline ones too."""
        cores = self._shape.cores
        return frozenset(cpu % cores + thread * cores for thread in range(self._shape.threads_per_core))

    def set_pages(self, node: int, size_kb: int, total: int, free: int) -> None:
        """Let the kernel have other hugepages from now on."""
        nodes = {number: dict(pages) for number, pages in self._shape.node_hugepages.items()}
        nodes.setdefault(node, {})[size_kb] = (total, free)
        self._show(dataclasses.replace(self._shape, node_hugepages=nodes))

    def set_offline(self, cpus: Iterable[int]) -> None:
        """Take exactly these CPUs offline, as a hot-unplug does: their topology and cache files go."""
        self._show(dataclasses.replace(self._shape, offline=format_cpus(cpus)))

    def set_isolated(self, cpus: Iterable[int]) -> None:
        """Let the kernel name other isolated CPUs."""
        self._show(dataclasses.replace(self._shape, isolated=format_cpus(cpus)))

    def become(self, **changes: Any) -> None:
        """Be another machine, one with these differences to the present one."""
        self._show(dataclasses.replace(self._shape, **changes))

    def put(self, path: str, text: str) -> None:
        """Replace one file; its reader sees the old text or the new one and nothing between, as in sysfs."""
        target = self.root / path
        if path in self._files:
            new = target.with_name(target.name + ".new")
            new.write_text(text + "\n")
            new.replace(target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text + "\n")
        self._files[path] = text

    def cut(self, path: str) -> None:
        """Take the end of a list away, as a file system does that cuts it."""
        new = self.root / f"{path}.new"
        new.write_text(self._files[path])
        new.replace(self.root / path)
        self._files[path] += " without its end"

    def remove(self, path: str = "") -> None:
        """Take a file or directory away; without a path the whole tree, so that nothing of the host can be read."""
        target = self.root / path
        if target.is_dir():
            shutil.rmtree(target)
            path = f"{path}/" if path else ""
        else:
            target.unlink()
        self._files = {name: text for name, text in self._files.items() if not name.startswith(path)}

    def restore(self) -> None:
        """Undo what `put` and `remove` did."""
        self._show(self._shape)

    def reset(self) -> None:
        """Be the machine of the beginning."""
        self._show(self._first)

    def _show(self, shape: Shape) -> None:
        files = build(shape)
        for path in self._files.keys() - files.keys():
            (self.root / path).unlink()
            del self._files[path]
            for directory in Path(path).parents:
                with contextlib.suppress(OSError):  # not empty yet, or not any more there
                    (self.root / directory).rmdir()
        for path, text in files.items():
            if self._files.get(path) != text:
                self.put(path, text)
        self._shape = shape


#: Two packages of one node, each of four cores with two threads: CPU n and n + 8 share a core, node 0 has 0-3 and 8-11.
#: The first core of each node is left to the system. Node 2 has memory and nothing else.
SMALL: Final = Shape(
    packages=2,
    cores_per_l3=4,
    threads_per_core=2,
    isolated="1-3,5-7,9-11,13-15",
    memory_only_nodes=1,
    node_hugepages={0: {2048: (64, 64), 1048576: (4, 4)}, 1: {2048: (32, 32)}},
)
