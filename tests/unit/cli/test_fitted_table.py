# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tables fit terminals of every width, and break no number in two."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console, RenderableType

from epa_orchestrator.cli import changes as changes_shown
from epa_orchestrator.cli import claims_table, tables
from epa_orchestrator.cli.explanations import explanation as explained
from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.show import folded
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.protocol.answers import MemoryAnswer, NodeHugepages, PageCapacity
from tests.machines import made_up
from tests.unit.cli.test_explanations import explanation, scope
from tests.unit.cli.test_tables import allocation, claim, event, listing
from tools.synthetic import Shape

#: CPUs that are interleaved over the packages, as on many hosts: the list has no ranges.
SCATTERED = ",".join(str(cpu) for cpu in range(4, 712, 2))
RANGES = ",".join(f"{cpu}-{cpu + 1}" for cpu in range(65000, 65500, 4))
WIDTHS = (40, 60, 80, 110, 200)


def shown(part: RenderableType, width: int) -> str:
    written = io.StringIO()
    terminal = Console(
        file=written, width=width, force_terminal=True, color_system=None, markup=False, highlight=False, emoji=False
    )
    terminal.print(folded(part, width) if isinstance(part, str) else part)
    return written.getvalue()


def words(text: str) -> list[str]:
    """All words in the cells of a table and around it."""
    return re.split(r"[\s│┃,()]+", text)


def claims() -> list[RenderableType]:
    withholding = allocation("ceph-osd-12", RANGES).model_copy(update={"withheld_cpus": SCATTERED})
    return [
        claims_table.allocations(listing(allocation("openstack-hypervisor", SCATTERED, policy="non-preemptive"))),
        claims_table.allocations(listing(allocation("nova", SCATTERED), withholding)),
    ]


def changes() -> list[RenderableType]:
    held = claim(RANGES, "65000", "non-preemptive", "general") | {"withheld": SCATTERED}
    pages: dict[str, object] = {"node_id": 131, "size_kb": 1048576, "hugepages": 1048575}
    return [changes_shown.table([event("nova", claim(SCATTERED), held), event("ovs-dpdk", pages, None)])]


def explanations() -> list[RenderableType]:
    candidates = [scope("100,102,104", SCATTERED, lowest_cpu=65535, numa_nodes=100) for _ in range(3)]
    found = explanation(*candidates, decided_by=f"CPUs {SCATTERED} are taken from other services' legacy claims.")
    return list(explained(found, refused=False))


def pages() -> list[RenderableType]:
    capacity = [PageCapacity(total=1048576, free=1048575, size=2048), PageCapacity(total=16, free=10, size=1048576)]
    records = {"openstack-hypervisor": {"2048": 1048570, "1048576": 12}, "ovs-dpdk": {"2048": 100200}}
    answer = MemoryAnswer(
        service_name="", numa_hugepages={"node131": NodeHugepages(capacity=capacity, allocations=records)}
    )
    return [tables.hugepages(answer)]


def machines() -> list[RenderableType]:
    isolated = str(CpuSet(range(1, 512, 2)))
    found = made_up(Shape(packages=2, l3_per_node=8, cores_per_l3=16, threads_per_core=2, isolated=isolated))
    return list(tables.machine(found, {0: (Hugepages(2048, 1048576, 1048575), Hugepages(1048576, 64, 63)), 1: ()}))


ALL = (claims, changes, explanations, pages, machines)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("parts", ALL)
def test_no_number_is_broken(parts: Callable[[], list[RenderableType]], width: int) -> None:
    for part in parts():
        whole = {word for word in words(shown(part, 100_000)) if word[:1].isdecimal()}
        assert {word for word in words(shown(part, width)) if word[:1].isdecimal()} == whole


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("parts", ALL)
def test_no_line_is_wider_than_the_terminal(parts: Callable[[], list[RenderableType]], width: int) -> None:
    assert all(len(line) <= width for part in parts() for line in shown(part, width).splitlines())


def small(width: int, heading: str = "Service") -> str:
    table = FittedTable((heading, "CPUs"), "Pool", "2 CPUs")
    table.add_row("ovs-dpdk-control", "2,4,10-12")
    table.add_row("nova", "6")
    return "\n".join(line.rstrip() for line in shown(table, width).splitlines())


def test_wide_table_has_one_row_for_each_record() -> None:
    assert small(100) == (
        "Pool\n"
        "┏━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━┓\n"
        "┃ Service          ┃ CPUs      ┃\n"
        "┡━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━┩\n"
        "│ ovs-dpdk-control │ 2,4,10-12 │\n"
        "│ nova             │ 6         │\n"
        "└──────────────────┴───────────┘\n"
        "2 CPUs"
    )


def test_lines_go_before_a_name_is_folded_to_less_than_16_columns() -> None:
    assert "│ ovs-dpdk-control │ 2,4,  │\n" in small(28)
    assert small(27) == "Pool\nService           CPUs\novs-dpdk-control  2,4,10-12\nnova              6\n2 CPUs"


def test_name_is_folded_at_a_joint_when_there_is_no_room_for_it() -> None:
    assert "ovs-dpdk-  2,4,\ncontrol    10-12\n" in small(16)


def test_narrow_table_has_one_row_for_each_cell() -> None:
    assert small(14, "Owners") == (
        "Pool\n"
        "┌─────┬──────┐\n"
        "│ Own │ ovs- │\n"
        "│ ers │ dpdk │\n"
        "│     │ -    │\n"
        "│     │ cont │\n"
        "│     │ rol  │\n"
        "│ CPU │ 2,4, │\n"
        "│ s   │ 10-  │\n"
        "│     │ 12   │\n"
        "├─────┼──────┤\n"
        "│ Own │ nova │\n"
        "│ ers │      │\n"
        "│ CPU │ 6    │\n"
        "│ s   │      │\n"
        "└─────┴──────┘\n"
        "2 CPUs"
    )


def test_narrow_table_without_records_has_its_title() -> None:
    assert shown(FittedTable(("Service", "CPUs"), "Pool"), 14).startswith("Pool")


@pytest.mark.parametrize("width", [1, 2, 5, 10])
def test_absurd_width_raises_no_error(width: int) -> None:
    assert shown(claims()[0], width)
