"""Rows: claims and hugepage records as the database and the history hold them. Pure; every row has a checksum.

SQLite does not notice a byte that was changed inside a value, so each row carries a checksum of its values, and the
database one over all rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast, get_args

from epa_orchestrator.allocation.claims import Claim, PageKind
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.machine import Seen
from epa_orchestrator.names import PoolName, PreemptionPolicy
from epa_orchestrator.placement.policy import NO_WISHES, parse_policy, parse_wishes

#: The values of a row in the order of its columns, without the checksum.
Row = tuple[object, ...]

#: The sets of CPUs in the placement of a row. `withheld` is from databases of earlier schemas, which had no `alone`.
_CPU_LISTS: Final = ("alone", "withheld")


def checksum(row: Row | None) -> int:
    """55 bits over the values of a row, 0 for no row; the checksum of a set of rows is the XOR of theirs."""
    if row is None:
        return 0
    text = "\x1f".join(map(str, row)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") >> 1


def claim_row(claim: Claim) -> Row:
    """A claim's row: service, pool, cpus, explicit, policy, placement."""
    return claim.service, claim.pool, str(claim.cpus), str(claim.explicit), claim.preemption_policy, _placement(claim)


def claim_of(row: Row) -> Claim:
    """The claim in a row, of a database without placements too.

    Raises ValueError where no claim can have these values.
    """
    service, pool, cpus, explicit, policy, *rest = cast("tuple[str, PoolName, str, str, PreemptionPolicy, str]", row)
    if pool not in get_args(PoolName) or policy not in get_args(PreemptionPolicy):
        raise ValueError(f"the claim of service '{service}' names an unknown pool or policy")
    how: dict[str, Any] = json.loads(rest[0]) if rest and rest[0] else {}
    if not all(isinstance(part, kind) for part, kind in _placement_parts(how)):
        raise ValueError(f"the claim of service '{service}' has a placement record in an unknown form")
    return Claim(
        service,
        pool,
        CpuSet.parse(cpus),
        CpuSet.parse(explicit),
        policy,
        placed_by=parse_policy(how.get("policy", {})),
        wishes=parse_wishes(how.get("wishes", {})),
        **{name: CpuSet.parse(how.get(name, "")) for name in _CPU_LISTS},
    )


def pages_row(service: str, kind: PageKind, count: int) -> Row | None:
    """A hugepage record's row: service, node_id, size_kb, count; None for no pages."""
    return (service, *kind, count) if count else None


def claim_json(claim: Claim | None) -> str | None:
    """A claim in the history."""
    if claim is None:
        return None
    # None of these texts holds anything that JSON escapes, and this is an eighth of what json.dumps takes.
    withheld = f',"withheld":"{claim.withheld}"' if claim.withheld else ""
    return (
        f'{{"pool":"{claim.pool}","cpus":"{claim.cpus}","explicit":"{claim.explicit}","policy":"{claim.preemption_policy}"'
        f"{withheld}}}"
    )


def pages_json(kind: PageKind, count: int) -> str | None:
    """A hugepage record in the history."""
    return f'{{"node_id":{kind[0]},"size_kb":{kind[1]},"hugepages":{count}}}' if count else None


def seen_texts(seen: Seen) -> dict[str, str]:
    """Where each CPU was last seen, by key of the database."""
    cores = sorted({str(CpuSet.from_mask(threads)) for threads in seen.cores.values()})
    nodes = {node: str(cpus) for node, cpus in seen.nodes.items()}
    return {"nodes": json.dumps(nodes), "cores": json.dumps(cores)}


def seen_of(texts: Mapping[str, str]) -> Seen:
    """Read what `seen_texts` wrote; a missing part is empty. Raises ValueError."""
    try:
        nodes = {int(node): CpuSet.parse(cpus) for node, cpus in json.loads(texts.get("nodes", "{}")).items()}
        cores = [CpuSet.parse(core) for core in json.loads(texts.get("cores", "[]"))]
    except (AttributeError, TypeError) as error:
        raise ValueError("it says in another form where CPUs were seen") from error
    return Seen(nodes, {cpu: core.mask for core in cores for cpu in core})


def _placement_parts(how: object) -> Iterator[tuple[object, type]]:
    """The parts of a placement's record, each with the type that it must have."""
    yield how, dict
    if isinstance(how, dict):
        document = cast("dict[str, object]", how)
        for name in _CPU_LISTS:
            yield document.get(name, ""), str
        yield document.get("policy", {}), dict
        yield document.get("wishes", {}), dict


def _placement(claim: Claim) -> str:
    """How the claim was placed, in JSON, without what is the default; "" when all is.

    What is withheld is derived (see Ledger), except for claims of earlier schemas that could not be converted.
    """
    how: dict[str, object] = {"alone": str(claim.alone)} if claim.alone else {}
    if claim.withheld and not claim.alone:
        how["withheld"] = str(claim.withheld)
    if policy := claim.placed_by.changed():
        how["policy"] = policy
    if claim.wishes != NO_WISHES:
        how["wishes"] = {name: wish for name, wish in claim.wishes._asdict().items() if wish is not None}
    return json.dumps(how) if how else ""
