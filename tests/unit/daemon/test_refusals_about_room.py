# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`concerns_room` tells from its sentence alone whether a refusal is about CPUs that others hold, for every rule."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.refusal import RefusalRule, Refused, concerns_room
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.daemon.mutations import decide
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.requests import Mutation
from tools.synthetic import Shape, build

# Node 0 has the cores 2,10 and 3,11 in the pool, node 1 the cores 4,12 to 7,15; each node is one L3 domain.
SHAPE = Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15", hugepages={2048: (8, 8)})
GUARDED: dict[str, Any] = {"preemption_policy": "non-preemptive"}


class Case(NamedTuple):
    """A refused request, after requests that were granted; `about_room` is whether moving claims may help."""

    rule: RefusalRule
    about_room: bool
    asked: dict[str, Any]
    before: tuple[dict[str, Any], ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})


def cores(count: int, service: str = "new", **more: Any) -> dict[str, Any]:
    return {"action": "allocate_cores", "service_name": service, "num_of_cores": count, **more}


def in_node(count: int, service: str = "new", node: int = 0, **more: Any) -> dict[str, Any]:
    return {"action": "allocate_numa_cores", "service_name": service, "numa_node": node, "num_of_cores": count, **more}


def pages(count: int, size_kb: int = 2048) -> dict[str, Any]:
    asked = {"action": "allocate_hugepages", "service_name": "new", "node_id": 0}
    return asked | {"size_kb": size_kb, "hugepages_requested": count}


CASES = [
    Case("numa-policy", True, cores(9, numa_policy="single-numa-node")),
    Case("uncore-cache-alignment", True, cores(6, uncore_cache_alignment="require"), (in_node(4, "a", 1),)),
    Case("cpu-thread-policy", True, cores(1, cpu_thread_policy="require")),
    Case("cpu-thread-policy", True, cores(7, cpu_thread_policy="isolate")),
    Case("insufficient", True, cores(1), (cores(12, "a"),)),
    Case("insufficient", True, cores(0), (cores(12, "a"),)),
    Case("insufficient", True, in_node(2), (in_node(3, "a", **GUARDED),)),
    Case("insufficient", False, in_node(5)),  # more than the node has
    Case("insufficient", False, in_node(1), options={"reserved-cpus": "2-3,10-11"}),
    Case("insufficient", False, pages(9)),
    Case("pool", False, cores(1, pool="general")),
    Case("unavailable", False, cores(2, "a"), (cores(1, "a"),), {"reserved-cpus": "2-7,10-14"}),
    Case("not-found", False, in_node(1, node=7)),
    Case("not-found", False, pages(1, 4)),
    Case("not-found", False, cores(1, near="eth0")),
    Case("wish", False, cores(1, cpu_thread_policy="require"), options={"cpu-distribution": "cores"}),
    Case("may-take", False, in_node(4, may_take={}), (cores(2, "a"),)),
    Case("preemption-policy", False, cores(1, "a", preemption_policy="legacy"), (cores(1, "a", **GUARDED),)),
    Case("limit", False, cores(1), (cores(1, "a"),), {"max-services": 1}),
    Case("name", False, cores(1, " x")),
]


def parsed(asked: dict[str, Any]) -> Mutation:
    found = validate(asked)
    assert isinstance(found, Mutation)
    return found


def refusal(case: Case) -> Refused:
    ledger, sysfs = Ledger(), RecordedSysfs(build(SHAPE))
    at = Host(sysfs, parse_settings({}))
    for asked in case.before:
        ledger = decide(ledger, at, at.pools(), parsed(asked)).ledger
    at = Host(sysfs, parse_settings({**case.options}))
    with pytest.raises(Refused) as caught:
        decide(ledger.on(at.pools().cores), at, at.pools(), parsed(case.asked))
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule} {case.asked['action']}")
def test_the_sentence_tells_whether_moving_claims_may_help(case: Case) -> None:
    refused = refusal(case)
    assert refused.rule == case.rule, refused
    assert concerns_room(str(refused)) == case.about_room, refused


def test_every_rule_has_a_case() -> None:
    """The readings alone refuse with "other"."""
    assert {case.rule for case in CASES} | {"other"} == {*get_args(RefusalRule)}


@pytest.mark.parametrize(
    "sentence",
    [
        "Insufficient CPUs available. Requested: 2, Available: 1",
        "1 CPUs cannot be placed: cpu-thread-policy=require allows whole cores only. Otherwise the best choice would",
        "NUMA node 0 has 0 CPUs that can be given to this service, but 1 were asked: CPUs 2 are held by other services",
    ],
)
def test_sentences_of_earlier_daemons_are_known_too(sentence: str) -> None:
    assert concerns_room(sentence)


def test_one_cpu_is_named_as_one() -> None:
    assert str(refusal(CASES[2])).startswith("1 CPU cannot be placed: cpu-thread-policy=require ")
