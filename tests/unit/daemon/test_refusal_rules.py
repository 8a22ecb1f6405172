# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Each kind of refusal has its rule, whichever sentence it has."""

from __future__ import annotations

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.refusal import RefusalRule, Refused
from epa_orchestrator.protocol.requests import Mutation

from .test_mutations import decided, host, request

HELD = decided(request("allocate_cores", preemption_policy="non-preemptive")).ledger
OTHER = decided(request("allocate_cores", service_name="b", num_of_cores=12)).ledger

#: Two CPUs are free in each L3 cache domain, and one domain has room for four on an empty host.
ONE_L3 = host(uncore_cache_alignment="require")
_HALF = decided(request("allocate_numa_cores", service_name="b"), at=ONE_L3).ledger
PIECES = decided(request("allocate_numa_cores", service_name="c", numa_node=1, num_of_cores=6), _HALF, ONE_L3).ledger

CASES: list[tuple[RefusalRule, Mutation, Ledger | None, Host | None]] = [
    ("insufficient", request("allocate_cores", num_of_cores=13), None, None),
    ("insufficient", request("allocate_numa_cores", num_of_cores=5), None, None),
    ("insufficient", request("allocate_numa_cores", preemption_policy="non-preemptive"), OTHER, None),
    ("numa-policy", request("allocate_cores", num_of_cores=9, numa_policy="single-numa-node"), None, None),
    ("cpu-thread-policy", request("allocate_cores", num_of_cores=3, cpu_thread_policy="require"), None, None),
    ("uncore-cache-alignment", request("allocate_cores", num_of_cores=4), PIECES, ONE_L3),
    ("pool", request("allocate_cores", pool="general"), None, host(cpu_pool="")),
    ("pool", request("allocate_cores", pool="general"), HELD, None),
    ("pool", request("allocate_cores"), None, host(reserved_cpus="2-7,10-15")),
    ("unavailable", request("allocate_cores", num_of_cores=3), HELD, host(reserved_cpus="2")),
    ("not-found", request("allocate_numa_cores", numa_node=7), None, None),
    ("not-found", request("allocate_cores", near=7), None, None),
    ("not-found", request("allocate_cores", near="eth7"), None, None),
    ("not-found", request("allocate_hugepages", node_id=7, size_kb=2048, hugepages_requested=1), None, None),
    ("not-found", request("allocate_hugepages", node_id=0, size_kb=4, hugepages_requested=1), None, None),
    ("insufficient", request("allocate_hugepages", node_id=0, size_kb=2048, hugepages_requested=9), None, None),
    ("wish", request("allocate_cores", cpu_thread_policy="require"), None, host(cpu_distribution="cores")),
    ("may-take", request("allocate_numa_cores", may_take={}), OTHER, None),
    ("preemption-policy", request("allocate_cores", num_of_cores=3, preemption_policy="legacy"), HELD, None),
    ("limit", request("allocate_cores", service_name="c"), HELD, host(max_services=1)),
    ("name", request("allocate_cores", service_name=" c"), None, None),
]


@pytest.mark.parametrize(
    ("rule", "asked", "ledger", "at"), CASES, ids=[f"{rule}-{n}" for n, (rule, *_) in enumerate(CASES)]
)
def test_refusal_has_its_rule(rule: RefusalRule, asked: Mutation, ledger: Ledger | None, at: Host | None) -> None:
    with pytest.raises(Refused) as caught:
        decided(asked, ledger, at)
    assert caught.value.rule == rule
