# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Room: the searches for claims that could make room for refused requests, in a thread of their own.

A search decides the request without all other claims, then takes 0.25 s of CPU time and one decision more. So it runs
neither in the event loop nor in the thread that commits, and it pauses often, so that these threads go on at once. Few
searches may wait; others are refused, not their requests.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import Pools
from epa_orchestrator.allocation.refusal import RefusalRule, Refused
from epa_orchestrator.allocation.taken import taken_by
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon.mutations import wanted
from epa_orchestrator.daemon.worker import Worker
from epa_orchestrator.hardware.sysfs import SysfsError
from epa_orchestrator.protocol.answers import ErrorAnswer
from epa_orchestrator.protocol.requests import AllocateHugepages, Allocating, Mutation
from epa_orchestrator.protocol.room import MakeRoom, RoomMove, RoomRequest

if TYPE_CHECKING:
    from epa_orchestrator.allocation.make_room import Move, Room, Wanted

log = logging.getLogger(__name__)

#: After this CPU time (seconds) a search begins no decision any more. A decision takes 0.1 ms on a small machine, and
#: up to 0.9 s for half of 4,096 CPUs if no tables are remembered.
_MOST_SECONDS: Final = 0.25
#: How long a search pauses between two decisions (seconds): the other threads wait for its lock no longer than one.
_PAUSE: Final = 0.00005
#: The most searches that wait or run, and those of one user.
_MOST_SEARCHES: Final = 8
_MOST_OF_A_USER: Final = 4

#: The rules of refusals that no claim is the reason for, although the request would be granted its CPUs.
_NOT_BY_CLAIMS: Final[frozenset[RefusalRule]] = frozenset({"limit"})
_NOT_ABOUT_CPUS: Final = "No moving makes room: no claim is in the way of this request"


class Search(NamedTuple):
    """A refusal, and what finds the claims that could make room; any thread may call it."""

    refused: ErrorAnswer
    find: Callable[[], MakeRoom]

    def answer(self, found: MakeRoom) -> bytes:
        """The refusal with what was found, on the wire."""
        return self.refused.model_copy(update={"make_room": found}).encode()


class RoomSearches:
    """Runs searches one after the other; its thread starts with the first one. Use it in the event loop's thread."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._uids: list[int] = []
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a search waits or runs."""
        return bool(self._uids)

    def run(self, search: Search, uid: int, done: Callable[[bytes], None]) -> None:
        """Search for a user, then call `done` with the answer; at once if too many searches wait already."""
        if len(self._uids) >= _MOST_SEARCHES or self._uids.count(uid) >= _MOST_OF_A_USER:
            done(search.answer(_no_search("others are under way: ask again")))
            return
        if self._worker is None:
            self._worker = Worker()
        self._uids.append(uid)
        found: list[MakeRoom] = []

        def call() -> None:
            found.append(_no_search("the daemon stops") if self._closed else search.find())

        def end(error: Exception | None) -> None:
            self._uids.remove(uid)
            if error is not None:
                log.error("a search for room failed", exc_info=error)
                found.append(_no_search("of an internal error: please report it with the daemon's log"))
            done(search.answer(found[0]))

        self._worker.run(call, end)

    def close(self) -> None:
        """Let the search under way end; those that wait find nothing."""
        self._closed = True
        if self._worker is not None:
            self._worker.close()


def search_for(
    ledger: Ledger, host: Host, pools: Pools, request: Mutation, refused: Refused, answer: ErrorAnswer
) -> Search | None:
    """The search for a request that is refused on this ledger, with this answer; None if it asks for none."""
    if isinstance(request, AllocateHugepages) or not request.make_room:
        return None
    try:
        question = None if refused.rule in _NOT_BY_CLAIMS else wanted(ledger, host, pools, request)
    except (Refused, SysfsError):
        question = None
    if question is None:
        return Search(answer, lambda: _nothing(_NOT_ABOUT_CPUS))
    nodes = host.seen.nodes
    return Search(answer, lambda: _find(ledger, pools, nodes, request, question))


def _find(ledger: Ledger, pools: Pools, nodes: Mapping[int, CpuSet], request: Allocating, question: Wanted) -> MakeRoom:
    """What makes room for a refused request. Few daemons are asked, so the import is not paid at the start."""
    from epa_orchestrator.allocation.make_room import make_room

    return _as_answer(make_room(ledger, pools, nodes, question, _limit()), pools, request)


def _limit() -> Callable[[], bool]:
    """Says when a search has used its time, after a pause for the other threads. The first question begins the time."""
    end: float | None = None

    def time_is_up() -> bool:
        nonlocal end
        time.sleep(_PAUSE)
        now = time.thread_time()
        if end is None:
            end = now + _MOST_SECONDS
        return now >= end

    return time_is_up


def _no_search(reason: str) -> MakeRoom:
    return _nothing(f"No search was made, because {reason}", exact=False)


def _nothing(sentence: str, *, exact: bool = True) -> MakeRoom:
    return MakeRoom(moves=[], cpus="", requests=[], exact=exact, tried=0, sentence=sentence)


# --- the answer --------------------------------------------------------------------------------------------------


def _as_answer(room: Room, pools: Pools, request: Allocating) -> MakeRoom:
    if room.grant is None:
        return _nothing(room.sentence, exact=room.exact).model_copy(update={"tried": room.tried})
    return MakeRoom(
        moves=[_move(each, pools) for each in room.moves],
        cpus=str(room.grant.cpus),
        taken=taken_by(room.grant.change).services,
        requests=_requests(room, request),
        exact=room.exact,
        tried=room.tried,
        sentence=room.sentence,
    )


def _move(move: Move, pools: Pools) -> RoomMove:
    claim, nodes = move.claim, pools.machine.nodes if pools.machine else ()
    return RoomMove(
        service_name=claim.service,
        pool=claim.pool,
        from_=str(claim.cpus),
        to=str(move.to),
        numa_nodes=str(CpuSet(node.id for node in nodes if node.cpus & move.to)),
        preemption_policy=claim.preemption_policy,
    )


def _requests(room: Room, request: Allocating) -> list[RoomRequest]:
    """The releases, then the allocations in their order."""
    releases = [_release(each) for each in room.moves]
    allocations = [_allocations(each) for each in room.moves]
    allocations.insert(room.before_request, [_refused_request(request)])
    return [*releases, *(each for some in allocations for each in some)]


def _release(move: Move) -> RoomRequest:
    claim = move.claim
    return RoomRequest(action="allocate_cores", service_name=claim.service, pool=claim.pool, num_of_cores=-1)


def _allocations(move: Move) -> list[RoomRequest]:
    claim = move.claim
    return [
        RoomRequest(
            action="allocate_cores" if step.node is None else "allocate_numa_cores",
            service_name=claim.service,
            pool=claim.pool,
            num_of_cores=len(move.to & step.node.cpus) if step.node is not None else step.count,
            numa_node=step.node.id if step.node is not None else None,
            preemption_policy=claim.preemption_policy,
            numa_policy=step.wishes.numa_policy,
            cpu_thread_policy=step.wishes.cpu_thread_policy,
            uncore_cache_alignment=step.wishes.uncore_cache_alignment,
            near=step.wishes.near,
        )
        for step in move.how.steps
    ]


def _refused_request(request: Allocating) -> RoomRequest:
    fields = request.model_dump(include=set(RoomRequest.model_fields), exclude_unset=True, exclude_none=True)
    return RoomRequest.model_validate({"pool": request.pool, **fields})
