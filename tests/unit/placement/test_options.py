# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Every option of placement and each of its values: CPUs worked out by hand, on named machines."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, get_args

import pytest

from epa_orchestrator.allocation.allocate import Terms, allocate, allocate_in_node
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.hugepages import free_pages
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus, Pools, build_pools
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.names import PreemptionPolicy
from tests.machines import made_up, synthetic
from tools.synthetic import Shape

#: Small machines by name; all other names are those of tests.machines.SYNTHETIC.
SHAPES = {
    # Two packages of one node, each with two L3 domains of two cores; the threads of core n are n and n + 8.
    # Node 0: L3 domains 0-1,8-9 and 2-3,10-11. Node 1: 4-5,12-13 and 6-7,14-15.
    "two-nodes": Shape(packages=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2),
    # The same cores in four nodes of one L3 domain each: 0-1,8-9 and 2-3,10-11 in package 0, the others in package 1.
    "four-nodes": Shape(packages=2, nodes_per_package=2, cores_per_l3=2, threads_per_core=2),
    # The same four nodes, but the two of a package are below one L3 domain.
    "sub-numa": Shape(packages=2, nodes_per_package=2, cores_per_l3=2, threads_per_core=2, l3_scope="package"),
    # Three packages of four single-threaded cores: 0-3, 4-7, 8-11. The first and the last are neighbours.
    "triangle": Shape(packages=3, distances=((10, 30, 20), (30, 10, 30), (20, 30, 10))),
}

EPYC = "epyc-nps4"  # nodes 0 to 7 of 3 L3 domains of 8 cores: L3 n is 8n to 8n+7, and 192 above
SNC = "xeon-snc2"  # nodes 0-2,5-6,10-12,15-16 and 3-4,7-9,13-14,17-19 below one L3, siblings 40 above; twice
KUNPENG = "kunpeng"  # nodes and L3 domains of 32 single-threaded cores, two in a package
OPTERON = "opteron"  # nodes and L3 domains of 8; packages 0-15, 32-47, 48-63, 16-31
POWER7 = "power7"  # cores of four threads, each its own L3 domain and package; nodes of eight cores
RAPTORLAKE = "raptorlake"  # cores 0-1 ... 10-11 for performance, 12 to 19 for efficiency; one L3
RYZEN = "ryzen"  # L3 domains 0-2,6-8 and 3-5,9-11, siblings 6 above


class Case(NamedTuple):
    machine: str
    options: str
    others: str
    own: str
    wanted: int
    expected: str
    why: str


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text)


def machine_named(name: str) -> Machine:
    machine = made_up(SHAPES[name]) if name in SHAPES else synthetic(name)
    return replace(machine, isolated=machine.online)


def pools_of(machine: Machine, options: str) -> Pools:
    """The pools under options such as "numa-policy=none default-allocation-percent=50"."""
    named: dict[str, object] = {}
    for option, _, value in (word.partition("=") for word in options.split()):
        number = option.startswith(("default-allocation", "large-system"))
        named[option] = int(value) if number else {"true": True, "false": False}.get(value, value)
    return build_pools(machine, None, parse_settings(named))


def ledger_with(others: str, own: str, pools: Pools) -> Ledger:
    placed = pools.settings.placement
    held = (("others", others), ("me", own))
    claims = [Claim(who, "isolated", cpus(text), EMPTY, "legacy", placed_by=placed) for who, text in held if text]
    return Ledger.of(claims, {})


def granted(case: Case) -> str:
    """The CPUs, or the option that refuses them."""
    pools = pools_of(machine_named(case.machine), case.options)
    ledger = ledger_with(case.others, case.own, pools)
    try:
        grant = allocate(ledger, pools.isolated, Terms("me"), case.wanted)
    except Refused as refused:
        return f"refused by {refused.unplaceable.rule.option}" if refused.unplaceable else str(refused)
    after = grant.ledger
    assert Ledger.of(after.claims.values(), {}).claims == after.claims
    return str(grant.cpus)


NUMA_POLICY = [
    Case("two-nodes", "numa-policy=best-effort", "0,4,8,12", "", 8, "2-3,6-7,10-11,14-15",
         "each node has six left: two nodes, and the two whole L3 domains"),
    Case("two-nodes", "numa-policy=single-numa-node", "0,4,8,12", "", 8, "refused by numa-policy", "no node has eight"),
    Case("two-nodes", "numa-policy=single-numa-node", "0,8", "", 8, "4-7,12-15", "node 1 has"),
    Case("two-nodes", "numa-policy=single-numa-node", "", "", 9, "refused by numa-policy", "no node ever has nine"),
    Case("two-nodes", "numa-policy=single-numa-node", "", "0,8", 10, "refused by numa-policy", "nor when it grows"),
    Case("two-nodes", "numa-policy=restricted", "0,4,8,12", "", 8, "refused by numa-policy",
         "on an empty host eight need one node only"),
    Case("two-nodes", "numa-policy=restricted", "0,4,8,12", "", 9, "1-3,6-7,9-11,14",
         "nine always need two nodes; of three L3 domains the two whole ones and the lowest of the others, and the odd"
         " thread is missing at the highest core"),
    Case("sub-numa", "numa-policy=best-effort", "0,8", "", 4, "2-3,10-11", "one node, below the fuller L3 domain"),
    Case("sub-numa", "numa-policy=none", "0,8", "", 4, "1-2,9-10", "the same L3 domain, and the lowest cores of it"),
    Case(SNC, "numa-policy=best-effort", "", "", 10, "0-2,5-6,40-42,45-46", "the five lowest cores of node 0"),
    Case(SNC, "numa-policy=none", "", "", 10, "0-4,40-44", "the five lowest cores of the L3 domain"),
    Case(SNC, "numa-policy=best-effort", "0,3,20,23,40,43,60,63", "", 20, "1-2,4-11,41-42,44-51",
         "every node has 18: both nodes of package 0, and the ten lowest cores"),
    Case(SNC, "numa-policy=restricted", "0,3,20,23,40,43,60,63", "", 20, "refused by numa-policy",
         "an empty node holds 20"),
    Case(SNC, "numa-policy=single-numa-node", "0,3,20,23,40,43,60,63", "", 18,
         "1-2,5-6,10-12,15-16,41-42,45-46,50-52,55-56", "all of node 0"),
]  # fmt: skip

NUMA_ALLOCATION_STRATEGY = [
    Case("two-nodes", "numa-allocation-strategy=packed", "0,8", "", 2, "1,9", "fills its L3 domain"),
    Case("two-nodes", "numa-allocation-strategy=spread", "0,8", "", 2, "4,12",
         "three L3 domains are empty, and those of node 1 leave more in the node"),
    Case("two-nodes", "numa-allocation-strategy=packed", "", "", 10, "0-4,8-12", "a full node, a core of the other"),
    Case("two-nodes", "numa-allocation-strategy=spread", "", "", 8, "0-3,8-11", "one node can hold it all the same"),
    Case("two-nodes", "numa-allocation-strategy=distribute", "0,8", "", 8, "4-7,12-15", "one node can hold it"),
    Case("two-nodes", "numa-allocation-strategy=distribute", "", "", 10, "0-2,4-6,8-9,12-13", "five in each node"),
    Case("two-nodes", "numa-allocation-strategy=distribute", "", "0-3,8-11", 10, "0-4,8-12", "none is moved"),
    Case("two-nodes", "numa-allocation-strategy=distribute", "", "0-11", 10, "0-2,4-10",
         "gives up two of the eight in node 0, not of the four in node 1"),
    Case("two-nodes", "numa-allocation-strategy=packed", "", "0-11", 10, "0-5,8-11", "two of the four in node 1"),
    Case(EPYC, "numa-allocation-strategy=packed", "0,192", "", 4, "1-2,193-194", "the L3 domain in use"),
    Case(EPYC, "numa-allocation-strategy=spread", "0,192", "", 4, "24-25,216-217", "the first L3 of an empty node"),
    Case(EPYC, "numa-allocation-strategy=distribute", "", "", 50, "0-12,24-36,192-203,216-227",
         "25 in each of two nodes of a package: 13 cores in two L3 domains, one without its second thread"),
]  # fmt: skip

PREFER_CLOSEST = [
    Case("triangle", "prefer-closest-numa-nodes=true", "", "", 6, "0-3,8-9", "nodes 0 and 2 are the closest"),
    Case("triangle", "prefer-closest-numa-nodes=false", "", "", 6, "0-5", "any two, so the lowest"),
    Case("four-nodes", "prefer-closest-numa-nodes=true", "0,8", "", 8, "4-7,12-15", "two whole nodes of one package"),
    Case("four-nodes", "prefer-closest-numa-nodes=false", "0,8", "", 8, "2-5,10-13", "the two lowest whole nodes"),
    Case(KUNPENG, "prefer-closest-numa-nodes=true", "0-15,32-47", "", 40, "64-103", "package 0 has only 32 left"),
    Case(KUNPENG, "prefer-closest-numa-nodes=false", "0-15,32-47", "", 40, "16-31,64-87",
         "half a node and a whole one leave fewest over"),
    Case(OPTERON, "prefer-closest-numa-nodes=true", "0-7", "", 16, "16-31", "the package with the lowest CPUs"),
    Case(OPTERON, "prefer-closest-numa-nodes=false", "0-7", "", 16, "8-23", "the lowest two nodes"),
]  # fmt: skip

UNCORE_CACHE_ALIGNMENT = [
    Case("two-nodes", "uncore-cache-alignment=prefer", "0,8", "", 4, "2-3,10-11", "one L3 domain, in the fuller node"),
    Case("two-nodes", "uncore-cache-alignment=none", "0,8", "", 4, "1-2,9-10", "the lowest cores of the fuller node"),
    Case("two-nodes", "uncore-cache-alignment=require", "0,8", "", 4, "2-3,10-11", "one L3 domain holds four"),
    Case("two-nodes", "uncore-cache-alignment=prefer", "0,2,4,6,8,10,12,14", "", 4, "1,3,9,11",
         "each L3 domain has one core: two of one node"),
    Case("two-nodes", "uncore-cache-alignment=require", "0,2,4,6,8,10,12,14", "", 4,
         "refused by uncore-cache-alignment", "an empty one would hold four"),
    Case("two-nodes", "uncore-cache-alignment=require", "", "", 6, "0-2,8-10", "six always need two"),
    Case("two-nodes", "uncore-cache-alignment=require", "1-3,10", "0,8", 4, "refused by uncore-cache-alignment",
         "it cannot grow without a second L3 domain"),
    Case(EPYC, "uncore-cache-alignment=prefer", "0,8,192,200", "", 16, "16-23,208-215",
         "the whole L3 domain of the node in use"),
    Case(EPYC, "uncore-cache-alignment=none", "0,8,192,200", "", 16, "1-7,9,193-199,201",
         "the eight lowest cores of the node in use"),
    Case(EPYC, "uncore-cache-alignment=require", "0,8,192,200", "", 15, "16-23,208-214", "one L3 domain, and odd"),
    Case(SNC, "uncore-cache-alignment=require", "", "", 30, "0-14,40-54", "two nodes, but one L3 domain"),
]  # fmt: skip

CPU_THREAD_POLICY = [
    Case(RYZEN, "cpu-thread-policy=prefer", "", "", 3, "0-1,6", "a whole core, and a thread of another"),
    Case(RYZEN, "cpu-thread-policy=prefer", "0,3", "", 1, "1", "a fresh core before half of another service's"),
    Case(RYZEN, "cpu-thread-policy=share", "0,3", "", 1, "6", "the free half of a core in use"),
    Case(RYZEN, "cpu-thread-policy=share", "0,3", "", 2, "6,9", "both free halves, though in two L3 domains"),
    Case(RYZEN, "cpu-thread-policy=share", "0,3", "", 3, "1,6-7", "one half and a core are one fresh core and one L3"),
    Case(RYZEN, "cpu-thread-policy=require", "0,3", "", 2, "1,7", "a whole core"),
    Case(RYZEN, "cpu-thread-policy=require", "", "", 3, "refused by cpu-thread-policy", "three are no whole cores"),
    Case(RYZEN, "cpu-thread-policy=require", "0,1,2,3,4", "", 4, "refused by cpu-thread-policy", "one whole core left"),
    Case(RYZEN, "cpu-thread-policy=isolate", "0,3", "", 2, "1-2", "one thread of each of two free cores"),
    Case(RYZEN, "cpu-thread-policy=isolate", "0,3", "", 5, "refused by cpu-thread-policy", "four free cores"),
    Case(RYZEN, "cpu-thread-policy=isolate", "", "", 6, "0-5", "one thread of every core"),
    Case(POWER7, "cpu-thread-policy=prefer", "", "", 6, "0-5", "a core, and half of the next"),
    Case(POWER7, "cpu-thread-policy=require", "", "", 6, "refused by cpu-thread-policy", "cores have four threads"),
    Case(POWER7, "cpu-thread-policy=require", "0", "", 8, "4-11", "two whole cores"),
    Case(POWER7, "cpu-thread-policy=isolate", "4", "", 3, "0,8,12", "three cores that nobody uses"),
    Case(POWER7, "cpu-thread-policy=share", "0-1,32", "", 5, "2-6", "one node comes before the used core of another"),
    Case(RAPTORLAKE, "cpu-thread-policy=require", "", "", 3, "0-1,12", "a core of two threads and one of one"),
    Case(RAPTORLAKE, "cpu-thread-policy=isolate", "", "", 8, "0,2,4,6,8,10,12-13", "one thread of each core"),
]  # fmt: skip

CPU_DISTRIBUTION = [
    Case("two-nodes", "cpu-distribution=packed", "", "", 4, "0-1,8-9", "two whole cores of one L3 domain"),
    Case("two-nodes", "cpu-distribution=cores", "", "", 4, "0-3", "a thread of each core of the node"),
    Case("two-nodes", "cpu-distribution=cores", "", "", 5, "0-3,8", "then a second thread"),
    Case("two-nodes", "cpu-distribution=cores", "0", "", 3, "1-3", "three cores that nobody uses"),
    Case("two-nodes", "cpu-distribution=caches", "", "", 4, "0,2,8,10", "a whole core of each L3 domain"),
    Case("two-nodes", "cpu-distribution=caches", "", "0-3,8-11", 4, "0,2,8,10", "and it shrinks evenly"),
    Case(EPYC, "cpu-distribution=packed", "", "", 6, "0-2,192-194", "three cores of one L3 domain"),
    Case(EPYC, "cpu-distribution=cores", "", "", 6, "0-5", "six cores of one L3 domain"),
    Case(EPYC, "cpu-distribution=cores", "", "", 10, "0-9", "ten cores of two L3 domains"),
    Case(EPYC, "cpu-distribution=caches", "", "", 6, "0,8,16,192,200,208", "a core of each of the node's L3 domains"),
]  # fmt: skip

PREFER_CORE_TYPE = [
    Case(RAPTORLAKE, "prefer-core-type=none", "", "", 2, "0-1", "the lowest core"),
    Case(RAPTORLAKE, "prefer-core-type=none", "", "", 1, "12", "a core of one thread, which leaves none over"),
    Case(RAPTORLAKE, "prefer-core-type=performance", "", "", 1, "0", "although it leaves half a core over"),
    Case(RAPTORLAKE, "prefer-core-type=performance", "", "", 14, "0-13", "all of them, and two others"),
    Case(RAPTORLAKE, "prefer-core-type=efficiency", "", "", 2, "12-13", "two of them"),
    Case(RAPTORLAKE, "prefer-core-type=efficiency", "", "", 10, "0-1,12-19", "all of them, and another core"),
    Case(RAPTORLAKE, "prefer-core-type=efficiency", "", "0-1,12-13", 2, "12-13", "gives up the others first"),
    Case("two-nodes", "prefer-core-type=efficiency", "", "", 2, "0,8", "the machine has one type only"),
]  # fmt: skip

RESIZE_POLICY = [
    Case("two-nodes", "resize-policy=in-place", "1,9", "0,8", 4, "0,2,8,10", "keeps its core, and grows in its node"),
    Case("two-nodes", "resize-policy=reallocate", "1,9", "0,8", 4, "2-3,10-11", "one L3 domain holds it"),
    Case("two-nodes", "resize-policy=in-place", "4-7,12-15", "1-3,9-11", 4, "2-3,10-11", "leaves its smaller part"),
    Case("two-nodes", "resize-policy=reallocate", "4-7,12-15", "1-3,9-11", 4, "0-1,8-9", "an L3 domain like the other"),
    Case("two-nodes", "resize-policy=in-place", "", "0,4", 2, "0,4", "the same size keeps the same CPUs"),
    Case("two-nodes", "resize-policy=reallocate", "", "0,4", 2, "0,8", "a whole core"),
    Case("two-nodes", "resize-policy=reallocate", "", "0,8", 2, "0,8", "what it has is the best"),
    Case(EPYC, "resize-policy=in-place", "1-7,193-199", "0,192", 4, "0,8,192,200", "the next L3 domain of the node"),
    Case(EPYC, "resize-policy=reallocate", "1-7,193-199", "0,192", 4, "8-9,200-201", "one L3 domain of the node"),
]  # fmt: skip

DEFAULT_SIZE = [
    Case("two-nodes", "default-allocation-percent=80", "", "", 0, "0-5,8-13", "12.8 of 16 are 12"),
    Case("two-nodes", "default-allocation-percent=50", "", "", 0, "0-3,8-11", "8 of 16"),
    Case("two-nodes", "default-allocation-percent=50", "0-3,8-11", "", 0, "4-5,12-13", "4 of the 8 that are free"),
    Case("two-nodes", "default-allocation-percent=50", "0-3,8-11", "4-5,12-13", 0, "4-5,12-13", "asked again"),
    Case("two-nodes", "default-allocation-percent=1", "", "", 0, "0", "at least one"),
    Case("two-nodes", "default-allocation-percent=100", "", "", 0, "0-15", "all"),
    Case("two-nodes", "default-allocation-percent=70 cpu-thread-policy=require", "", "", 0, "0-4,8-12",
         "11.2 of 16 are 11, of which ten are whole cores"),
    Case("two-nodes", "default-allocation-percent=50 cpu-thread-policy=isolate", "", "", 0, "0-3", "4 of 8 cores"),
    Case(EPYC, "default-allocation-percent=1", "", "", 0, "0-183,192-375", "384 are a large system: all but 16"),
]  # fmt: skip

LARGE_SYSTEM_THRESHOLD = [
    Case("two-nodes", "large-system-threshold=16", "", "", 0, "0-5,8-13", "16 are not more than 16: 80 percent"),
    Case("two-nodes", "large-system-threshold=15", "", "", 0, "0", "a large system, which reserves 16: at least one"),
    Case(SNC, "large-system-threshold=79", "", "", 0, "0-31,40-71", "a large system: all but 16"),
    Case(EPYC, "large-system-threshold=384 default-allocation-percent=25", "", "", 0, "0-47,192-239", "96 of 384"),
]  # fmt: skip

LARGE_SYSTEM_RESERVED_CPUS = [
    Case("two-nodes", "large-system-threshold=15 large-system-reserved-cpus=8", "", "", 0, "0-3,8-11", "16 - 8"),
    Case("two-nodes", "large-system-threshold=15 large-system-reserved-cpus=0", "", "", 0, "0-15", "none"),
    Case(EPYC, "large-system-reserved-cpus=336", "", "", 0, "0-23,192-215", "384 - 336 are one node"),
    Case(EPYC, "large-system-reserved-cpus=400", "", "", 0, "0", "at least one"),
]  # fmt: skip

RESERVED_CPUS = [
    Case("two-nodes", "reserved-cpus=0", "", "", 1, "1", "8 shares a core with the reserved 0"),
    Case("two-nodes", "reserved-cpus=0", "", "", 2, "1,9", "a whole core of the fullest L3 domain"),
    Case("two-nodes", "reserved-cpus=0", "", "", 3, "2-3,10", "no L3 domain but the first would share a core with 0"),
    Case("two-nodes", "reserved-cpus=0", "", "", 15, "1-15", "all that is left"),
    Case("two-nodes", "reserved-cpus=0 cpu-thread-policy=require", "", "", 8, "4-7,12-15", "node 0 has three cores"),
    Case("two-nodes", "reserved-cpus=0 cpu-thread-policy=isolate", "", "", 4, "4-7", "node 0 has three cores"),
    Case("two-nodes", "reserved-cpus=0,4 numa-policy=single-numa-node", "", "", 8, "refused by numa-policy", "7 and 7"),
    Case(RAPTORLAKE, "reserved-cpus=0-1,12", "", "", 3, "2-3,13", "the next cores"),
]  # fmt: skip

TABLES = {
    "numa-policy": NUMA_POLICY,
    "numa-allocation-strategy": NUMA_ALLOCATION_STRATEGY,
    "prefer-closest-numa-nodes": PREFER_CLOSEST,
    "uncore-cache-alignment": UNCORE_CACHE_ALIGNMENT,
    "cpu-thread-policy": CPU_THREAD_POLICY,
    "cpu-distribution": CPU_DISTRIBUTION,
    "prefer-core-type": PREFER_CORE_TYPE,
    "resize-policy": RESIZE_POLICY,
    "default-allocation-percent": DEFAULT_SIZE,
    "large-system-threshold": LARGE_SYSTEM_THRESHOLD,
    "large-system-reserved-cpus": LARGE_SYSTEM_RESERVED_CPUS,
    "reserved-cpus": RESERVED_CPUS,
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{case.machine} {case.options} {case.wanted}") for t in TABLES.values() for case in t],
)
def test_cpus(case: Case) -> None:
    assert granted(case) == case.expected, case.why


def test_every_value_of_every_option_has_a_case() -> None:
    named = {word for table in TABLES.values() for case in table for word in case.options.split()}
    for name, field in Settings.model_fields.items():
        option = name.replace("_", "-")
        values = [value for value in get_args(field.annotation) if isinstance(value, str)]
        if option in TABLES and values:
            assert {f"{option}={value}" for value in values} <= named


class NodeCase(NamedTuple):
    """A request for CPUs of node 0 of two-nodes, where a legacy service holds `others`, of which some `explicit`."""

    value: str
    others: str
    explicit: str
    policy: PreemptionPolicy
    wanted: int
    expected: str
    left: str
    why: str


@pytest.mark.parametrize(
    "case",
    [
        NodeCase("if-needed", "0-3,8-9", "", "legacy", 2, "10-11", "0-3,8-9", "two are free"),
        NodeCase("if-needed", "0-3,8-9", "", "legacy", 4, "2-3,10-11", "0-1,8-9", "two are missing: whole cores"),
        NodeCase("if-needed", "0-3,8-9", "0-3", "legacy", 4, "8-11", "0-3", "two are missing, and two can be taken"),
        NodeCase("if-needed", "0-3,8-9", "0-3,8", "legacy", 4, "", "0-3,8-9", "three can be given"),
        NodeCase("if-needed", "0-3,8-9", "", "non-preemptive", 4, "", "0-3,8-9", "nothing can be taken"),
        NodeCase("if-needed", "0-3,8-11", "", "legacy", 8, "0-3,8-11", "", "all is taken"),
        NodeCase("always", "0-3,8-9", "", "legacy", 2, "0,8", "1-3,9", "the best CPUs, whoever has them"),
        NodeCase("always", "0-3,8-9", "0-3", "legacy", 2, "8-9", "0-3", "no core can be had whole: the lowest CPUs"),
        NodeCase("never", "0-3,8-9", "", "legacy", 2, "10-11", "0-3,8-9", "two are free"),
        NodeCase("never", "0-3,8-9", "", "legacy", 3, "", "0-3,8-9", "only two are free"),
    ],
)  # fmt: skip
def test_numa_reclaim(case: NodeCase) -> None:
    pools = pools_of(machine_named("two-nodes"), f"numa-reclaim={case.value}")
    ledger = Ledger.of([Claim("others", "isolated", cpus(case.others), cpus(case.explicit), "legacy")], {})
    terms, node = Terms("me", case.policy), NodeCpus(0, cpus("0-3,8-11"))
    if not case.expected:
        with pytest.raises(Refused, match="are held by other services"):
            allocate_in_node(ledger, pools.isolated, terms, node, case.wanted)
        return
    grant = allocate_in_node(ledger, pools.isolated, terms, node, case.wanted)
    after = grant.ledger
    left = after.claims["others"].cpus if "others" in after.claims else EMPTY
    assert (str(grant.cpus), str(left)) == (case.expected, case.left), case.why


@pytest.mark.parametrize("value", ["if-needed", "always"])
def test_isolate_withholds_no_cpu_of_another_service(value: str) -> None:
    # Another service has 8, the sibling of 0, and could lose it.
    pools = pools_of(machine_named("two-nodes"), f"numa-reclaim={value} cpu-thread-policy=isolate")
    ledger = Ledger.of([Claim("others", "isolated", cpus("8"), EMPTY, "legacy")], {})
    grant = allocate_in_node(ledger, pools.isolated, Terms("me"), NodeCpus(0, cpus("0-3,8-11")), 1)
    after = grant.ledger
    withheld = [claim.withheld & other.cpus for claim in after.claims.values() for other in after.claims.values()]
    assert not any(withheld)
    assert Ledger.of(after.claims.values(), {}).claims == after.claims


@pytest.mark.parametrize(
    ("value", "named", "policy", "expected"),
    [
        ("legacy", None, "legacy", "0-3,8-11"),
        ("non-preemptive", None, "non-preemptive", ""),
        ("legacy", "non-preemptive", "non-preemptive", ""),
        ("non-preemptive", "legacy", "legacy", "0-3,8-11"),
    ],
)
def test_default_preemption_policy(value: str, named: PreemptionPolicy | None, policy: str, expected: str) -> None:
    # A new service gets 0,8; then a legacy one wants all of the node.
    pools = pools_of(machine_named("two-nodes"), f"default-preemption-policy={value}")
    grant = allocate(Ledger(), pools.isolated, Terms("first", named), 2)
    assert grant.claim is not None
    assert grant.claim.preemption_policy == policy
    ledger, terms, node = grant.ledger, Terms("second", "legacy"), NodeCpus(0, cpus("0-3,8-11"))
    if expected:
        assert str(allocate_in_node(ledger, pools.isolated, terms, node, 8).cpus) == expected
    else:
        with pytest.raises(Refused, match="CPUs 0,8 are held by other services"):
            allocate_in_node(ledger, pools.isolated, terms, node, 8)


@pytest.mark.parametrize(
    ("value", "node", "size_kb", "expected", "why"),
    [
        ("", 0, 2048, 90, "what the kernel has free"),
        ("0:2048:16", 0, 2048, 84, "90 - 16, of which 10 may be those in use"),
        ("0:2048:10", 0, 2048, 90, "those in use may be the reserved ones"),
        ("0:2048:16", 1, 2048, 90, "another node"),
        ("0:2048:16", 0, 1048576, 90, "another size"),
        ("0:2048:16,1:2048:101", 1, 2048, 0, "more than there are"),
        ("0:2048:16,1:2048:101", 0, 2048, 84, "each node its own"),
    ],
)
def test_reserved_hugepages(value: str, node: int, size_kb: int, expected: int, why: str) -> None:
    settings = parse_settings({"reserved-hugepages": value})
    assert (
        free_pages(Ledger(), Hugepages(size_kb, 100, 90), settings.reserved_pages(node, size_kb), node) == expected
    ), why


@pytest.mark.parametrize(
    ("options", "count", "expected", "why"),
    [
        ("cpu-pool=8-15", 2, "8-9", "cores of one thread: their siblings are in the other pool"),
        ("cpu-pool=8-15", 8, "8-15", "all of it"),
        ("cpu-pool=8-15", 0, "8-13", "6.4 of 8 are 6: a whole node, and two of the next"),
        ("cpu-pool=8-11 reserved-cpus=8", 2, "10-11", "an L3 domain; the other has one left"),
        ("cpu-pool=12", 1, "12", "one CPU"),
        ("cpu-pool=7-9", 1, "cpu-pool overlaps the isolated CPUs 7", "7 is isolated"),
        ("cpu-pool=8-11 reserved-cpus=8-11", 1, "No CPUs available in pool general", "all are reserved"),
        ("cpu-pool=8-11", 5, "Requested: 5, Available: 4", "isolated CPUs are not the general pool's"),
    ],
)
def test_cpu_pool(options: str, count: int, expected: str, why: str) -> None:
    pools = pools_of(replace(made_up(SHAPES["two-nodes"]), isolated=cpus("0-7")), options)
    assert pools.general is not None
    try:
        answer = str(allocate(Ledger(), pools.general, Terms("me"), count).cpus)
    except Refused as refused:
        answer = str(refused)
    assert answer == expected if expected[0].isdigit() else expected in answer, why


def test_without_cpu_pool_there_is_no_general_pool() -> None:
    assert pools_of(machine_named("two-nodes"), "").general is None
