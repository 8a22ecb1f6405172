# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room bounds: when the claims of others leave too few CPUs; that it is never wrong is in test_make_room."""

from __future__ import annotations

from epa_orchestrator.placement.policy import Wishes
from tests.unit.allocation.rooms import Host, moves
from tools.synthetic import Shape

#: Cores of two threads: 0 and 4, 1 and 5 in node 0; 2 and 6, 3 and 7 in node 1.
THREADS = Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="0-7")
ALONE = Wishes(cpu_thread_policy="isolate")


def test_withheld_cpus_are_not_left() -> None:
    host = Host.of(THREADS)
    host.hold(host.wanted("alone", 2, wishes=ALONE))
    room = host.room(host.wanted("new", 5))
    assert (room.exact, room.tried) == (True, 0)
    assert room.sentence == (
        "No moving makes room: pool isolated has 8 eligible CPUs, and other services hold 2 of them, and at least 2"
        " more stay withheld for them, so 5 are not left, whichever they hold: release a claim, or ask for at most 4"
    )


def test_withheld_cpus_of_a_node_are_not_left() -> None:
    host = Host.of(THREADS)
    host.hold(host.wanted("alone", 1, node=0, wishes=ALONE))
    assert host.room(host.wanted("new", 3, node=0)).sentence == (
        "No moving makes room: NUMA node 0 has 4 eligible CPUs, and other services asked for 1 in this very node, and"
        " at least 1 more stay withheld for them, so 3 are not left: release a claim, or ask for at most 2"
    )


def test_a_claim_alone_may_move_to_a_core_with_one_thread() -> None:
    host = Host.of(Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="0-7", offline="6"))
    host.hold(host.wanted("alone", 1, node=0, wishes=ALONE))
    claim = host.ledger.claims["alone"]
    assert str(claim.withheld) == "4"
    # Of the 7 CPUs it takes one and withholds one now; alone on CPU 2 it would withhold none.
    assert "at least" not in host.room(host.wanted("new", 6)).sentence


def test_a_new_service_that_wants_cores_alone_needs_whole_cores() -> None:
    host = Host.of(THREADS)
    host.hold(host.wanted("some", 2))
    host.hold(host.wanted("alone", 1, wishes=ALONE))
    room = host.room(host.wanted("new", 3, wishes=ALONE))
    assert room.tried == 0
    assert room.sentence.endswith("so 3 are not left, whichever they hold: release a claim, or ask for at most 2")


def test_a_claim_that_would_not_be_alone_elsewhere_withholds_nothing() -> None:
    strict = Host.of(THREADS, cpu_thread_policy="isolate")
    strict.hold(strict.wanted("alone", 2, wishes=Wishes(cpu_thread_policy="prefer")))
    host = Host(Host.of(THREADS).pools, strict.ledger)
    assert str(host.ledger.claims["alone"].withheld) == "4-5"
    assert moves(host.room(host.wanted("new", 5))).keys() == {"alone"}
