# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Describe: turns a discovered machine into JSON, for scripts, bug reports and clients, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Core, Machine, NumaNode, Package


def describe(machine: Machine, pages: dict[int, tuple[Hugepages, ...]]) -> dict[str, object]:
    """The machine with its sets as CPU lists; `pages` are the hugepages by node id."""
    return {
        "present": str(machine.present),
        "online": str(machine.online),
        "isolated": str(machine.isolated),
        "packages": [{"id": package.id, "cpus": str(package.cpus)} for package in machine.packages],
        "nodes": [
            {
                "id": node.id,
                "cpus": str(node.cpus),
                "distances": list(node.distances),
                "memory_kb": node.memory_kb,
                "hugepages": describe_pages(pages[node.id]),
            }
            for node in machine.nodes
        ],
        "l3_domains": [str(domain) for domain in machine.l3_domains],
        "l2_clusters": [str(cluster) for cluster in machine.l2_clusters],
        "cores": [{"cpus": str(core.cpus), "type": core.type} for core in machine.cores],
    }


def describe_pages(pages: tuple[Hugepages, ...]) -> list[dict[str, int]]:
    """The hugepages of one node."""
    return [{"size_kb": size.size_kb, "total": size.total, "free": size.free} for size in pages]


def from_description(document: Mapping[str, Any]) -> tuple[Machine, dict[int, tuple[Hugepages, ...]]]:
    """The machine that a description shows, and its hugepages by node id.

    Raises KeyError, TypeError or ValueError where `describe` did not make the document.
    """
    cpus = CpuSet.parse
    machine = Machine(
        present=cpus(document["present"]),
        online=cpus(document["online"]),
        isolated=cpus(document["isolated"]),
        packages=tuple([Package(each["id"], cpus(each["cpus"])) for each in document["packages"]]),
        nodes=tuple(
            [
                NumaNode(each["id"], cpus(each["cpus"]), tuple(each["distances"]), each["memory_kb"])
                for each in document["nodes"]
            ]
        ),
        l3_domains=tuple(map(cpus, document["l3_domains"])),
        cores=tuple([Core(cpus(each["cpus"]), each["type"]) for each in document["cores"]]),
        l2_clusters=tuple(map(cpus, document["l2_clusters"])),
    )
    pages = {
        each["id"]: tuple([Hugepages(size["size_kb"], size["total"], size["free"]) for size in each["hugepages"]])
        for each in document["nodes"]
    }
    return machine, pages
