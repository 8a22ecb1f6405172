# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The checks D5 and D6: irqbalance, and the masks of network queues."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.packet_checks import irqbalance, packet_masks
from tests.unit.isolation.quiet_host import Files, case

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
