"""Review: which claims the settings in use would place otherwise. They stay where they are; this only says so.

A claim is judged by placing it once more. On 4,096 CPUs that takes about 2 ms, and 250 ms for a claim of half of them;
so a `Review` remembers what is judged and what is left, and is worked through a little at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.domains import Cell, Node, Topology
from epa_orchestrator.ledger import Claim, Ledger
from epa_orchestrator.placement import Task, Unplaceable, broken_rule, place
from epa_orchestrator.policy import NO_WISHES, ContradictionError, PlacementPolicy, with_wishes
from epa_orchestrator.pools import Pool, Pools
from epa_orchestrator.tables import Situation, best, weights

#: How many CPUs of a NUMA node are one piece of work; each takes about 20 µs.
_LARGE_NODE: Final = 128

_NO_CLAIMS: Final[Mapping[str, Claim]] = {}

#: Judges a claim in pieces of work, and returns the verdict.
Judging = Generator[None, None, bool]

#: Of which tasks the tables are ready: policies, with the size (as a power of two) that tables are made for.
Prepared = set[tuple[PlacementPolicy, int]]


@dataclass(frozen=True)
class Pending:
    """Claims of one state that are still to be judged. It shares nothing that changes, so any thread may work on it."""

    ledger: Ledger
    pools: Pools
    claims: tuple[Claim, ...]

    def judge(self, time_is_up: Callable[[], bool]) -> list[tuple[Claim, bool]]:
        """The verdicts: on the first claim at least, and on the others until the time is up."""
        verdicts: list[tuple[Claim, bool]] = []
        for claim in self.claims:
            pool = self.pools.get(claim.pool)
            verdicts.append((claim, pool is not None and outdated(self.ledger, self.pools, pool, claim)))
            if time_is_up():
                break
        return verdicts


class Review:
    """Which claims of a changing state are `outdated`, as far as that is known, and which are still to be judged.

    A verdict stands until its claim is judged again, even if other claims have changed since; it is dropped when the
    claim itself or the policy changes. `revision` counts the changes of `outdated`.
    """

    def __init__(self) -> None:
        self.outdated: set[str] = set()
        self.revision = 0
        self._ledger = Ledger()
        self._pools: Pools | None = None
        #: The claims that were placed by another policy than they would be now: only these are judged.
        self._contested: dict[str, Claim] = {}
        #: Those with a verdict, the oldest one first, and those without one of the present state, in their turn.
        self._judged: dict[str, Claim] = {}
        self._left: dict[str, Claim] = {}
        self._judging: Judging | None = None
        self._prepared: Prepared = set()

    def look_at(self, ledger: Ledger, pools: Pools) -> None:
        """Take this as the present state; costs next to nothing when it is so already."""
        if pools is self._pools and ledger.claims is self._ledger.claims:
            return
        same_policy = self._pools is not None and pools.settings.placement == self._pools.settings.placement
        before = self._ledger.claims if same_policy else _NO_CLAIMS
        self._sort_out(before, ledger.claims, pools.settings.placement)
        self._ledger, self._pools = ledger, pools
        # In turn, so that all are judged at last even if the state changes again and again meanwhile.
        unjudged = {service: claim for service, claim in self._contested.items() if service not in self._judged}
        self._left = unjudged | self._judged
        self._judging, self._prepared = None, set()

    def advance(self, time_is_up: Callable[[], bool]) -> bool:
        """Judge until the time is up, one piece of work at least if any is left. Returns whether all is judged."""
        while self._left:
            self._advance_by_one_piece()
            if time_is_up():
                break
        return not self._left

    def pending(self, most: int) -> Pending | None:
        """The claims whose turn it is, at most so many, to be judged elsewhere; None when all is judged."""
        if not self._left or self._pools is None:
            return None
        return Pending(self._ledger, self._pools, tuple(islice(self._left.values(), most)))

    def take(self, pending: Pending, verdicts: Sequence[tuple[Claim, bool]]) -> None:
        """Keep what was judged elsewhere, of the claims that have not changed meanwhile."""
        of_now = pending.pools is self._pools and pending.ledger.claims is self._ledger.claims
        for claim, verdict in verdicts:
            if self._contested.get(claim.service) is claim:
                self._keep(claim, verdict, of_now=of_now)

    @property
    def size(self) -> int:
        """How much is left: claims, times the CPUs that they could be placed on."""
        return len(self._left) * len(self._pools.eligible) if self._left and self._pools else 0

    def _sort_out(self, before: Mapping[str, Claim], claims: Mapping[str, Claim], placement: PlacementPolicy) -> None:
        """Find out which of the claims that are new since `before` are contested."""
        for service in [each for each in (*self._contested, *self.outdated) if each not in claims]:
            self._forget(service)
        for service, claim in claims.items():
            if before.get(service) is claim:
                continue
            policy = _policy(placement, claim)
            self._forget(service)
            if policy is None:
                self._set(service, verdict=True)
            elif policy != claim.placed_by:
                self._contested[service] = claim

    def _forget(self, service: str) -> None:
        self._contested.pop(service, None)
        self._judged.pop(service, None)
        self._set(service, verdict=False)

    def _advance_by_one_piece(self) -> None:
        assert self._pools is not None
        claim = next(iter(self._left.values()))
        if self._judging is None:
            self._judging = _judging(self._ledger, self._pools, claim, self._prepared)
        try:
            next(self._judging)
        except StopIteration as end:
            self._keep(claim, end.value, of_now=True)

    def _keep(self, claim: Claim, verdict: bool, *, of_now: bool) -> None:
        self._judged.pop(claim.service, None)
        self._judged[claim.service] = claim
        self._set(claim.service, verdict=verdict)
        if of_now:
            self._left.pop(claim.service, None)
            self._judging = None

    def _set(self, service: str, *, verdict: bool) -> None:
        if verdict != (service in self.outdated):
            self.revision += 1
            if verdict:
                self.outdated.add(service)
            else:
                self.outdated.remove(service)


def outdated(ledger: Ledger, pools: Pools, pool: Pool, claim: Claim) -> bool:
    """Whether a claim was placed by another policy, and the one in use would choose better CPUs of those free now.

    Better by its own measure, and than what the other policy would choose now: what has become free meanwhile does not
    count. A claim whose CPUs are not all there is not judged.
    """
    policy = _policy(pools.settings.placement, claim)
    if policy is None or policy == claim.placed_by:
        return policy is None
    return _ended(_judged(ledger, pools, pool, claim, policy, None))


def _ended(judging: Judging) -> bool:
    while True:
        try:
            next(judging)
        except StopIteration as end:
            return end.value


def _policy(placement: PlacementPolicy, claim: Claim) -> PlacementPolicy | None:
    """The policy that a claim would be placed by now; None where its wishes contradict it."""
    if claim.wishes == NO_WISHES:
        return placement
    try:
        return with_wishes(placement, claim.wishes)
    except ContradictionError:
        return None


def _judging(ledger: Ledger, pools: Pools, claim: Claim, prepared: Prepared) -> Judging:
    """As `outdated`, in pieces, of a claim that is contested."""
    pool, policy = pools.get(claim.pool), _policy(pools.settings.placement, claim)
    if pool is None or policy is None:
        return False
    return (yield from _judged(ledger, pools, pool, claim, policy, prepared))


def _judged(
    ledger: Ledger, pools: Pools, pool: Pool, claim: Claim, policy: PlacementPolicy, prepared: Prepared | None
) -> Judging:
    if not claim.cpus <= pool.eligible:
        return False
    top = pools.topologies[pool.name]
    if policy.near is not None and policy.near not in top.distance:
        return False  # the machine came back without that node
    free = ledger.free(pool) | (claim.withheld & pool.eligible) | claim.cpus
    if not claim.explicit:
        return (yield from _placed_otherwise(Task(top, free, EMPTY, len(claim.cpus), policy), claim, prepared))
    for node in top.nodes_of(claim.cpus.mask):
        if (yield from _placed_otherwise(_in_node(top, free, claim, policy, node), claim, prepared)):
            return True
    return False


def _in_node(top: Topology, free: CpuSet, claim: Claim, policy: PlacementPolicy, node: Node) -> Task:
    """The part of a claim that lies in one NUMA node, as a request for that node."""
    cpus = CpuSet.from_mask(node.cpus)
    return Task(top, free & cpus, EMPTY, len(claim.cpus & cpus), policy, node=node.id)


def _placed_otherwise(task: Task, claim: Claim, prepared: Prepared | None) -> Judging:
    held = claim.cpus & task.free
    if broken_rule(task, held) is not None:
        return True
    yield from _prepare(task, prepared)
    chosen = _chosen(task)
    if chosen is None or _rank(task, chosen) >= _rank(task, held):
        return False
    if not _known(task, claim.placed_by):
        return True
    yield
    earlier = replace(task, policy=claim.placed_by)
    yield from _prepare(earlier, prepared)
    before = _chosen(earlier)
    # The other policy may place nowhere what was resized since: then there is nothing to compare with.
    return before is not None and _rank(task, chosen) < _rank(task, before)


def _prepare(task: Task, prepared: Prepared | None) -> Generator[None, None, None]:
    """Fill the tables that `place` remembers and folds together, domain by domain: all take 80 ms at 4,096 CPUs.

    Claims differ from one another in a few CPUs only, so this is done once for each policy.
    """
    key = task.policy, max((task.count - 1).bit_length(), 5)
    if prepared is None or key in prepared or not task.count:
        return
    weigh = weights(task.top, task.policy, shrinking=task.shrinking, sparing=task.sparing)
    now = Situation(task.free.mask, 0, 0, task.free.mask)
    for cells in _from_small_to_large(task.top):
        best(weigh, cells, now, task.count)
        yield
    prepared.add(key)


def _from_small_to_large(top: Topology) -> Iterator[tuple[Cell, ...]]:
    """The cells of each NUMA node (those of a large one singly before), then those of each package."""
    for node in top.nodes.values():
        if node.threads.bit_count() > _LARGE_NODE:
            yield from ((cell,) for cell in node.cells)
        yield node.cells
    packages: dict[int, list[Cell]] = {}
    for cell in top.cells:
        packages.setdefault(cell.package, []).append(cell)
    yield from map(tuple, packages.values())


def _known(task: Task, policy: PlacementPolicy) -> bool:
    return policy.near is None or policy.near in task.top.distance


def _chosen(task: Task) -> CpuSet | None:
    try:
        return place(task)[0]
    except Unplaceable:
        return None


def _rank(task: Task, cpus: CpuSet) -> tuple[int, ...]:
    """The levels of the cost vector but for the lowest CPU id, which makes nothing better."""
    return task.rank(cpus)[:-1]
