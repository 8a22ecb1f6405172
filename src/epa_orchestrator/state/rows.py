# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Rows: claims and hugepage records as the database and the history hold them. Pure; every row has a checksum.

SQLite does not notice a byte that was changed inside a value, so each row carries a checksum of its values, and the
database one over all rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, NamedTuple, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PageKind
from epa_orchestrator.allocation.taken import Taken, gainer, losses, taken_by
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import DEFAULT_POLICY, NO_WISHES, PlacementPolicy, Wishes

#: The values of a row in the order of its columns, without the checksum.
Row = tuple[object, ...]


def _require_object(value: object) -> object:
    """Refuse a list, which pydantic takes for the fields of a named tuple in order."""
    if not isinstance(value, dict | Wishes):
        raise ValueError("must be an object")
    return cast("object", value)


class _Placement(BaseModel):
    """How a claim was placed: the JSON in the column `placement`, without members that have their default value.

    `withheld` is from databases of earlier schemas, which had no `alone`. The validator is built when the first record
    is read, because that takes 1 ms and many databases have no record.
    """

    model_config = ConfigDict(extra="ignore", strict=True, defer_build=True)

    alone: str = ""
    withheld: str = ""
    policy: PlacementPolicy = DEFAULT_POLICY
    wishes: Annotated[Wishes, BeforeValidator(_require_object)] = NO_WISHES


def checksum(row: Row | None) -> int:
    """55 bits over the values of a row, 0 for no row; the checksum of a set of rows is the XOR of theirs."""
    if row is None:
        return 0
    text = "\x1f".join(map(str, row)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") >> 1


def claim_row(claim: Claim) -> Row:
    """A claim's row: service, pool, cpus, explicit, policy, placement."""
    placement = _placement_json(claim)
    return claim.service, claim.pool, str(claim.cpus), str(claim.explicit), claim.preemption_policy, placement


def claim_of(row: Row) -> Claim:
    """The claim in a row, also in one of schema 1, which has no placement.

    Raises ValueError where no claim can have these values.
    """
    service, pool, cpus, explicit, policy, *rest = cast("tuple[str, PoolName, str, str, PreemptionPolicy, str]", row)
    if pool not in get_args(PoolName) or policy not in get_args(PreemptionPolicy):
        raise ValueError(f"the claim of service '{service}' names an unknown pool or preemption policy")
    claimed, explicit_cpus = CpuSet.parse(cpus), CpuSet.parse(explicit)
    if not rest or not rest[0]:
        return Claim(service, pool, claimed, explicit_cpus, policy)
    placement = _placement_of(service, rest[0])
    return Claim(
        service,
        pool,
        claimed,
        explicit_cpus,
        policy,
        withheld=CpuSet.parse(placement.withheld),
        placed_by=placement.policy,
        wishes=placement.wishes,
        alone=CpuSet.parse(placement.alone),
    )


def pages_row(service: str, kind: PageKind, count: int) -> Row | None:
    """A hugepage record's row: service, node_id, size_kb, count; None for no pages."""
    return (service, *kind, count) if count else None


def claim_json(claim: Claim | None) -> str | None:
    """A claim in the history."""
    if claim is None:
        return None
    # None of these texts holds anything that JSON escapes, and this is eight times as fast as json.dumps.
    withheld = f',"withheld":"{claim.withheld}"' if claim.withheld else ""
    return (
        f'{{"pool":"{claim.pool}","cpus":"{claim.cpus}","explicit":"{claim.explicit}","policy":"{claim.preemption_policy}"'
        f"{withheld}}}"
    )


class Takings(NamedTuple):
    """What one service takes from others in a change: its name, what the others lose, and that in short."""

    service: str
    losses: Mapping[str, CpuSet]
    taken: Taken


def takings_of(change: Change) -> Takings | None:
    """What a service takes from others in a change; None when nothing is taken, as nearly always."""
    taken = taken_by(change)
    service = gainer(change) if taken else None
    return Takings(service, losses(change), taken) if service is not None else None


def claim_records(change: ClaimChange, takings: Takings | None) -> tuple[str | None, str | None]:
    """A claim in the history before and after a change, with who takes which CPUs from whom.

    The service that takes CPUs has `taken_from` in what it has afterwards; one that loses some has `taken_by` in what
    it had before, because it may have nothing left. Both are objects: service and CPU list.
    """
    before, after = claim_json(change.before), claim_json(change.after)
    if takings is None:
        return before, after
    if change.service == takings.service and after is not None:
        members: dict[str, object] = {"taken_from": takings.taken.services}
        if takings.taken.others:
            members["taken_from_others"] = takings.taken.others
        return before, _with_members(after, members)
    lost = takings.losses.get(change.service)
    if lost is not None and before is not None:
        before = _with_members(before, {"taken_by": {takings.service: str(lost)}})
    return before, after


def _with_members(record: str, members: dict[str, object]) -> str:
    return f"{record[:-1]},{json.dumps(members)[1:]}"


def pages_json(kind: PageKind, count: int) -> str | None:
    """A hugepage record in the history."""
    return f'{{"node_id":{kind[0]},"size_kb":{kind[1]},"hugepages":{count}}}' if count else None


def seen_texts(seen: LastSeen) -> dict[str, str]:
    """Where each CPU was last seen, by key of the table `meta`."""
    nodes = {node: str(cpus) for node, cpus in seen.nodes.items()}
    return {"nodes": json.dumps(nodes), "cores": json.dumps(list(map(str, seen.cores)))}


def seen_of(texts: Mapping[str, str]) -> LastSeen:
    """Read what `seen_texts` wrote; a missing part is empty. Raises ValueError."""
    try:
        nodes, cores = json.loads(texts.get("nodes", "{}")), json.loads(texts.get("cores", "[]"))
        seen = {int(node): CpuSet.parse(cpus) for node, cpus in nodes.items()}
        return LastSeen(seen, tuple([CpuSet.parse(core) for core in cores]))
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("the nodes and cores where CPUs were last seen are in an unknown form") from error


def _placement_of(service: str, text: str) -> _Placement:
    """Read what `_placement_json` wrote. Raises ValueError."""
    try:
        return _Placement.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = first["loc"][-1] if first["loc"] else "placement"
        raise ValueError(f"the claim of service '{service}': '{name}' cannot be {first['input']!r:.80}") from None


def _placement_json(claim: Claim) -> str:
    """How the claim was placed, without members that have their default value; "" when all have.

    The withheld CPUs are derived (see Ledger), except for claims of earlier schemas that could not be converted.
    """
    placement: dict[str, object] = {"alone": str(claim.alone)} if claim.alone else {}
    if claim.withheld and not claim.alone:
        placement["withheld"] = str(claim.withheld)
    if policy := claim.placed_by.changed():
        placement["policy"] = policy
    if claim.wishes != NO_WISHES:
        placement["wishes"] = {name: wish for name, wish in claim.wishes._asdict().items() if wish is not None}
    return json.dumps(placement) if placement else ""
