# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.findings import CHECKS
from epa_orchestrator.isolation.host_files import HostFiles, HostTree, RecordedHost, Unread
from epa_orchestrator.isolation.judge import judge
from tests.isolated_hosts import IsolatedHost


def test_the_facts_have_the_time_of_the_reading_and_of_the_boot() -> None:
    files = {"proc/uptime": "350735.47 234388.90\n", "proc/sys/kernel/random/boot_id": "5c2a\n"}
    facts = read_facts(RecordedHost(files), 17.5)
    assert (facts.at, facts.uptime, facts.boot_id) == (17.5, 350735.47, "5c2a")


@pytest.mark.parametrize("text", ["", "\n", "soon", "-", "\x00"])
def test_an_uptime_that_is_no_number_counts_as_missing(text: str) -> None:
    assert read_facts(RecordedHost({"proc/uptime": text}), 0.0).uptime == Unread("proc/uptime")


def test_the_facts_of_this_host_have_this_process() -> None:
    facts = read_facts(HostTree("/"), 0.0)
    assert not isinstance(facts.tasks, Unread)
    assert os.getpid() in {task.pid for task in facts.tasks}
    assert isinstance(facts.uptime, float)


def test_the_reader_rests_often() -> None:
    rests: list[None] = []
    read_facts(RecordedHost(IsolatedHost().files()), 0.0, lambda: rests.append(None))
    assert len(rests) > 1


class _Nonsense:
    """A host whose every file holds the same bytes, and whose directories lead into each other."""

    def __init__(self, text: str, names: list[str]) -> None:
        self._text = text
        self._names = names

    def read(self, path: str) -> str | Unread:
        del path
        return self._text

    def names(self, directory: str) -> list[str] | Unread:
        return self._names if directory.count("/") < 8 else []


@pytest.mark.parametrize("number", ["9" * 21, "9" * 5000, "-1", "1e400", "\u0663"])
@pytest.mark.parametrize(
    "text",
    [
        *("isolcpus={0}", "isolcpus=0-{0}", "isolcpus=0-3:{0}/{0}", "nohz_full={0}", "hugepages={0}"),
        *("cpu{0} 0 0 0 0 0 0 1 2 3\ndomain0 f\n", "cpu0 0 0 0 0 0 0 {0} {0} {0}\n", "cpu{0} {0} {0}\ncpu0 {0}\n"),
        *("CPU{0}\n0: 1 x\n", " CPU0\n{0}: {0} chip 1-edge eth0\nLOC: {0}\n"),
        *(
            "1 (x) R {0} {0} {0} {0} {0} {0}" + " {0}" * 40,
            "Cpus_allowed_list:\t{0}\nnonvoluntary_ctxt_switches:\t{0}\n",
        ),
    ],
)
def test_a_number_that_is_none_of_the_kernels_is_no_error(text: str, number: str) -> None:
    facts = read_facts(_Nonsense(text.replace("{0}", number), ["1", "cpu0", "node0", "45", "eth0", "rx-0"]), 0.0)
    assert [finding.id for finding in judge(Case(facts, facts, owners=()))] == list(CHECKS)


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "\x00", "-1", "0", "9" * 5000, "0-" * 3000, "0-99999999999", "ffffffff," * 200, "ffffffff,zz"),
        *(
            "1 (x) R " + "9 " * 60,
            "1 (x) R " + f"{'9' * 5000} " * 60,
            "1 (x",
            ") ) )",
            "cpu0 1\ndomain0\n",
            "CPU0 CPU1\n1: 5\nLOC:\n:\n",
            "root invalid (",
        ),
        *("isolcpus=", "isolcpus=domain,", "isolcpus=N-0", "nohz_full=all", '"isolcpus=2', "menuentry {\n linux\n}\n"),
        *(
            "GRUB_CMDLINE_LINUX_DEFAULT='",
            "Cpus_allowed_list:\tx\nTgid:\tx\n",
            "\ud800".encode("utf-8", "replace").decode(),
        ),
    ],
)
@pytest.mark.parametrize(
    "names", [[], ["1", "cpu0", "node0", "0", "45", "eth0", "rx-0", "state0", "cpuset.cpus.partition"]]
)
def test_nonsense_in_every_file_gives_a_finding_for_each_check_and_no_error(text: str, names: list[str]) -> None:
    host: HostFiles = _Nonsense(text, names)
    facts = read_facts(host, 0.0)
    assert [finding.id for finding in judge(Case(facts, facts, owners=()))] == list(CHECKS)


def test_an_empty_root_gives_a_finding_for_each_check(tmp_path: Path) -> None:
    findings = judge(Case(read_facts(HostTree(tmp_path), 0.0)))
    assert {finding.id: finding.result for finding in findings} == dict.fromkeys(CHECKS, "not-checked")
