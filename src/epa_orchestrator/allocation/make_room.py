# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Make room: the fewest claims whose moving would let a refused request be granted, and where they could go.

Nothing moves here: the answer is a plan for an operator, who releases the claims and makes ordinary requests. So a plan
is tried as it would be carried out: the claims are released, then the refused request and theirs are decided one after
the other, in every order.

1. If the request is refused even without other claims, or if the claims that stay leave too few CPUs, no moving helps.
2. Sets of claims are tried by size. A *scope* is where the request's CPUs must be: a NUMA node, an L3 domain, or the
   whole pool. Only sets that could free what is missing in some scope are tried.
3. Of equally many claims, up to three, those are chosen whose plan costs least (`placement.cost`), then the plan that
   moves fewest CPUs, then the first names.

Where a claim prefers one NUMA node and the plan needs it in another, it is steered there: its request is to be near it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from epa_orchestrator.allocation.allocate import Grant, Terms
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.moving import Movable, movable, without
from epa_orchestrator.allocation.pools import NodeCpus, Pool, Pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.room_bounds import too_full
from epa_orchestrator.allocation.room_demands import Demand, demand_of, fit, needs_one_node
from epa_orchestrator.allocation.room_scopes import Question, reclaimable, scopes_of
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import with_siblings
from epa_orchestrator.natural import natural
from epa_orchestrator.placement.cost import Cost, rank
from epa_orchestrator.placement.policy import PlacementPolicy, with_wishes
from epa_orchestrator.placement.task import Task
from epa_orchestrator.units import count_of

#: The most decisions of a search: 0.1 ms each on a small machine.
_MOST_DECISIONS: Final = 4000
#: Up to this number of claims, all plans are compared; of more claims the first plan that works is taken.
_ALL_COMPARED: Final = 3
#: The most services that the sentence about a plan names.
_MOST_NAMED: Final = 5


@dataclass(frozen=True)
class Wanted:
    """A refused request: `count` CPUs in all, or in `node`; None for the default size. `attempt` decides it again."""

    terms: Terms
    pool: Pool
    count: int | None
    node: NodeCpus | None
    attempt: Callable[[Ledger], Grant]


class Move(NamedTuple):
    """A claim that moves, where it goes, and how it is placed."""

    claim: Claim
    to: CpuSet
    how: Movable

    @property
    def lost_wish(self) -> str | None:
        """A sentence if the claim has fewer CPUs then in the NUMA node that its service asked to be near."""
        near, machine = self.claim.wishes.near, self.how.pool.machine
        node = machine.node(near) if machine is not None and near is not None else None
        if node is None or len(self.to & node.cpus) >= len(self.claim.cpus & node.cpus):
            return None
        leaves = "partly leaves" if self.to & node.cpus else "leaves"
        return f"'{self.claim.service}' {leaves} NUMA node {near}, which it asked to be near"


class Room(NamedTuple):
    """What makes room for a request: `moves` in the order of their requests, none if no plan was found.

    The request comes after the first `before_request` of them, and gets the grant. `exact`: no fewer claims make room,
    or none at all if there is no plan; False if that is not known. `tried` is the number of sets of claims tried.
    """

    moves: tuple[Move, ...]
    before_request: int
    grant: Grant | None
    exact: bool
    tried: int
    sentence: str


def make_room(
    ledger: Ledger, pools: Pools, nodes: Mapping[int, CpuSet], wanted: Wanted, time_is_up: Callable[[], bool]
) -> Room:
    """What makes room for a refused request; `nodes` has the CPUs of each NUMA node, offline ones too."""
    ledger = ledger.on(pools.cores)
    others = tuple([claim for claim in ledger.claims.values() if claim.service != wanted.terms.service])
    try:
        wanted.attempt(without(ledger, others))
    except Refused as refused:
        reason = refused.unplaceable.rule if refused.unplaceable else refused
        return _nothing(f"No moving makes room. Even without all other claims the request would be refused: {reason}")
    claims = _movables(wanted, others, pools, nodes)
    policy = with_wishes(wanted.pool.settings.placement, wanted.terms.wishes)
    question = Question(wanted.terms, wanted.count or 1, wanted.node, policy)
    by_service = {each.claim.service: each for each in claims}
    holds_cpus = wanted.terms.service in ledger.claims
    if (reason := too_full(wanted.pool, question, others, by_service, holds_cpus=holds_cpus)) is not None:
        return _nothing(f"No moving makes room: {reason}")
    return _Search(ledger, claims, wanted, question, time_is_up).run()


def _nothing(sentence: str) -> Room:
    return Room((), 0, None, exact=True, tried=0, sentence=sentence)


def _movables(
    wanted: Wanted, others: Sequence[Claim], pools: Pools, nodes: Mapping[int, CpuSet]
) -> tuple[Movable, ...]:
    """The claims that can be moved, by name: those of the pool, and of the other one if one of them is in the way."""
    here = wanted.pool
    threads = with_siblings(here.eligible.mask, here.cores)
    on_cores = [claim for claim in others if (claim.cpus.mask | claim.withheld.mask) & threads]
    in_play = {here.name, *(claim.pool for claim in on_cores)}
    found: list[Movable] = []
    for claim in sorted(others, key=lambda claim: natural(claim.service)):
        pool = pools.get(claim.pool)
        if pool is not None and claim.pool in in_play and (how := movable(claim, pool, nodes)) is not None:
            found.append(how)
    return tuple(found)


class _Plan(NamedTuple):
    """A plan that works, with the key by which plans of equally many claims are compared."""

    key: tuple[object, ...]
    moves: tuple[Move, ...]
    before_request: int
    grant: Grant


@dataclass(frozen=True)
class _Placed:
    """The claims and the request that are placed again so far, in order."""

    hows: tuple[Movable, ...] = ()
    grant: Grant | None = None
    before_request: int = 0


class _Search:
    """The search for the best plan of the fewest claims."""

    def __init__(
        self,
        ledger: Ledger,
        claims: tuple[Movable, ...],
        wanted: Wanted,
        question: Question,
        time_is_up: Callable[[], bool],
    ) -> None:
        self._ledger, self._claims, self._wanted = ledger, claims, wanted
        self._time_is_up = time_is_up
        self._decisions = self._tried = 0
        self._best: _Plan | None = None
        #: Whether each set that was given up makes no room for sure, whichever CPUs its claims get.
        self._sure = wanted.count is not None
        self._question, self._policy = question, question.policy
        self._demands: dict[str, Demand] = {}

    def run(self) -> Room:
        """Try sets of claims by size until one works or the search has to end."""
        scopes = scopes_of(self._ledger, self._wanted.pool, self._claims, self._question, self._time_is_up)
        for size in range(1, len(self._claims) + 1):
            sure = self._sure
            seen: set[frozenset[str]] = set()
            for chosen in chain.from_iterable(scope.sets(size) for scope in scopes):
                if self._ended or (self._best is not None and size > _ALL_COMPARED):
                    break
                names = frozenset(each.claim.service for each in chosen)
                if names not in seen:
                    seen.add(names)
                    self._try(chosen)
            if self._best is not None:
                return self._found(self._best, fewest=sure)
            if self._ended:
                break
        return self._not_found()

    @property
    def _ended(self) -> bool:
        return self._decisions >= _MOST_DECISIONS or self._time_is_up()

    def _try(self, chosen: tuple[Movable, ...]) -> None:
        """Try to move these claims, first without steering them."""
        self._tried += 1
        released = without(self._ledger, tuple([each.claim for each in chosen]))
        grant = self._attempt(released)
        if grant is None or not self._fit(released, chosen):
            return
        largest_first = tuple(sorted(chosen, key=lambda each: -len(each.claim.cpus)))
        for steered in (False, True):
            before = self._best
            self._place(released, largest_first, _Placed(), grant, steered=steered)
            if self._best is not before or self._ended:
                return
        self._sure = False

    def _fit(self, released: Ledger, chosen: tuple[Movable, ...]) -> bool:
        """Whether these claims and the request can fit into the NUMA nodes together."""
        wanted = self._wanted
        asking = released.claims.get(wanted.terms.service)
        held = asking.cpus if asking else EMPTY
        free = released.free_for(wanted.pool, asking)
        room = {node.id: (node.cpus & free.mask).bit_count() for node in wanted.pool.topology().nodes.values()}
        here = [self._demand_of(each) for each in chosen if each.pool is wanted.pool]
        return fit(room, [self._demand(released, held), *here])

    def _demand_of(self, how: Movable) -> Demand:
        """What a claim needs; working it out takes 20 µs."""
        service = how.claim.service
        if service not in self._demands:
            self._demands[service] = demand_of(how)
        return self._demands[service]

    def _demand(self, released: Ledger, held: CpuSet) -> Demand:
        """What the request needs, in addition to what its service holds."""
        wanted = self._wanted
        if wanted.count is None:
            return Demand({}, anywhere=1)
        if wanted.node is not None:
            others = reclaimable(released, wanted.pool, wanted.terms, wanted.node)
            return Demand({wanted.node.id: max(wanted.count - len((held | others) & wanted.node.cpus), 0)})
        if not held and needs_one_node(wanted.pool, self._policy, wanted.count):
            return Demand({}, in_one_node=wanted.count)
        return Demand({}, anywhere=wanted.count - len(held))

    def _attempt(self, ledger: Ledger) -> Grant | None:
        self._decisions += 1
        try:
            return self._wanted.attempt(ledger)
        except Refused:
            return None

    def _place(
        self, ledger: Ledger, left: tuple[Movable, ...], placed: _Placed, possible: Grant | None, *, steered: bool
    ) -> None:
        """Place the request and the claims that are left, in every order.

        `possible` is what the request can get on this ledger, None if nothing, or if it is placed already.
        """
        if not left and placed.grant is not None:
            self._note(ledger, placed, placed.grant, steered=steered)
            return
        if possible is not None:
            granted = _Placed(placed.hows, possible, len(placed.hows))
            self._place(possible.ledger, left, granted, None, steered=steered)
        for number, each in enumerate(left):
            rest = left[:number] + left[number + 1 :]
            for how in self._ways(each, steered=steered):
                if self._ended or (self._best is not None and len(self._best.moves) > _ALL_COMPARED):
                    return
                self._decisions += len(how.steps)
                if (after := how.place(ledger)) is not None:
                    then = self._attempt(after) if placed.grant is None else None
                    further = _Placed((*placed.hows, how), placed.grant, placed.before_request)
                    self._place(after, rest, further, then, steered=steered)

    @staticmethod
    def _ways(how: Movable, *, steered: bool) -> Iterator[Movable]:
        """How a claim can be placed: as it asks, or near each NUMA node."""
        yield how
        if steered and how.can_be_steered and how.pool.eligible:
            yield from (how.near(node) for node in how.pool.topology().nodes if node >= 0)

    def _note(self, ledger: Ledger, placed: _Placed, grant: Grant, *, steered: bool) -> None:
        """Keep a plan if it is better than the best one so far, and the request takes nothing from the moved claims."""
        moves: list[Move] = []
        for how in placed.hows:
            after = ledger.claims.get(how.claim.service)
            if after is None or len(after.cpus) != len(how.claim.cpus):
                return
            moves.append(Move(how.claim, after.cpus, how))
        names = tuple(sorted(natural(each.claim.service) for each in moves))
        changed = sum(len(each.claim.cpus - each.to) for each in moves)
        key = (steered, self._cost(ledger, grant, moves), changed, names)
        if self._best is None or key < self._best.key:
            self._best = _Plan(key, tuple(moves), placed.before_request, grant)

    def _cost(self, ledger: Ledger, grant: Grant, moves: Sequence[Move]) -> tuple[int, ...]:
        """What the request costs, and how much more the moved claims cost than before, by the request's levels."""
        pool = self._wanted.pool
        asking = ledger.claims.get(self._wanted.terms.service)
        if grant.task is None or asking is None:
            return ()
        vectors: list[Iterable[int]] = [_cost(ledger, pool, asking, self._policy)]
        for each in moves:
            there = each.how.pool
            vectors.append(_cost(ledger, there, ledger.claims[each.claim.service], there.settings.placement))
            vectors.append([-value for value in _cost(self._ledger, there, each.claim, there.settings.placement)])
        total = Cost(*[sum(values) for values in zip(*vectors, strict=True)])
        return rank(total, grant.task.levels)[:-1]

    def _found(self, plan: _Plan, *, fewest: bool) -> Room:
        number = len(plan.moves)
        fewer = "" if number == 1 else ", and no fewer do" if fewest else "; fewer may do, as not all were tried"
        sentence = f"Moving {count_of(number, 'claim')} makes room{fewer}. The request would get CPUs {plan.grant.cpus}"
        lost_wishes = [lost for each in plan.moves if (lost := each.lost_wish) is not None]
        sentence = ". ".join([sentence, *lost_wishes[:_MOST_NAMED]])
        if (more := len(lost_wishes) - _MOST_NAMED) > 0:
            sentence += f". So do {count_of(more, 'other service')}"
        return Room(plan.moves, plan.before_request, plan.grant, fewest or number == 1, self._tried, sentence)

    def _not_found(self) -> Room:
        number = f"{count_of(self._tried, 'set')} of claims {'was' if self._tried == 1 else 'were'} tried"
        if self._ended:
            reason = "and the time is up"
            if self._decisions == 1:
                reason = "because a single decision about this request takes longer than a search may"
            sentence = f"No claims were found whose moving makes room: {number}, {reason}"
        elif self._sure:
            sentence = "No moving makes room, whichever claims are moved: release a claim, or ask for less"
        else:
            sentence = f"No claims were found whose moving makes room, by requests in any order: {number}"
        return Room((), 0, None, self._sure and not self._ended, self._tried, sentence)


def _cost(ledger: Ledger, pool: Pool, claim: Claim, policy: PlacementPolicy) -> Cost:
    """What the CPUs of a claim cost where it is."""
    cpus = claim.cpus & pool.eligible
    free = ledger.free_for(pool, claim) | cpus
    return Task(pool.topology(ledger.claimed - claim.cpus), free, EMPTY, len(cpus), policy).cost(cpus)
