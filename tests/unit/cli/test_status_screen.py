# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`status` says whether all is well, shows each pool and NUMA node, and what to do about each problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from epa_orchestrator.cli.fitted_table import FittedTable
from epa_orchestrator.cli.not_usable import about_not_usable
from epa_orchestrator.cli.status_screen import Status, document, parts, problems
from epa_orchestrator.protocol.answers import Listing, MemoryAnswer
from tests.unit.cli.test_fitted_table import shown
from tests.unit.cli.test_holdings import claim, listing
from tests.unit.cli.test_places import machine

PAGES: dict[str, Any] = {
    "node0": {"capacity": [{"total": 8, "free": 5, "size": 2048}, {"total": 0, "free": 0, "size": 1 << 20}]},
    "node1": {"capacity": [{"total": 2, "free": 2, "size": 1 << 20}]},
}
MEMORY = MemoryAnswer.model_validate(
    {"service_name": "", "numa_hugepages": {name: {"allocations": {}} | pages for name, pages in PAGES.items()}}
)
FOUND = listing(claim("a", "2,8"), claim("b", "4", "5"))
MACHINE = machine(claimed="2,4,8", free="3,6-7,9-15", withheld="5", reserved="0-1")


def status(*listings: Listing, known: bool = True) -> Status:
    answer = MACHINE.model_copy(update={"daemon_version": "1.2.3"}) if known else None
    return Status("/run/epa.sock", listings or (FOUND,), answer, MEMORY)


def lines(found: Status) -> list[str]:
    return [part for part in parts(found) if isinstance(part, str)]


def tables(found: Status) -> list[FittedTable]:
    return [part for part in parts(found) if isinstance(part, FittedTable)]


def test_first_line_says_that_all_is_well() -> None:
    assert lines(status()) == ["epa-orchestrator 1.2.3: all is well", "serving at /run/epa.sock"]


def test_failed_checks_of_the_isolation_are_named_with_the_command() -> None:
    found = replace(status(), failed_checks=["B3", "D2"])
    assert lines(found) == [
        "epa-orchestrator 1.2.3: all is well, but isolated CPUs are disturbed, see below",
        "serving at /run/epa.sock",
        "note: isolated CPUs are disturbed: checks B3, D2 fail. See what to do: sudo epa-orchestrator audit",
    ]
    assert document(found)["ok"] is True
    assert document(found)["notes"] == [lines(found)[-1].removeprefix("note: ")]


def test_services_with_hugepages_only_are_counted() -> None:
    node = MEMORY.numa_hugepages["node0"].model_copy(update={"allocations": {"hp": {"2048": 1}, "a": {"2048": 2}}})
    found = Status("/run/epa.sock", (FOUND,), MACHINE, MEMORY.model_copy(update={"numa_hugepages": {"node0": node}}))
    assert lines(found)[2] == "2 services, 1 more with hugepages only"
    assert document(found)["hugepages_only"] == ["hp"]


def test_nodes() -> None:
    _, nodes = tables(status())
    assert nodes.headings == ["Node", "CPUs", "Claimed", "Free", "Withheld", "In no pool", "Free 2M", "Free 1G"]
    assert nodes.rows == [
        ["0", "8", "2", "3", "1", "2", "5 of 8", "0 of 0"],
        ["1", "8", "1", "7", "0", "0", "0 of 0", "2 of 2"],
    ]


def test_nodes_without_other_cpus_have_no_column_for_them() -> None:
    answer = machine(claimed="2,4,8", free="0-1,3,6-7,9-15", withheld="5")
    _, nodes = tables(Status("/run/epa.sock", (FOUND,), answer, MEMORY))
    assert nodes.headings == ["Node", "CPUs", "Claimed", "Free", "Withheld", "Free 2M", "Free 1G"]
    assert nodes.rows[0] == ["0", "8", "2", "5", "1", "5 of 8", "0 of 0"]


def test_pools() -> None:
    pools, _ = tables(status())
    assert pools.headings == ["Pool", "CPUs", "Claimed", "Free", "Withheld", "Services", "CPU list"]
    assert pools.rows == [["isolated", "14", "3", "10", "1", "2", "2-15"]]


def test_older_daemon_has_no_version_and_no_nodes() -> None:
    found = status(known=False)
    assert lines(found)[0] == "epa-orchestrator (version unknown): all is well"
    assert len(tables(found)) == 1
    assert "nodes" not in document(found)


def test_each_problem_is_a_line_below() -> None:
    found = status(FOUND.model_copy(update={"warnings": ("one", "two")}))
    assert lines(found)[0] == "epa-orchestrator 1.2.3: 2 problems, see below"
    assert lines(found)[-2:] == ["warning: one", "warning: two"]
    assert (document(found)["ok"], document(found)["problems"]) == (False, ["one", "two"])


def test_problem_of_both_pools_is_named_once() -> None:
    twice = [FOUND.model_copy(update={"warnings": ("one",)}), listing(pool="general", warnings=("one",))]
    assert problems(status(*twice)) == ["one"]


def test_read_only_daemon_is_the_first_problem() -> None:
    found = FOUND.model_copy(update={"warnings": ("one",), "state_error": "it is broken"})
    assert problems(status(found)) == ["READ-ONLY: it is broken", "one"]


def test_unavailable_cpus_of_one_service_have_the_command_for_it() -> None:
    (sentence,) = problems(status(listing(claim("vm-2", "2,15"), eligible="2-13")))
    assert sentence.endswith("restart the service after this command: epa-orchestrator release vm-2")


def test_unavailable_cpus_name_their_services_and_the_remedy() -> None:
    found = status(listing(claim("vm-10", "14"), claim("vm-2", "2,15"), eligible="2-13"))
    (sentence,) = problems(found)
    assert sentence.startswith("claimed CPUs are offline or no longer in their pool: 15 of 'vm-2', 14 of 'vm-10'. ")
    assert sentence.endswith("restart the services after this command: epa-orchestrator release SERVICE")
    pools, _ = tables(found)
    assert pools.headings[5:7] == ["Unavailable", "Not usable"]


def test_many_unavailable_claims_are_counted() -> None:
    found = listing(*(claim(f"vm-{cpu}", str(cpu)) for cpu in range(20, 30)))
    (sentence,) = problems(status(found))
    assert "24 of 'vm-24' and those of 5 more services." in sentence


def test_no_cpus_at_all_are_a_problem() -> None:
    (sentence,) = problems(status(listing(configured="", eligible="")))
    assert "isolcpus=" in sentence


def test_outdated_placements_are_a_note() -> None:
    found = status(FOUND.model_copy(update={"outdated_placements": ("vm-10", "vm-2")}))
    assert lines(found)[0].endswith(": all is well")
    assert lines(found)[-1].startswith("note: the current settings would place 2 services differently: vm-2, vm-10. ")


def test_cpus_in_no_numa_node_have_a_row_of_their_own() -> None:
    answer = machine(claimed="2", free="3-15", unavailable="16")
    answer.machine.nodes.pop(0)
    found = Status("/run/epa.sock", (FOUND,), answer, MEMORY)
    _, nodes = tables(found)
    assert nodes.headings[:7] == ["Node", "CPUs", "Claimed", "Free", "Withheld", "Unavailable", "In no pool"]
    assert [row[:7] for row in nodes.rows] == [
        ["1", "8", "0", "8", "0", "0", "0"],
        ["none", "9", "1", "5", "0", "1", "2"],
    ]
    assert document(found)["nodes"][-1] == (
        {"id": None, "cpus": 9, "claimed": 1, "free": 5, "withheld": 0, "unavailable": 1, "not_usable": 0}
        | {"hugepages": []}
    )


#: The pool has CPUs 2-19. Of these 16-19 do not exist, and 14-15 are offline.
PARTLY = listing(claim("a", "2,8"), configured="2-19", eligible="2-13")


def partly() -> Status:
    answer = machine(claimed="2,8", free="3-7,9-13", offline="14-15")
    answer.machine.online = "0-13"
    answer.machine.nodes[1].cpus = "8-13"
    return Status("/run/epa.sock", (PARTLY,), answer, MEMORY)


def test_first_line_says_that_cpus_cannot_be_used() -> None:
    assert lines(partly())[0].endswith(": all is well, but 6 CPUs cannot be used, see below")
    assert document(partly())["ok"] is True


def test_cpus_that_are_not_usable_are_named_in_notes() -> None:
    notes = [sentence for total in partly().totals for sentence in about_not_usable(total, partly().machine)]
    assert len(notes) == 2
    assert lines(partly())[-2:] == [f"note: {note}" for note in notes]
    assert document(partly())["notes"] == notes
    assert document(partly())["pools"]["isolated"]["not_usable_cpus"] == "14-19"


def test_pools_and_nodes_count_the_same_cpus_as_not_usable() -> None:
    pools, nodes = tables(partly())
    assert (pools.headings[6], pools.rows[0][6]) == ("Not usable", "6")
    assert nodes.headings[:7] == ["Node", "CPUs", "Claimed", "Free", "Withheld", "Not usable", "In no pool"]
    assert [row[:7] for row in nodes.rows] == [
        ["0", "8", "1", "5", "0", "0", "2"],
        ["1", "6", "1", "5", "0", "0", "0"],
        ["none", "6", "0", "0", "0", "6", "0"],
    ]


def test_narrow_terminal_leaves_out_columns() -> None:
    shown_lines = [shown(each, 40) for each in tables(status())]
    assert all("│" not in text and "Left out on this narrow" in text for text in shown_lines)
