# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The facts about the kernel line are read from their files, and unusable files count as missing."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.line_facts import read_line_facts
from tests.unit.isolation.line_hosts import CPU, CPUSET, host_files


def test_lists_of_a_host() -> None:
    facts = read_line_facts(RecordedHost(host_files("isolcpus=2-3", "2-3", "(null)", "2-3")))
    assert facts.cmdline == "BOOT_IMAGE=/boot/vmlinuz root=/dev/sda ro isolcpus=2-3"
    assert (facts.present, facts.possible, facts.online) == (CpuSet(range(4)),) * 3
    assert (facts.isolated, facts.nohz_full, facts.cpuset_isolated) == (CpuSet([2, 3]), EMPTY, CpuSet([2, 3]))


def test_absent_files_are_unread() -> None:
    facts = read_line_facts(RecordedHost({}, denied=[CPUSET]))
    assert (facts.cmdline, facts.isolated) == (Unread("proc/cmdline"), Unread(f"{CPU}/isolated"))
    assert facts.cpuset_isolated == Unread(CPUSET, "denied")
    assert facts.kernel_config == Unread("proc/sys/kernel/osrelease")
    assert facts.kthreadd_allowed == Unread("proc/2/stat")


def test_kernel_configuration() -> None:
    text = "CONFIG_SMP=y\nCONFIG_CPU_ISOLATION=y\n# CONFIG_NO_HZ_FULL is not set\nCONFIG_RCU_NOCB_CPU_X=y\n"
    facts = read_line_facts(RecordedHost(host_files("quiet") | {"boot/config-6.12.0": text}))
    assert facts.kernel_config == {
        "CONFIG_CPU_ISOLATION": True,
        "CONFIG_NO_HZ_FULL": False,
        "CONFIG_RCU_NOCB_CPU": False,
    }


@pytest.mark.parametrize(
    ("release", "config", "path"),
    [
        ("6.12.0", "", "boot/config-6.12.0"),
        ("6.12.0", "CONFIG_S", "boot/config-6.12.0"),
        ("../../etc/shadow", "CONFIG_SMP=y", "proc/sys/kernel/osrelease"),
        ("", "CONFIG_SMP=y", "proc/sys/kernel/osrelease"),
    ],
)
def test_unusable_configuration_counts_as_missing(release: str, config: str, path: str) -> None:
    files = {"proc/sys/kernel/osrelease": f"{release}\n", f"boot/config-{release}": config}
    assert read_line_facts(RecordedHost(files)).kernel_config == Unread(path)


def test_kthreadd_is_a_kernel_thread() -> None:
    files = {
        "proc/2/status": "Name:\tkthreadd\nCpus_allowed_list:\t0-1\n",
        "proc/2/stat": "2 (kthreadd) S 0 0 0 0 -1 2129984\n",
    }
    assert read_line_facts(RecordedHost(files)).kthreadd_allowed == CpuSet([0, 1])
    files["proc/2/stat"] = "2 (kthreadd) S 0 0 0 0 -1 4194304\n"
    assert read_line_facts(RecordedHost(files)).kthreadd_allowed == Unread("proc/2/stat")
