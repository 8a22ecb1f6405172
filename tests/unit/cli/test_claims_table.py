# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The table of claims looks the same as here at every width, and breaks no CPU list but at commas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.cli.claims_table import Columns, allocations, claims, csv
from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.holdings import holdings, ordered
from epa_orchestrator.cli.places import Places
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.protocol.answers import Allocation
from tests.unit.cli.test_fitted_table import shown
from tests.unit.cli.test_holdings import claim, listing
from tests.unit.cli.test_places import machine

SCATTERED = str(CpuSet(range(100, 1000, 2)))
HYPERVISOR = claim("openstack-hypervisor", "2,4,6,8,10", "3,5,7,9,11")
OVS = claim("ovs-dpdk", "12-13", is_explicit=True, preemption_policy="non-preemptive")
VMS = (claim("vm-10", "14"), claim("vm-2", "15"))


def table(columns: Columns = "needed") -> FittedTable:
    found = listing(HYPERVISOR, OVS, *VMS)
    held = holdings([found], Places(machine(free="")))
    return claims([found], ordered(held), held, "Pool isolated", columns)


_BOXED = """\
Pool isolated
┏━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━┳━━━━━━━┳━━━━┳━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━━━━━┓
┃ Service              ┃ CPUs       ┃ Count ┃ Nodes ┃ L3 ┃ Shared ┃ Withheld   ┃ By node ┃ Preemption     ┃
┡━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━╇━━━━━━━╇━━━━╇━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━━━━━┩
│ openstack-hypervisor │ 2,4,6,8,10 │ 5     │ 0-1   │ 3  │ 0      │ 3,5,7,9,11 │ no      │ legacy         │
│ ovs-dpdk             │ 12-13      │ 2     │ 1     │ 1  │ 0      │            │ yes     │ non-preemptive │
│ vm-2                 │ 15         │ 1     │ 1     │ 1  │ 1      │            │ no      │ legacy         │
│ vm-10                │ 14         │ 1     │ 1     │ 1  │ 1      │            │ no      │ legacy         │
└──────────────────────┴────────────┴───────┴───────┴────┴────────┴────────────┴─────────┴────────────────┘
Pool isolated: 14 CPUs = 9 claimed + 0 free + 5 withheld
"""
GOLDEN = {
    80: """\
Pool isolated
                                                            By
Service          CPUs   Count  Nodes  L3  Shared  Withheld  node  Preemption
openstack-       2,4,   5      0-1    3   0       3,5,7,9,  no    legacy
hypervisor       6,8,                             11
                 10
ovs-dpdk         12-13  2      1      1   0                 yes   non-preemptive
vm-2             15     1      1      1   1                 no    legacy
vm-10            14     1      1      1   1                 no    legacy
Pool isolated: 14 CPUs = 9 claimed + 0 free + 5 withheld
""",
    120: _BOXED,
    200: _BOXED,
}
COLUMNS = """\
SERVICE               CPUS        COUNT  POOL      NODES  L3  PACKAGES  SHARED  WITHHELD    UNAVAILABLE  BY NODE  PREEMPTION
openstack-hypervisor  2,4,6,8,10  5      isolated  0-1    3   2         0       3,5,7,9,11  -            no       legacy
ovs-dpdk              12-13       2      isolated  1      1   1         0       -           -            yes      non-preemptive
vm-2                  15          1      isolated  1      1   1         1       -           -            no       legacy
vm-10                 14          1      isolated  1      1   1         1       -           -            no       legacy

Pool isolated: 14 CPUs = 9 claimed + 0 free + 5 withheld
"""  # noqa: E501
#: At 40 columns.
NARROW = """\
Pool isolated
Service           CPUs   Count  Withheld
openstack-        2,4,   5      3,5,7,9,
hypervisor        6,8,          11
                  10
ovs-dpdk          12-13  2
vm-2              15     1
vm-10             14     1
Pool isolated: 14 CPUs = 9 claimed +
  0 free + 5 withheld
Left out on this narrow terminal: Pool,
  Nodes, L3, Packages, Shared, By node,
  Preemption
"""


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("width", GOLDEN)
def test_golden_table(width: int) -> None:
    assert lines_of(shown(table(), width)) == GOLDEN[width].splitlines()


def test_golden_columns_for_a_program() -> None:
    assert table("all").plain() + "\n" == COLUMNS


def drawn_cpus(cpus: str, width: int) -> list[str]:
    """The items of a CPU list, from the second column of a drawn table."""
    made = FittedTable(("Service", "CPUs"), "Claims")
    made.add_row("nova", cpus)
    lines = shown(made, width).splitlines()
    assert all(len(line) <= width for line in lines)
    cells = [line.split("│")[2].strip() for line in lines if line.startswith("│")]
    assert all(cell.endswith(",") for cell in cells[:-1])
    return ",".join(cell.rstrip(",") for cell in cells).split(",")


@pytest.mark.parametrize("width", [80, 120, 200])
def test_list_of_hundreds_of_cpus_is_whole(width: int) -> None:
    assert drawn_cpus(SCATTERED, width) == SCATTERED.split(",")


@given(st.sets(st.integers(0, 65_535), min_size=1, max_size=600).map(CpuSet), st.integers(40, 200))
def test_no_cpu_list_is_broken_inside_an_item(cpus: CpuSet, width: int) -> None:
    assert drawn_cpus(str(cpus), width) == str(cpus).split(",")


@given(st.sets(st.integers(0, 1023), min_size=1).map(CpuSet), st.integers(30, 200))
def test_no_line_is_wider_than_the_terminal(cpus: CpuSet, width: int) -> None:
    found = listing(claim("openstack-hypervisor", str(cpus)), configured="0-1023", eligible="0-1023")
    assert all(len(line) <= width for line in shown(allocations(found), width).splitlines())


def test_natural_order_of_names() -> None:
    assert [row[0] for row in table().rows] == ["openstack-hypervisor", "ovs-dpdk", "vm-2", "vm-10"]


def test_totals_are_a_sum_with_every_state() -> None:
    found = listing(claim("a", "2,14"), claim("b", "4", "5"), claim("c", "16"), configured="2-15", eligible="2-13")
    assert allocations(found).notes == [
        "Pool isolated: 14 CPUs = 2 claimed + 9 free + 1 withheld + 1 unavailable + 1 not usable",
        "Claimed, but no longer in pool isolated: 16",
    ]


def test_unavailable_cpus_have_a_column_when_there_are_some() -> None:
    found = listing(claim("a", "2,14"), claim("b", "4"), eligible="2-13")
    made = allocations(found)
    column = made.headings.index("Unavailable")
    assert [row[column] for row in made.rows] == ["14", ""]


def test_both_pools_are_in_one_table() -> None:
    general = listing(claim("osd", "0", pool="general"), pool="general", configured="0-1", eligible="0-1")
    found = [listing(*VMS), general]
    held = holdings(found)
    made = claims(found, ordered(held), held)
    assert [row[:4] for row in made.rows] == [
        ["osd", "0", "1", "general"],
        ["vm-2", "15", "1", "isolated"],
        ["vm-10", "14", "1", "isolated"],
    ]
    assert [note.partition(":")[0] for note in made.notes] == ["Pool isolated", "Pool general"]


def test_table_of_some_claims_says_how_many_there_are() -> None:
    found = listing(HYPERVISOR, OVS, *VMS)
    held = holdings([found])
    assert claims([found], held[:1], held).notes[0] == "1 of 4 claims shown"


def test_wide_table_has_all_columns_of_csv_that_say_something() -> None:
    assert table("wide").headings == [
        *("Service", "CPUs", "Count", "Pool", "Nodes", "L3", "Packages", "Shared", "Withheld", "By node", "Preemption")
    ]


def test_csv() -> None:
    found = listing(claim('a "b", c', "2,4", "3"))
    assert csv(holdings([found])) == (
        "service,cpus,count,pool,numa_nodes,l3_domains,packages,shared_cores,withheld_cpus,unavailable_cpus,by_node,"
        'preemption_policy\n"a ""b"", c","2,4",2,isolated,,,,,3,,no,legacy\n'
    )


@pytest.mark.parametrize("claimed", [(), VMS, (HYPERVISOR, OVS)])
def test_all_columns_are_the_same_whatever_the_claims_are(claimed: tuple[Allocation, ...]) -> None:
    found = listing(*claimed)
    held = holdings([found])
    assert claims([found], held, held, columns="all").headings == [
        *("Service", "CPUs", "Count", "Pool", "Nodes", "L3", "Packages", "Shared", "Withheld", "Unavailable"),
        *("By node", "Preemption"),
    ]


def test_narrow_terminal_leaves_out_columns_rather_than_a_row_for_each_claim() -> None:
    assert lines_of(shown(table("wide"), 40)) == NARROW.splitlines()
