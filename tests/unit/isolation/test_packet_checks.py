# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The checks D5 and D6: irqbalance, and the masks of network queues."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epa_orchestrator.isolation.case import Terms
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.packet_checks import irqbalance, packet_masks
from tests.unit.isolation.quiet_host import CPU, Files, case, task

SETTINGS = "etc/default/irqbalance"


@pytest.mark.parametrize(
    ("text", "variable", "missing"),
    [
        ("IRQBALANCE_BANNED_CPULIST=2\n", "IRQBALANCE_BANNED_CPULIST", "CPU 3"),
        ('IRQBALANCE_BANNED_CPULIST="8-9"\n', "IRQBALANCE_BANNED_CPULIST", "CPUs 2-3"),
        ("IRQBALANCE_BANNED_CPUS=00000008\n", "IRQBALANCE_BANNED_CPUS", "CPU 2"),
        ("IRQBALANCE_BANNED_CPULIST=nonsense\n", "IRQBALANCE_BANNED_CPULIST", "CPUs 2-3"),
        ("IRQBALANCE_BANNED_CPULIST='2-3\n", "IRQBALANCE_BANNED_CPULIST", "CPUs 2-3"),
        # The mask counts where both are set.
        ("IRQBALANCE_BANNED_CPULIST=2-3\nIRQBALANCE_BANNED_CPUS=1\n", "IRQBALANCE_BANNED_CPUS", "CPUs 2-3"),
    ],
)
def test_ban_that_misses_isolated_cpus_is_found(text: str, variable: str, missing: str) -> None:
    found = irqbalance(case({SETTINGS: text}))
    assert found.result == "warn"
    assert found.seen == (
        f"{variable} in /etc/default/irqbalance does not hold {missing}, and turns off irqbalance's own ban"
    )
    assert found.remedy == (
        f"remove {variable} from /etc/default/irqbalance, then run: sudo systemctl restart irqbalance"
    )


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "#IRQBALANCE_BANNED_CPULIST=\nIRQBALANCE_ARGS=\n",
        "# IRQBALANCE_BANNED_CPULIST=1\n",
        "IRQBALANCE_BANNED_CPULIST=\n",
        'IRQBALANCE_BANNED_CPUS=""\n',
        "IRQBALANCE_BANNED_CPULIST=1-7\n",
        'IRQBALANCE_BANNED_CPUS="ffffffff,0000000c"\n',
        "IRQBALANCE_BANNED_CPULIST=1\nIRQBALANCE_BANNED_CPULIST=2-3\n",
    ],
)
def test_irqbalance_that_leaves_isolated_cpus_alone_is_no_fault(text: str | None) -> None:
    assert irqbalance(case({SETTINGS: text})).result == "pass"


#: CPUs that only a cpuset partition isolates, which irqbalance does not know.
PARTITION: Files = {
    f"{CPU}/isolated": "\n",
    f"{CPU}/nohz_full": "(null)\n",
    "proc/cmdline": "quiet\n",
    "sys/fs/cgroup/cpuset.cpus.isolated": "2-3\n",
}
RUNNING = (replace(task(0), name="irqbalance"),)


def test_irqbalance_does_not_know_partitions() -> None:
    found = irqbalance(case(PARTITION, tasks=RUNNING, terms=Terms(isolated_cpus_from="cpuset")))
    assert (found.result, found.seen) == ("warn", "irqbalance does not know that CPUs 2-3 are isolated")
    assert found.remedy == (
        "add IRQBALANCE_BANNED_CPULIST=2-3 to /etc/default/irqbalance, then run: sudo systemctl restart irqbalance"
    )


def test_ban_for_a_partition_is_completed_rather_than_removed() -> None:
    found = irqbalance(case({**PARTITION, SETTINGS: "IRQBALANCE_BANNED_CPUS=4\n"}, tasks=RUNNING))
    assert found.result == "warn"
    assert found.remedy.startswith("replace IRQBALANCE_BANNED_CPUS in /etc/default/irqbalance by ")


def test_irqbalance_that_does_not_run_is_no_fault() -> None:
    foreign = (replace(task(0), name="irqbalance", parent=700),)
    assert irqbalance(case(PARTITION)).seen == "irqbalance does not run"
    assert irqbalance(case(PARTITION, tasks=foreign)).seen == "irqbalance does not run"


def test_partitions_need_the_tasks() -> None:
    assert irqbalance(case(PARTITION, tasks=Unread("proc", "denied"))).result == "not-checked"


def test_settings_that_may_not_be_read_are_not_checked() -> None:
    found = irqbalance(case(denied=[SETTINGS]))
    assert (found.result, found.seen) == ("not-checked", f"needs /{SETTINGS}, which was not recorded")


def test_mask_of_one_queue_has_the_exact_command() -> None:
    found = packet_masks(case({"sys/class/net/eth0/queues/rx-0/rps_cpus": "00000004\n"}))
    assert (found.result, found.seen) == ("warn", "1 mask of RPS or XPS holds CPU 2: rps_cpus of eth0, queue rx-0")
    assert found.remedy == "echo 0 | sudo tee /sys/class/net/eth0/queues/rx-0/rps_cpus"


def test_masks_of_several_queues_have_one_command() -> None:
    queues: Files = {f"sys/class/net/eth0/queues/tx-{queue}/xps_cpus": "f\n" for queue in range(4)}
    found = packet_masks(case(queues))
    assert found.seen.startswith("4 masks of RPS or XPS hold CPUs 2-3: xps_cpus of eth0, queue tx-0, ")
    assert found.seen.endswith(" and 1 more mask")
    assert found.remedy == "echo 0 | sudo tee /sys/class/net/eth0/queues/tx-*/xps_cpus"


def test_masks_without_isolated_cpus_are_no_fault() -> None:
    assert packet_masks(case()).result == "pass"


def test_masks_have_to_be_readable() -> None:
    none: Files = {
        "sys/class/net/eth0/queues/rx-0/rps_cpus": None,
        "sys/class/net/eth0/queues/tx-0/xps_cpus": None,
    }
    assert packet_masks(case(none)).seen == "needs /sys/class/net, which is not there"


def test_settings_of_red_hat_are_read_too() -> None:
    found = irqbalance(case({"etc/sysconfig/irqbalance": "IRQBALANCE_BANNED_CPULIST=0\n"}))
    assert found.result == "warn"
    assert found.remedy.startswith("remove IRQBALANCE_BANNED_CPULIST from /etc/sysconfig/irqbalance, then")


def test_a_snap_that_may_not_read_them_takes_those_of_ubuntu() -> None:
    assert irqbalance(case(denied=["etc/sysconfig/irqbalance"])).result == "pass"


@pytest.mark.parametrize(
    ("device", "written"), [("a;reboot", "'{}/a;reboot/queues'"), ("a\x1b[1m$(id)", "{}/a?'[1m$(id)/queues'")]
)
def test_names_of_devices_are_safe_in_commands(device: str, written: str) -> None:
    found = packet_masks(case({f"sys/class/net/{device}/queues/rx-0/rps_cpus": "4\n"}))
    path = written.format("/sys/class/net")
    assert found.remedy == f"echo 0 | sudo tee {path}/rx-0/rps_cpus"


def test_a_device_whose_name_is_a_command_does_not_run_it() -> None:
    found = packet_masks(case({"sys/class/net/$(reboot)/queues/rx-0/rps_cpus": "f\n"}))
    assert found.remedy == "echo 0 | sudo tee '/sys/class/net/$(reboot)/queues'/rx-0/rps_cpus"
