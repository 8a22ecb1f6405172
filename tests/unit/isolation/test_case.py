# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.case import Case, Terms
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.names import IsolatedCpusFrom

_CPU = "sys/devices/system/cpu"


def case_of(terms: Terms | None = None, **files: str) -> Case:
    """A host of 8 CPUs with these lists; `line` is its kernel line, and `partition` the CPUs of isolated partitions."""
    paths = {
        "line": "proc/cmdline",
        "isolated": f"{_CPU}/isolated",
        "nohz_full": f"{_CPU}/nohz_full",
        "online": f"{_CPU}/online",
        "partition": "sys/fs/cgroup/cpuset.cpus.isolated",
    }
    defaults = {"line": "quiet", "isolated": "", "nohz_full": "(null)", "online": "0-7"}
    texts = {paths[name]: f"{text}\n" for name, text in (defaults | files).items()}
    return Case(read_facts(RecordedHost(texts), 0.0), terms=terms or Terms())


@pytest.mark.parametrize(("option", "cpus"), [("isolcpus", "2-3"), ("nohz_full", "4-5"), ("cpuset", "6-7")])
def test_the_option_names_the_list_that_is_in_force(option: IsolatedCpusFrom, cpus: str) -> None:
    case = case_of(Terms(isolated_cpus_from=option), isolated="2-3", nohz_full="4-5", partition="6-7")
    assert (str(case.in_force), str(case.isolated)) == (cpus, cpus)


def test_a_list_of_the_option_that_is_empty_has_no_substitute_in_force() -> None:
    assert not case_of(Terms(isolated_cpus_from="cpuset"), isolated="2-3").in_force


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, ""),
        ({"nohz_full": "2-3"}, "2-3"),
        ({"partition": "4"}, "4"),
        ({"line": "isolcpus=managed_irq,5-6"}, "5-6"),
        ({"line": "isolcpus=2-99"}, "2-7"),  # of a parameter that the kernel drops, the CPUs that there are
        ({"line": "isolcpus=2-3", "nohz_full": "3-4", "partition": "7"}, "2-4,7"),
    ],
)
def test_cpus_that_somebody_meant_to_isolate_are_judged_if_none_is_in_force(files: dict[str, str], cpus: str) -> None:
    case = case_of(None, **files)
    assert (str(case.isolated), str(case.housekeeping)) == (cpus, str(CpuSet.parse("0-7") - CpuSet.parse(cpus)))


def test_offline_cpus_are_not_judged() -> None:
    case = case_of(isolated="2-3,6", online="0-3,5")
    assert (str(case.isolated), str(case.housekeeping)) == ("2-3", "0-1,5")


def test_only_the_cpus_that_were_asked_for_are_judged_and_all_others_stay_isolated() -> None:
    case = case_of(Terms(only=CpuSet.parse("3,7")), isolated="2-3")
    assert (str(case.isolated), str(case.in_force), str(case.housekeeping)) == ("3", "2-3", "0-1,4-7")


def test_a_kernel_line_that_cannot_be_read_names_no_cpus() -> None:
    case = Case(read_facts(RecordedHost({f"{_CPU}/online": "0-3\n"}), 0.0))
    assert (case.line.text, str(case.isolated)) == ("", "")
