# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Encoded machine: the machine as JSON, encoded once per reading of the host, with its hugepages as they are now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pydantic_core import to_json

from epa_orchestrator.hardware.describe import describe, describe_pages
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Machine


class EncodedMachine:
    """The JSON of one machine.

    To write the CPU lists of 2,000 cores takes 4 ms, and each list keeps its text. So they are written some at a time.
    """

    def __init__(self) -> None:
        self._machine: Machine | None = None
        self._written = 0
        self._parts: tuple[bytes, list[bytes], bytes] | None = None

    def use(self, machine: Machine | None, most: int | None = None) -> bool:
        """Use this machine; returns whether all of it is encoded. With `most`, it writes at most that many cores."""
        if machine is not self._machine:
            self._machine, self._written, self._parts = machine, 0, None
        if machine is None or self._parts is not None:
            return True
        if most is not None and self._written < len(machine.cores):
            for core in machine.cores[self._written : self._written + most]:
                str(core.cpus)
            self._written += most
            return False
        self._parts = _encode(machine)
        return True

    def with_pages(self, pages: Mapping[int, tuple[Hugepages, ...]]) -> bytes:
        """The machine with these hugepages by node, as `describe` makes it; `use` has encoded it."""
        assert self._machine is not None
        assert self._parts is not None
        head, nodes, tail = self._parts
        members = [
            b"".join((part, to_json(describe_pages(pages[node.id])), b"}"))
            for node, part in zip(self._machine.nodes, nodes, strict=True)
        ]
        return b"".join((head, b",".join(members), tail))


def _encode(machine: Machine) -> tuple[bytes, list[bytes], bytes]:
    """The bytes before, of and after the nodes; those of each node end before its hugepages."""
    members = list(describe(machine, dict.fromkeys(machine.node_ids, ())).items())
    place = [name for name, _ in members].index("nodes")
    nodes = [to_json(node).removesuffix(b"[]}") for node in cast("list[object]", members[place][1])]
    head = to_json(dict(members[:place]))[:-1] + b',"nodes":['
    return head, nodes, b"]," + to_json(dict(members[place + 1 :]))[1:]
