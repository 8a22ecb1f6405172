# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The kernel lines that the tests boot, each on four CPUs."""

from __future__ import annotations

from typing import Final, NamedTuple


class Kernel(NamedTuple):
    """A kernel line, and how many threads a core has."""

    line: str
    threads: int = 1


#: What every host of a hypervisor or packet switch sets too; an emulated CPU's clock would not be trusted otherwise.
_SETTINGS: Final = "tsc=reliable transparent_hugepage=never numa_balancing=disable"

KERNELS: Final = {
    "nothing": Kernel(_SETTINGS),
    "good": Kernel(f"isolcpus=domain,managed_irq,2-3 nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1 {_SETTINGS}"),
    "without nohz_full": Kernel(f"isolcpus=domain,managed_irq,2-3 rcu_nocbs=2-3 irqaffinity=0-1 {_SETTINGS}"),
    "managed_irq only": Kernel(f"isolcpus=managed_irq,2-3 nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1 {_SETTINGS}"),
    "two isolcpus": Kernel(
        f"isolcpus=domain,managed_irq,2-3 nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1 isolcpus=1-3 {_SETTINGS}"
    ),
    "no such CPU": Kernel(f"isolcpus=domain,managed_irq,2-4 nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1 {_SETTINGS}"),
    "nohz_full only": Kernel(f"nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1 {_SETTINGS}"),
    "split cores": Kernel(
        f"isolcpus=domain,managed_irq,1,3 nohz_full=1,3 rcu_nocbs=1,3 irqaffinity=0,2 {_SETTINGS}", threads=2
    ),
}
