# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Settled: a reading of the machine that counts, because CPUs did not come and go meanwhile, and the signs of a change.

The kernel has no picture of all its CPUs at one moment: their files appear and disappear one by one. So the machine is
read until two readings in a row agree.
"""

from __future__ import annotations

import contextlib
import time
from typing import Final, NamedTuple

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.cpu_files import CPU_DIR, MachineError
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.isolated_cpus import ISOLATED_FILES
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.nodes import MOST_NODES, NODE_LIST
from epa_orchestrator.hardware.sysfs import NODE_DIR, Sysfs, SysfsError
from epa_orchestrator.names import IsolatedCpusFrom

#: So many readings are made in a row, and after the first two with a pause (seconds) before each.
_MOST_READINGS: Final = 6
_PAUSE: Final = 0.01


class UnsettledError(SysfsError):
    """The machine changes while it is read."""


class Signs(NamedTuple):
    """The contents of the files that tell with every request whether the machine is still the one that was read.

    They are the lists of online and isolated CPUs, of nodes, and of each node's CPUs. `nodes` are the names in the
    directory of nodes where the kernel has no list of them, else None.
    """

    paths: tuple[str, ...]
    contents: tuple[object, ...]
    nodes: frozenset[str] | None

    def hold(self, sysfs: Sysfs) -> bool:
        """Whether the files still hold the same.

        Raises SysfsError.
        """
        return sysfs.contents(self.paths) == self.contents and (self.nodes is None or self.nodes == _node_names(sysfs))


class Reading(NamedTuple):
    """A machine, or why it cannot be read, and the signs after that; `isolated_from` is what its isolated CPUs are."""

    machine: Machine | None
    problem: str | None
    signs: Signs
    isolated_from: IsolatedCpusFrom


def read_settled(sysfs: Sysfs, known: Reading | None = None, isolated_from: IsolatedCpusFrom = "isolcpus") -> Reading:
    """Read the machine until it is what the reading before it found, with the same signs before and after.

    `known` is an earlier reading that may still be right; then one more is enough to confirm it.

    Raises SysfsError, and UnsettledError when no two readings in a row agree.
    """
    for number in range(_MOST_READINGS):
        if number > 1:
            time.sleep(_PAUSE)
        reading = _read(sysfs, isolated_from)
        if known is not None and reading == known:
            return known
        known = reading
    raise UnsettledError(
        "The host cannot be read at the moment because its CPUs, nodes or caches change all the time: try again"
    )


def _read(sysfs: Sysfs, isolated_from: IsolatedCpusFrom) -> Reading:
    try:
        machine, problem = read_machine(sysfs, isolated_from), None
    except (MachineError, ValueError) as error:  # ValueError: a number of thousands of digits, or the like
        machine, problem = None, str(error)
    return Reading(machine, problem, _signs(sysfs, machine, isolated_from), isolated_from)


def _signs(sysfs: Sysfs, machine: Machine | None, isolated_from: IsolatedCpusFrom) -> Signs:
    nodes = {*machine.node_ids} if machine is not None else set[int]()
    # The kernel lists a new node before it makes its directory.
    nodes.update(node_id for node_id in _listed_nodes(sysfs) if node_id < MOST_NODES)
    paths = (f"{CPU_DIR}/online", ISOLATED_FILES[isolated_from], NODE_LIST)
    paths += tuple([f"{NODE_DIR}/node{node_id}/cpulist" for node_id in sorted(nodes)])
    has_list = sysfs.read(NODE_LIST) is not None
    return Signs(paths, sysfs.contents(paths), None if has_list else _node_names(sysfs))


def _listed_nodes(sysfs: Sysfs) -> CpuSet:
    with contextlib.suppress(ValueError):
        return CpuSet.parse(sysfs.read(NODE_LIST) or "")
    return CpuSet()


def _node_names(sysfs: Sysfs) -> frozenset[str]:
    return frozenset(name for name in sysfs.names(NODE_DIR) or () if name.startswith("node"))
