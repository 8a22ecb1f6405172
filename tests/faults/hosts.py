# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hosts for the simulation: a simulated machine whose CPUs, nodes and isolation change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from epa_orchestrator.hardware.sysfs import RecordedSysfs
from tests.functional.harness import format_cpus, parse_cpus
from tools.synthetic import Shape, build

_NODE_DIR = "devices/system/node"


@dataclass(frozen=True)
class MachineNow:
    """A machine at one moment. The nodes in `gone` are unplugged with their CPUs; `unreadable` shows no file at all.

    The `homeless` CPUs are in no node, the `slow` ones of efficiency cores.
    """

    shape: Shape
    gone: tuple[int, ...] = ()
    unreadable: bool = False
    slow: str = ""
    homeless: str = ""

    @cached_property
    def online(self) -> set[int]:
        """The online CPUs."""
        return set(range(self.shape.cpus)) - self._offline

    @cached_property
    def isolated(self) -> set[int]:
        """The CPUs that the kernel names as isolated, offline ones too."""
        return parse_cpus(self.shape.isolated) & set(range(self.shape.cpus))

    @cached_property
    def nodes(self) -> dict[int, set[int]]:
        """The online CPUs of each node that is there."""
        if self.unreadable:
            return {}
        there = (node for node in range(self.shape.nodes) if node not in self.gone)
        return {node: (_in_node(self.shape, node) & self.online) - parse_cpus(self.homeless) for node in there}

    @cached_property
    def siblings(self) -> dict[int, set[int]]:
        """For each CPU the other threads of its core, offline ones too."""
        cores = [_threads(self.shape, core) for core in range(self.shape.cores)]
        return {cpu: threads - {cpu} for threads in cores for cpu in threads}

    def siblings_of(self, cpus: set[int]) -> set[int]:
        """The other threads of the cores of these CPUs."""
        found: set[int] = set()
        for cpu in cpus:
            found |= self.siblings.get(cpu, set())
        return found

    def pages(self, node: int, size_kb: int) -> tuple[int, int] | None:
        """The kernel's total and free hugepages; None where there are none of this size."""
        if node not in self.nodes:
            return None
        return dict(self.shape.node_hugepages.get(node, self.shape.hugepages or {})).get(size_kb)

    def promised(self, node: int, size_kb: int) -> int:
        """The free hugepages of a node that the kernel has promised to processes, since other nodes have too few."""
        elsewhere = (self.pages(other, size_kb) for other in self.nodes if other != node)
        return max(self.shape.promised.get(size_kb, 0) - sum(pages[1] for pages in elsewhere if pages), 0)

    def sysfs(self) -> RecordedSysfs:
        """The sysfs tree of the machine."""
        return RecordedSysfs({} if self.unreadable else _files(self))

    @cached_property
    def _offline(self) -> set[int]:
        offline = parse_cpus(self.shape.offline)
        for node in self.gone:
            offline |= _in_node(self.shape, node)
        return offline


def _in_node(shape: Shape, node: int) -> set[int]:
    return set(shape.node_cpus(node)) if node < shape.cpu_nodes else set()


def _threads(shape: Shape, core: int) -> set[int]:
    if shape.siblings == "adjacent":
        return set(range(core * shape.threads_per_core, (core + 1) * shape.threads_per_core))
    return {core + thread * shape.cores for thread in range(shape.threads_per_core)}


def _files(machine: MachineNow) -> dict[str, str]:
    shape = machine.shape
    offline = machine._offline & set(range(shape.cpus))
    files = build(replace(shape, offline=format_cpus(offline), isolated=format_cpus(machine.isolated)))
    if machine.homeless:
        for node in range(shape.cpu_nodes):
            files[f"{_NODE_DIR}/node{node}/cpulist"] = format_cpus(machine.nodes.get(node, set()))
    if machine.slow:
        slow = parse_cpus(machine.slow) & machine.online
        files["devices/cpu_atom/cpus"] = format_cpus(slow)
        files["devices/cpu_core/cpus"] = format_cpus(machine.online - slow)
    if machine.gone:
        _unplug_nodes(files, machine)
    return files


def _unplug_nodes(files: dict[str, str], machine: MachineNow) -> None:
    there = [node for node in range(machine.shape.nodes) if node not in machine.gone]
    for path in [path for path in files if path.startswith(f"{_NODE_DIR}/node")]:
        node = int(path.split("/")[3].removeprefix("node"))
        if node in machine.gone:
            del files[path]
        elif path.endswith("/distance"):
            row = files[path].split()
            files[path] = " ".join(row[other] for other in there)
    files[f"{_NODE_DIR}/online"] = format_cpus(there)
