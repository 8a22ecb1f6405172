# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Machine: the models of the answer to get_machine. Their fields are those of `hardware.describe`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from epa_orchestrator.protocol.answers import Answer


class PackageCpus(BaseModel):
    """A physical package."""

    id: str = Field(description="Its name.")
    cpus: str = Field(description="Its online CPUs, a CPU list.")


class PageCounts(BaseModel):
    """The kernel's counts of the hugepages of one size on one NUMA node."""

    size_kb: int = Field(description="The size of one page in KiB.")
    total: int = Field(description="How many pages the kernel has.")
    free: int = Field(description="How many of them no process uses.")


class Node(BaseModel):
    """A NUMA node."""

    id: int = Field(description="Its id.")
    cpus: str = Field(description="Its CPUs, a CPU list; empty if it has memory only.")
    distances: list[int] = Field(description="Its distances to all nodes, in their order, as the kernel prints them.")
    memory_kb: int | None = Field(description="Its memory in KiB; `null` where the kernel does not report it.")
    hugepages: list[PageCounts] = Field(description="Its hugepages at this moment, one entry for each size.")


class CoreThreads(BaseModel):
    """A core."""

    cpus: str = Field(description="Its online threads, a CPU list.")
    type: Literal["performance", "efficiency"] | None = Field(
        description="Its type on a machine with cores of two types; `null` otherwise."
    )


class MachineDescription(BaseModel):
    """The host as the daemon found it, as `epa-orchestrator machine --json` prints it."""

    present: str = Field(description="All CPUs, a CPU list.")
    online: str = Field(description="Those that are online.")
    isolated: str = Field(description="Those that count as isolated, as `isolated-cpus-from` says.")
    packages: list[PackageCpus] = Field(description="The packages.")
    nodes: list[Node] = Field(description="The NUMA nodes.")
    l3_domains: list[str] = Field(description="The CPUs of each L3 domain; empty if the kernel knows of none.")
    l2_clusters: list[str] = Field(description="The CPUs of each L2 cache that several cores share.")
    cores: list[CoreThreads] = Field(description="The cores.")


class MachineHead(Answer):
    """An answer to get_machine without the machine, which is encoded once and kept."""

    daemon_version: str | None = Field(default=None, description="The version of the daemon's software.")
    states: dict[str, str] = Field(description="By state, the CPUs in it, a CPU list. See below for the states.")
    pools: dict[str, str] = Field(description="By pool, its CPUs, offline ones too; a general pool if there is one.")
    state_error: str | None = Field(default=None, description="Why the daemon serves only the reading actions.")

    def encode_with(self, machine: bytes) -> bytes:
        """The whole answer without warnings; `machine` is an encoded `MachineDescription`."""
        head = self.model_dump_json(exclude={"warnings"}, exclude_none=True).encode()
        return b"".join((head[:-1], b',"machine":', machine, b"}"))


class MachineAnswer(MachineHead):
    """The answer to get_machine, as a client reads it."""

    machine: MachineDescription = Field(description="The machine.")
