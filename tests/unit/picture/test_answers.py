# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The picture of a daemon's answers: owners in natural order, hugepages without empty sizes, and the JSON of it."""

from __future__ import annotations

from typing import Any

from epa_orchestrator.hardware.describe import describe
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.picture.answers import document_of, picture_of
from epa_orchestrator.picture.model import Pages, Picture
from epa_orchestrator.protocol.answers import (
    Allocation,
    Listing,
    MemoryAnswer,
    NodeHugepages,
    PageCapacity,
    PoolSummary,
)
from epa_orchestrator.protocol.machine import MachineAnswer, MachineDescription
from tests.machines import made_up
from tools.synthetic import Shape

MACHINE = made_up(Shape(1, 1, 1, 2, 2, siblings="adjacent"))
EMPTY = NodeHugepages(capacity=[], allocations={})


def answer(machine: Machine = MACHINE, pools: dict[str, str] | None = None, **states: str) -> MachineAnswer:
    document: dict[str, Any] = describe(machine, dict.fromkeys(machine.node_ids, ()))
    return MachineAnswer(states=states, pools=pools or {}, machine=MachineDescription.model_validate(document))


def listing(**claims: str) -> Listing:
    return Listing(
        pool="isolated",
        total_allocations=0,
        total_allocated_cpus=0,
        total_available_cpus=0,
        remaining_available_cpus=0,
        cpu_pool=PoolSummary(source="isolated", configured_cpus="", eligible_cpus="", unavailable_allocated_cpus=""),
        allocations=[
            Allocation(
                service_name=name,
                pool="isolated",
                allocated_cores=cpus,
                cores_count=1,
                is_explicit=False,
                preemption_policy="legacy",
            )
            for name, cpus in claims.items()
        ],
    )


def memory(**nodes: NodeHugepages) -> MemoryAnswer:
    return MemoryAnswer(service_name="", numa_hugepages=nodes)


def picture(machine: MachineAnswer, *listings: Listing, pages: MemoryAnswer | None = None) -> Picture:
    return picture_of(machine, listings, pages or memory())


def test_owners_of_both_pools_are_in_natural_order() -> None:
    found = picture(answer(claimed="0-2", free="3"), listing(vm10="0", vm2="1"), listing(a="2"))
    assert [(owner.mark, owner.name, str(owner.cpus)) for owner in found.owners] == [
        ("A", "a", "2"),
        ("B", "vm2", "1"),
        ("C", "vm10", "0"),
    ]


def test_answers_of_different_moments_show_each_cpu_once() -> None:
    """CPU 0 is no longer claimed when the machine is asked for, and CPU 1 has two owners in the listings."""
    found = picture(answer(claimed="1", free="0,2-3"), listing(a="0-1"), listing(b="1"))
    assert [(owner.name, str(owner.cpus)) for owner in found.owners] == [("a", "1")]
    assert found.counts == {"claimed": 1, "free": 3}


def test_a_claimed_cpu_whose_owner_is_not_known_yet_is_drawn() -> None:
    found = picture(answer(claimed="0", free="1-3"))
    (first, *_) = found.groups[0].cores[0].cpus
    assert (first.state, first.owner, first.mark) == ("claimed", None, "?")


def test_free_cpus_of_two_pools_are_told_apart() -> None:
    found = picture(answer(pools={"isolated": "0,2-3", "general": "1"}, free="0-1", claimed="2-3"))
    assert found.counts == {"free": 1, "free-general": 1, "claimed": 2}
    assert document_of(found)["counts"] == {"free": 2, "claimed": 2}
    assert {cpu["state"] for cpu in document_of(found)["boxes"][0]["cores"][0]["cpus"]} == {"free"}


def test_free_cpus_of_the_only_pool_are_free() -> None:
    found = picture(answer(pools={"isolated": "", "general": "0-3"}, free="0-3"))
    assert found.counts == {"free": 4}


def test_withheld_cpus_are_those_of_their_service() -> None:
    claims = listing(a="0")
    alone = claims.allocations[0].model_copy(update={"withheld_cpus": "1"})
    found = picture(answer(claimed="0", withheld="1,3", free="2"), claims.model_copy(update={"allocations": [alone]}))
    cores = found.groups[0].cores
    assert [cpu.withheld_for for core in cores for cpu in core.cpus] == [None, 0, None, None]


def test_states_that_this_client_does_not_know_are_left_out() -> None:
    assert picture(answer(free="0-2", parked="3")).counts == {"free": 3}


def test_hugepages_have_records_and_totals_and_no_empty_sizes() -> None:
    node = NodeHugepages(
        capacity=[PageCapacity(total=64, free=10, size=2048), PageCapacity(total=0, free=0, size=1048576)],
        allocations={"a": {"2048": 4}, "b": {"2048": 6, "64": 2}},
    )
    found = picture(answer(free="0-3"), pages=memory(node1=EMPTY, node0=node))
    assert found.pages == (Pages(0, 64, 2, 0, 0), Pages(0, 2048, 10, 10, 64))
    assert [each.others for each in found.pages] == [0, 44]


def test_document_has_what_is_drawn() -> None:
    node = NodeHugepages(capacity=[PageCapacity(total=4, free=1, size=2048)], allocations={})
    found = picture(answer(claimed="0-1", free="2", offline="3"), listing(a="0-1"), pages=memory(node0=node))
    assert document_of(found) == {
        "counts": {"claimed": 2, "free": 1, "offline": 1},
        "services": [{"mark": "A", "name": "a", "cpus": "0-1"}],
        "boxes": [
            {
                "label": "package 0, NUMA node 0, L3 0",
                "cores": [
                    {
                        "type": None,
                        "cpus": [
                            {"id": 0, "state": "claimed", "service": "a"},
                            {"id": 1, "state": "claimed", "service": "a"},
                        ],
                    },
                    {
                        "type": None,
                        "cpus": [
                            {"id": 2, "state": "free", "service": None},
                            {"id": 3, "state": "offline", "service": None},
                        ],
                    },
                ],
            }
        ],
        "hugepages": [{"node_id": 0, "size_kb": 2048, "recorded": 0, "free": 1, "total": 4, "others": 3}],
        "nodes_without_cpus": "",
    }
