# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Judges one choice against the best possible one, by definitions of its own that share no code with placement.

The possible choices depend on the allocator. One that resizes in place must keep the CPUs of a growing claim
and choose among those of a shrinking one; one that does not could have chosen any free CPUs and any of the claim's own.
Node sets of the *least size* are those with the fewest NUMA nodes that hold what must be kept and have enough CPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from benchmarks.placement.hosts import Host


@dataclass(frozen=True)
class Case:
    """A request: `count` CPUs out of `usable`, among them all of `kept`. `others` are CPUs of other owners."""

    count: int
    usable: int
    kept: int
    others: int


@dataclass(frozen=True)
class Verdict:
    """The findings about a choice."""

    #: A single node had enough CPUs; and the choice is on a single node.
    one_node_possible: bool
    one_node: bool
    #: It touches more L3 domains than the best choice from a node set of the least size.
    more_l3s: bool
    #: A core is shared with another owner; and that could have been avoided, see `avoidable`.
    shared: bool
    avoidable: bool


def case_of(host: Host, free: int, own: int, count: int, *, in_place: bool) -> Case:
    """The request of a claim that holds `own`, for an allocator that resizes in place or does not."""
    others = host.cpus & ~(free | own)
    if not in_place:
        return Case(count, free | own, 0, others)
    if count < own.bit_count():
        return Case(count, own, 0, others)
    return Case(count, free | own, own, others)


def judge(host: Host, case: Case, chosen: int) -> Verdict:
    """Compare a choice with the best ones."""
    scopes = list(least_scopes(host.nodes, case))
    near = nearest(host.packages, [union for union, _ in scopes])
    nodes = sum(1 for node in host.nodes if node & chosen)
    l3s = sum(1 for l3 in host.l3s if l3 & chosen)
    shared = [core for core in host.cores if core & chosen and core & case.others]
    return Verdict(
        one_node_possible=scopes[0][1] == 1,
        one_node=nodes == 1,
        more_l3s=l3s > min(l3s_needed(host.l3s, case, scope) for scope, _ in scopes),
        shared=bool(shared),
        avoidable=any(not core & case.kept for core in shared) and avoidable(host, case, near),
    )


def least_scopes(nodes: Sequence[int], case: Case) -> Iterator[tuple[int, int]]:
    """Every node set of the least size: the union of its CPUs, and its size."""
    base = [node for node in nodes if node & case.kept]
    others = sorted(
        (node for node in nodes if not node & case.kept and node & case.usable),
        key=lambda node: (node & case.usable).bit_count(),
        reverse=True,
    )
    found = False
    for size in range(len(others) + 1):
        for added in combinations(others, size):
            union = sum((*base, *added))  # nodes do not overlap
            if (union & case.usable).bit_count() >= case.count:
                found = True
                yield union, len(base) + size
        if found:
            return


def nearest(packages: Sequence[int], scopes: Sequence[int]) -> list[int]:
    """The scopes that are in the fewest packages."""
    widths = [sum(1 for package in packages if package & scope) for scope in scopes]
    return [scope for scope, width in zip(scopes, widths, strict=True) if width == min(widths)]


def l3s_needed(l3s: Sequence[int], case: Case, scope: int) -> int:
    """The fewest L3 domains for the request inside a scope: those of the kept CPUs, and then the ones with most CPUs.

    The k domains with the most CPUs have as many as any k can have, so it is exact.
    """
    usable = case.usable & scope
    held = [l3 for l3 in l3s if l3 & case.kept]
    missing = case.count - sum((l3 & usable).bit_count() for l3 in held)
    needed = len(held)
    for count in sorted(((l3 & usable).bit_count() for l3 in l3s if not l3 & case.kept), reverse=True):
        if missing <= 0:
            break
        missing -= count
        needed += 1
    return needed


def avoidable(host: Host, case: Case, scopes: Sequence[int]) -> bool:
    """Whether the request could have been met without sharing a core that it does not share already.

    It could when in some scope that had to be used (a node set of the least size, in the fewest packages) the kept
    CPUs, and the usable ones of cores in which no other owner has a CPU, are as many as asked for. It counts as
    avoidable even when more L3 domains would have been needed.
    """
    apart = case.kept
    for core in host.cores:
        if not core & case.others or core & case.kept:
            apart |= core & case.usable
    return any((apart & scope).bit_count() >= case.count for scope in scopes)
