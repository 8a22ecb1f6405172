# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tables show the values of the answers, and nothing in them acts on the terminal."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console, RenderableType

from epa_orchestrator.cli import claims_table, show, tables
from epa_orchestrator.cli.show import folded
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.hugepages import Hugepages
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.names import PreemptionPolicy
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.answers import (
    Allocation,
    LeftOut,
    Listing,
    MemoryAnswer,
    NodeHugepages,
    PageCapacity,
    PoolSummary,
)
from epa_orchestrator.protocol.history import HistoryEvent
from epa_orchestrator.state.events import Event
from tests.machines import made_up
from tools.synthetic import Shape, build

#: Names that could colour, clear, retitle or reverse a terminal, or act as Rich's markup.
HOSTILE = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b2J",
    "a\rb",
    "a\nb",
    "a\bb",
    "\u202egnp.exe",
    "\x00",
    "[red]x[/red]",
    "[/]",
    "[link=file:///etc/passwd]x[/link]",
    ":smile:",
    "\\[b]",
)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Any:  # pyright: ignore[reportUnusedFunction]
    """The history shows local time."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def shown(*parts: RenderableType, width: int = 200) -> str:
    """The text on a terminal without colours, so any escape comes from a name."""
    written = io.StringIO()
    terminal = Console(file=written, width=width, force_terminal=True, color_system=None, markup=False, highlight=False)
    for part in parts:
        terminal.print(folded(part, width) if isinstance(part, str) else part, emoji=False)
    return written.getvalue()


def rows(*parts: RenderableType) -> list[list[str]]:
    """The cells of a table's body."""
    return rows_of(shown(*parts))


def rows_of(text: str) -> list[list[str]]:
    lines = text.splitlines()
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]


def headings(table: RenderableType) -> list[str]:
    (line,) = (line for line in shown(table).splitlines() if line.startswith("┃"))
    return [cell.strip() for cell in line.strip("┃").split("┃")]


def allocation(
    name: str = "a", cpus: str = "2-3", explicit: bool = False, policy: PreemptionPolicy = "legacy"
) -> Allocation:
    return Allocation(
        service_name=name,
        pool="isolated",
        allocated_cores=cpus,
        cores_count=2,
        is_explicit=explicit,
        preemption_policy=policy,
    )


def listing(*allocations: Allocation) -> Listing:
    return Listing(
        pool="isolated",
        total_allocations=len(allocations),
        total_allocated_cpus=2 * len(allocations),
        total_available_cpus=6,
        remaining_available_cpus=6 - 2 * len(allocations),
        cpu_pool=PoolSummary(
            source="isolated", configured_cpus="2-7", eligible_cpus="2-7", unavailable_allocated_cpus=""
        ),
        allocations=list(allocations),
    )


def event(name: str, before: dict[str, object] | None, after: dict[str, object] | None) -> HistoryEvent:
    found = Event(1, 86_400.5, Peer(4711, 1000, 1001), "allocate_cores", name, before, after)
    return HistoryEvent(**found.document())


def claim(cpus: str, explicit: str = "", policy: str = "legacy", pool: str = "isolated") -> dict[str, object]:
    return {"pool": pool, "cpus": cpus, "explicit": explicit, "policy": policy}


def test_allocations() -> None:
    table = claims_table.allocations(
        listing(allocation("nova"), allocation("ovs", "4,7", explicit=True, policy="non-preemptive"))
    )
    assert rows(table) == [["nova", "2-3", "2", "no", "legacy"], ["ovs", "4,7", "2", "yes", "non-preemptive"]]
    text = shown(table)
    assert "Pool isolated" in text
    assert "Pool isolated: 6 CPUs = 4 claimed + 2 free + 0 withheld" in text


def test_withheld_cpus_have_a_column_only_when_there_are_some() -> None:
    withholding = allocation("ovs").model_copy(update={"withheld_cpus": "10-11"})
    table = claims_table.allocations(listing(allocation("nova", "4,7"), withholding))
    assert rows(table) == [["nova", "4,7", "2", ""], ["ovs", "2-3", "2", "10-11"]]
    assert "Withheld" in shown(table)
    assert "Withheld" not in shown(claims_table.allocations(listing(allocation("nova"))))


def test_outdated_placements_are_listed_below_the_table() -> None:
    found = listing(allocation("nova"), allocation("ovs", "4,7"))
    assert "differently" not in shown(claims_table.allocations(found))
    outdated = found.model_copy(update={"outdated_placements": ("nova", "ovs")})
    text = " ".join(shown(claims_table.allocations(outdated)).split())
    assert text.endswith("+ 0 withheld The current settings would place these differently: nova, ovs")


def test_no_allocations() -> None:
    table = claims_table.allocations(listing())
    assert rows(table) == []
    assert "6 CPUs = 0 claimed + 6 free + 0 withheld" in shown(table)


def test_hugepages() -> None:
    answer = MemoryAnswer(
        service_name="",
        numa_hugepages={
            "node0": NodeHugepages(
                capacity=[PageCapacity(total=64, free=58, size=2048), PageCapacity(total=2, free=0, size=1048576)],
                allocations={"a": {"2048": 4, "1048576": 2}, "b": {"2048": 2}},
            ),
            "node1": NodeHugepages(capacity=[], allocations={}),
        },
    )
    assert rows(tables.hugepages(answer)) == [
        ["node0", "2M", "64", "58", "a: 4, b: 2"],
        ["node0", "1G", "2", "0", "a: 2"],
        ["node1", "", "0", "0", ""],
    ]


def test_nodes_and_sizes_that_a_long_answer_leaves_out_are_below_the_table() -> None:
    left_out = LeftOut(sizes_kb={"1048576": "0-1,3"}, nodes="4-7")
    text = shown(tables.hugepages(MemoryAnswer(service_name="", numa_hugepages={}, left_out=left_out)))
    assert " ".join(text.split()).endswith("No pages on nodes 4-7; of 1G on nodes 0-1,3")


def test_table_of_hugepages_takes_linear_time() -> None:
    def seconds(count: int) -> float:
        records = {"a": {str(size): 1 for size in range(1, count)}, **{f"s{n}": {"1": 1} for n in range(count)}}
        pages = NodeHugepages(capacity=[], allocations=records)
        answer = MemoryAnswer(service_name="", numa_hugepages={"node0": pages})
        begin = time.process_time()
        tables.hugepages(answer)
        return time.process_time() - begin

    assert min(seconds(4000) for _ in range(3)) < 8 * min(seconds(1000) for _ in range(3))


def test_records_of_a_size_that_is_gone_are_shown() -> None:
    """An operator has to see such a record to remove it."""
    gone = NodeHugepages(capacity=[], allocations={"a": {"2048": 4}})
    assert rows(tables.hugepages(MemoryAnswer(service_name="", numa_hugepages={"node3": gone}))) == [
        ["node3", "2M", "gone", "0", "a: 4"]
    ]


def test_machine() -> None:
    found = made_up(
        Shape(packages=2, l3_per_node=2, cores_per_l3=2, threads_per_core=2, isolated="1-3,9-11", offline="15")
    )
    pages = {0: (Hugepages(2048, 8, 3), Hugepages(1048576, 1, 0)), 1: ()}
    summary, nodes = tables.machine(found, pages)
    assert rows(summary) == [
        ["CPUs online", "15 of 16: 0-14"],
        ["CPUs isolated", "1-3,9-11"],
        ["Packages", "2"],
        ["Cores", "8, 1/2 threads each"],
        ["L3 domains", "4"],
        ["NUMA nodes", "2"],
    ]
    assert rows(nodes) == [
        ["0", "0-3,8-11", "2", "64G", "10 32", "8 x 2M (3 free), 1 x 1G (0 free)"],
        ["1", "4-7,12-14", "2", "64G", "32 10", "none"],
    ]


def test_machine_without_isolated_cpus_l3_and_memory() -> None:
    files = build(Shape(cores_per_l3=2, l3_scope="none"))
    del files["devices/system/node/node0/meminfo"]
    summary, nodes = tables.machine(read_machine(RecordedSysfs(files)), {0: ()})
    facts = dict(rows(summary))
    assert facts["CPUs isolated"] == "none"
    assert facts["L3 domains"] == "unknown"
    assert rows(nodes) == [["0", "0-1", "0", "?", "10", "none"]]


def test_hybrid_machine() -> None:
    files = build(Shape(cores_per_l3=3)) | {"devices/cpu_core/cpus": "0", "devices/cpu_atom/cpus": "1-2"}
    summary, _ = tables.machine(read_machine(RecordedSysfs(files)), {0: ()})
    assert dict(rows(summary))["Cores"] == "3, 1 thread each (1 performance, 2 efficiency)"


def test_machine_with_l2_clusters() -> None:
    summary, _ = tables.machine(made_up(Shape(cores_per_l3=8, cores_per_l2=4)), {0: ()})
    assert dict(rows(summary))["L2 clusters"] == "2, cores that share an L2 cache"


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", ":smile:", "\\[b]", "http://x.y 127.0.0.1 None True"])
def test_console_prints_text_unchanged(text: str) -> None:
    assert shown(text) == f"{text}\n"


def test_console_does_not_colour_numbers_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown("http://x.y 127.0.0.1 2-7 None True 'text'") == "http://x.y 127.0.0.1 2-7 None True 'text'\n"


def test_plain_text_has_110_columns_in_every_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "20")
    table = claims_table.allocations(listing(allocation("nova"), allocation("n" * 200)))
    text = show.plain(table, "[red]CPUs 2-7[/red] :smile: " + "x" * 60)
    assert all(line.isprintable() for line in text.splitlines())
    assert max(map(len, text.splitlines())) == 110
    assert text.splitlines()[0].rstrip() == "Pool isolated"
    assert text.endswith("\n[red]CPUs 2-7[/red] :smile: " + "x" * 60)
    assert [line.split()[1] for line in text.splitlines() if line.startswith("│ nova")] == ["nova"]


def test_plain_text_holds_all_tables() -> None:
    answer = MemoryAnswer(service_name="", numa_hugepages={"node0": NodeHugepages(capacity=[], allocations={})})
    text = show.plain(claims_table.allocations(listing(allocation("nova"))), tables.hugepages(answer))
    assert text.index("Pool isolated") < text.index("nova") < text.index("Hugepages") < text.index("node0")


def hostile_tables(name: str) -> list[RenderableType]:
    pages = NodeHugepages(capacity=[PageCapacity(total=1, free=1, size=2048)], allocations={name: {"2048": 1}})
    return [
        claims_table.allocations(listing(allocation(name))),
        tables.hugepages(MemoryAnswer(service_name="", numa_hugepages={"node0": pages})),
        tables.hugepages(MemoryAnswer(service_name="", numa_hugepages={name: pages})),
        tables.hugepages(
            MemoryAnswer(service_name="", numa_hugepages={name: NodeHugepages(capacity=[], allocations={})})
        ),
        claims_table.allocations(listing(allocation("a")).model_copy(update={"outdated_placements": (name,)})),
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_does_not_act_on_the_terminal(name: str) -> None:
    expected = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    for table in hostile_tables(name):
        text = shown(table)
        assert all(line.isprintable() for line in text.split("\n")), text
        assert expected in text


def test_long_names_and_lists_are_folded() -> None:
    """A narrow terminal still shows every CPU of a scattered list."""
    cpus = ",".join(str(cpu) for cpu in range(0, 200, 2))
    text = shown(claims_table.allocations(listing(allocation("n" * 255, cpus))), width=80)
    cells = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    assert "".join(row[0].strip() for row in cells) == "n" * 255
    assert "".join(row[1].replace(" ", "") for row in cells) == cpus
    assert all(len(line) <= 80 for line in text.splitlines())
