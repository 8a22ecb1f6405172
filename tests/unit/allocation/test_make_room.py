# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Make room: the fewest claims whose moving lets a refused request be granted, by hand and by brute force."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from epa_orchestrator.allocation.allocate import Grant, release
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.make_room import Room, Wanted, make_room
from epa_orchestrator.allocation.moving import without
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.placement.policy import (
    ContradictionError,
    CpuThreadPolicy,
    NumaPolicy,
    UncoreCacheAlignment,
    Wishes,
    with_wishes,
)
from tests import oracle
from tests.unit.allocation.room_oracle import Party, fewest
from tests.unit.allocation.rooms import Host, moves
from tools.synthetic import Shape

#: Two nodes of four CPUs: 0-3 and 4-7. No threads.
TWO_NODES = Shape(packages=2, cores_per_l3=4, threads_per_core=1, isolated="0-7")
#: The same with cores of two threads: 0 and 4, 1 and 5 in node 0; 2 and 6, 3 and 7 in node 1.
THREADS = Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="0-7")
#: One node with two L3 domains of four CPUs: 0-3 and 4-7.
TWO_L3S = Shape(packages=1, l3_per_node=2, cores_per_l3=4, threads_per_core=1, isolated="0-7")

ONE_NODE = Wishes(numa_policy="single-numa-node")


def two_and_two() -> Host:
    """Services a and b with two CPUs in each node: 0-1 and 4-5."""
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2, wishes=Wishes(near=0)))
    host.hold(host.wanted("b", 2, wishes=Wishes(near=1)))
    assert {service: str(claim.cpus) for service, claim in host.ledger.claims.items()} == {"a": "0-1", "b": "4-5"}
    return host


def test_a_request_for_one_node_moves_the_claim_that_is_in_it() -> None:
    host = two_and_two()
    room = host.room(host.wanted("new", 4, wishes=ONE_NODE))
    assert moves(room) == {"a": ("0-1", "6-7")}
    assert (room.grant and str(room.grant.cpus), room.exact) == ("0-3", True)
    assert room.sentence == (
        "Moving 1 claim makes room. The request would get CPUs 0-3. 'a' leaves NUMA node 0, which it asked to be near"
    )


def test_names_in_natural_order_decide_between_equal_plans() -> None:
    host = Host.of(Shape(packages=3, cores_per_l3=4, threads_per_core=1, isolated="0-11"))
    host.hold(host.wanted("vm-10", 2, wishes=Wishes(near=1)))
    host.hold(host.wanted("vm-9", 2, wishes=Wishes(near=0)))
    host.hold(host.wanted("vm-8", 4, wishes=Wishes(near=2)))
    assert list(moves(host.room(host.wanted("new", 4, wishes=ONE_NODE)))) == ["vm-9"]


def test_of_two_claims_the_one_with_fewer_cpus_moves() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("large", 2, wishes=Wishes(near=0)))
    host.hold(host.wanted("small", 1, wishes=Wishes(near=0)))
    host.hold(host.wanted("other", 2, wishes=Wishes(near=1)))
    # Node 0 has one free CPU, node 1 two: moving either claim of node 0 to node 1 frees two CPUs at least.
    assert moves(host.room(host.wanted("new", 3, wishes=ONE_NODE))) == {"large": ("0-1", "6-7")}


def test_two_claims_move_where_one_does_not_suffice() -> None:
    host = Host.of(Shape(packages=2, cores_per_l3=4, threads_per_core=1, isolated="0-7"))
    for service, node in (("a", 0), ("b", 0), ("c", 1)):
        host.hold(host.wanted(service, 1, wishes=Wishes(near=node)))
    host.hold(host.wanted("d", 1, wishes=Wishes(near=1)))
    room = host.room(host.wanted("new", 4, wishes=ONE_NODE))
    assert moves(room) == {"a": ("0", "6"), "b": ("1", "7")}
    assert room.sentence == (
        "Moving 2 claims makes room, and no fewer do. The request would get CPUs 0-3. 'a' leaves NUMA node 0, which it"
        " asked to be near. 'b' leaves NUMA node 0, which it asked to be near"
    )


def test_a_plan_names_at_most_five_lost_wishes() -> None:
    host = Host.of(Shape(packages=2, cores_per_l3=8, threads_per_core=1, isolated="0-15"))
    for number in range(7):
        host.hold(host.wanted(f"vm-{number}", 1, policy="non-preemptive", wishes=Wishes(near=0)))
    room = host.room(host.wanted("new", 8, node=0))
    assert room.sentence.count("leaves NUMA node 0, which it asked to be near") == 5
    assert room.sentence.endswith(". So do 2 other services")


def test_a_claim_that_asked_for_the_node_does_not_leave_it() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2, node=0))
    room = host.room(host.wanted("new", 3, node=0))
    assert (room.moves, room.exact, room.tried) == ((), True, 0)
    assert room.sentence == (
        "No moving makes room: NUMA node 0 has 4 eligible CPUs, and other services asked for 2 in this very node, so 3"
        " are not left: release a claim, or ask for at most 2"
    )


def test_a_request_for_a_node_moves_a_non_preemptive_claim() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 2, policy="non-preemptive"))
    room = host.room(host.wanted("new", 4, node=0))
    assert moves(room) == {"a": ("0-1", "4-5")}
    assert room.moves[0].claim.preemption_policy == "non-preemptive"


def test_a_full_pool_needs_a_release() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 6))
    room = host.room(host.wanted("new", 3))
    assert room.sentence == (
        "No moving makes room: pool isolated has 8 eligible CPUs, and other services hold 6 of them, so 3 are not left,"
        " whichever they hold: release a claim, or ask for at most 2"
    )


def test_a_request_that_is_too_large_for_the_machine_says_so() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("a", 1))
    assert host.room(host.wanted("new", 5, node=0)).sentence == (
        "No moving makes room. Even without all other claims the request would be refused: NUMA node 0 only has 4"
        " eligible CPUs, but 5 were requested"
    )


def test_own_offline_cpus_have_to_be_released_first() -> None:
    host = Host.of(TWO_NODES)
    host.hold(host.wanted("own", 2))
    after = Host.of(Shape(packages=2, cores_per_l3=4, threads_per_core=1, isolated="0-7", offline="1"))
    after.ledger = host.ledger
    assert after.room(after.wanted("own", 3)).sentence == (
        "No moving makes room. Even without all other claims the request would be refused: Service 'own' holds CPUs 1,"
        " which are offline or no longer in pool isolated: release it first"
    )


def test_a_claim_that_withholds_threads_moves() -> None:
    host = Host.of(THREADS)
    host.hold(host.wanted("alone", 1, wishes=Wishes(cpu_thread_policy="isolate", near=0)))
    host.hold(host.wanted("b", 2, wishes=Wishes(near=1)))
    room = host.room(host.wanted("new", 4, wishes=ONE_NODE))
    assert moves(room) == {"alone": ("0", "3")}


def test_whole_cores_are_made_free() -> None:
    host = Host.of(THREADS)
    for service, node in (("a", 0), ("b", 1)):
        host.hold(host.wanted(service, 1, wishes=Wishes(near=node)))
    host.hold(host.wanted("c", 2, wishes=Wishes(cpu_thread_policy="require", near=0)))
    room = host.room(host.wanted("new", 4, wishes=Wishes(cpu_thread_policy="require")))
    # In node 1, where b leaves its core, the request gets all CPUs in one node.
    assert moves(room) == {"b": ("2", "4")}


def test_an_l3_domain_is_made_free() -> None:
    host = Host.of(TWO_L3S)
    host.hold(host.wanted("a", 2))
    host.hold(host.wanted("filler", 2))
    host.hold(host.wanted("b", 1))
    host.ledger = release(host.ledger, "isolated", "filler").ledger
    room = host.room(host.wanted("new", 4, wishes=Wishes(uncore_cache_alignment="require")))
    assert moves(room) == {"b": ("4", "2")}


def test_a_claim_moves_to_make_place_for_another_one() -> None:
    # Nodes of four CPUs. Node 0 is free when a has left it, but only node 1 can take a, when b has left that.
    host = Host.of(
        Shape(packages=3, cores_per_l3=4, threads_per_core=1, isolated="0-11"), numa_policy="single-numa-node"
    )
    host.hold(host.wanted("a", 3, wishes=Wishes(near=0)))
    host.hold(host.wanted("b", 2, wishes=Wishes(near=1)))
    host.hold(host.wanted("c", 2, wishes=Wishes(near=2)))
    room = host.room(host.wanted("new", 4))
    assert moves(room) == {"b": ("4-5", "10-11")}


def test_a_search_that_has_no_time_says_that_others_may_exist() -> None:
    host = two_and_two()
    room = host.room(host.wanted("new", 4, wishes=ONE_NODE), lambda: True)
    assert (room.moves, room.exact) == ((), False)
    assert room.sentence == (
        "No claims were found whose moving makes room: 0 sets of claims were tried, and the time is up"
    )


def test_a_search_whose_first_decision_takes_all_its_time_says_so() -> None:
    host, decided = two_and_two(), list[Ledger]()
    wanted = recorded(host.wanted("new", 4, wishes=ONE_NODE), decided)
    room = make_room(host.ledger, host.pools, host.nodes, wanted, lambda: len(decided) >= 2)
    assert (room.moves, room.exact) == ((), False)
    assert room.sentence == (
        "No claims were found whose moving makes room: 1 set of claims was tried, because a single decision about this"
        " request takes longer than a search may"
    )


def test_no_ledger_is_decided_twice() -> None:
    """The request was refused on the present ledger, and a decision may take a second."""
    host, decided = two_and_two(), list[Ledger]()
    wanted = recorded(host.wanted("new", 4, wishes=ONE_NODE), decided)
    make_room(host.ledger, host.pools, host.nodes, wanted, lambda: False)
    assert host.ledger not in decided
    assert len(decided) == len({id(ledger) for ledger in decided}) > 2


def recorded(wanted: Wanted, decided: list[Ledger]) -> Wanted:
    """The request, which adds each ledger that it is decided on to a list."""

    def attempt(ledger: Ledger) -> Grant:
        decided.append(ledger)
        return wanted.attempt(ledger)

    return replace(wanted, attempt=attempt)


def test_the_answer_is_the_same_each_time() -> None:
    host = two_and_two()
    wanted = host.wanted("new", 4, wishes=ONE_NODE)
    assert moves(host.room(wanted)) == moves(host.room(wanted))


# --- by brute force -----------------------------------------------------------------------------------------------

SHAPES = st.sampled_from(
    [
        TWO_NODES,
        TWO_L3S,
        THREADS,
        Shape(packages=3, cores_per_l3=3, isolated="0-8"),
        Shape(packages=2, cores_per_l3=4, isolated="1-7"),
        Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="1-7"),
        Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="0-7", offline="4"),
    ]
)
OPTIONS = st.fixed_dictionaries(
    {
        "numa_policy": st.sampled_from(["best-effort", "single-numa-node", "none", "restricted"]),
        "numa_allocation_strategy": st.sampled_from(["packed", "spread", "distribute"]),
        "numa_reclaim": st.just("never"),
    }
)
ANY_NUMA: list[NumaPolicy | None] = [None, "single-numa-node"]
ANY_THREADS: list[CpuThreadPolicy | None] = [None, "isolate", "require"]
ANY_CACHES: list[UncoreCacheAlignment | None] = [None, "require"]
NUMA_WISHES = st.sampled_from(ANY_NUMA).map(Wishes)
ALL_WISHES = st.builds(
    Wishes, st.sampled_from(ANY_NUMA), st.sampled_from(ANY_THREADS), st.sampled_from(ANY_CACHES), st.none()
)


@st.composite
def refusals(draw: st.DrawFn, wishes: st.SearchStrategy[Wishes]) -> tuple[Host, Wanted, int | None]:
    """A host with at most four claims, a request that it refuses, and the NUMA node of the request."""
    host = Host.of(draw(SHAPES), **draw(OPTIONS))
    nodes = st.sampled_from([None, None, *host.nodes])

    def request(service: str, most: int) -> tuple[Wanted, int | None]:
        node = draw(nodes)
        return host.wanted(service, draw(st.integers(1, most)), node=node, wishes=draw(wishes)), node

    for number in range(draw(st.integers(2, 6))):
        try:
            host.hold(request(f"s{number}", 3)[0])
        except Refused:
            continue
    for service in draw(st.sets(st.sampled_from(sorted(host.ledger.claims)))) if host.ledger.claims else ():
        host.ledger = release(host.ledger, "isolated", service).ledger
    assume(len(host.ledger.claims) <= 4)
    wanted, node = request("new", 4)
    assume(_is_refused(host.ledger, wanted))
    return host, wanted, node


def _is_refused(ledger: Ledger, wanted: Wanted) -> bool:
    try:
        wanted.attempt(ledger)
    except Refused:
        return True
    return False


def _fewest(host: Host, wanted: Wanted, node: int | None) -> int | None:
    pool = host.pools.isolated
    assert pool.machine is not None
    assert wanted.count is not None
    world = oracle.world(pool.machine, frozenset(pool.eligible), frozenset(pool.neighbours))
    operator = pool.settings.placement
    claims = [
        Party(
            claim.service,
            len(claim.cpus),
            with_wishes(operator, claim.wishes),
            frozenset(claim.cpus),
            frozenset(claim.explicit),
            frozenset(claim.withheld),
        )
        for claim in host.ledger.claims.values()
    ]
    try:
        policy = with_wishes(operator, wanted.terms.wishes)
    except ContradictionError:
        return None
    return fewest(world, Party("new", wanted.count, policy, node=node), claims)


def _carry_out(host: Host, wanted: Wanted, room: Room) -> None:
    """Make the requests of the plan, as an operator would."""
    ledger = without(host.ledger, tuple([each.claim for each in room.moves]))
    for number, each in enumerate((*room.moves, None)):
        if number == room.before_request:
            grant = wanted.attempt(ledger)
            assert room.grant is not None
            assert grant.cpus == room.grant.cpus
            ledger = grant.ledger
        if each is not None:
            after = each.how.place(ledger)
            assert after is not None
            ledger = after
    for each in room.moves:
        assert ledger.claims[each.claim.service].cpus == each.to
        assert len(each.to) == len(each.claim.cpus)


QUICK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@QUICK
@given(refusals(NUMA_WISHES))
def test_with_numa_rules_the_fewest_claims_are_found(refusal: tuple[Host, Wanted, int | None]) -> None:
    host, wanted, node = refusal
    room = host.room(wanted)
    assert room.exact
    assert (len(room.moves) or None) == _fewest(host, wanted, node)


@QUICK
@given(refusals(ALL_WISHES))
def test_with_rules_about_cores_and_caches_exact_answers_are_right(refusal: tuple[Host, Wanted, int | None]) -> None:
    host, wanted, node = refusal
    room, best = host.room(wanted), _fewest(host, wanted, node)
    if room.exact:
        assert (len(room.moves) or None) == best
    elif room.moves:
        assert best is not None
        assert best <= len(room.moves)


@QUICK
@given(refusals(ALL_WISHES))
def test_a_plan_can_be_carried_out(refusal: tuple[Host, Wanted, int | None]) -> None:
    host, wanted, _ = refusal
    room = host.room(wanted)
    if room.moves:
        _carry_out(host, wanted, room)
