# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Not usable: why a pool cannot use some of its CPUs, and what to do, for the operator who misses them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.units import named_cpus

if TYPE_CHECKING:
    from epa_orchestrator.cli.holdings import Totals
    from epa_orchestrator.protocol.machine import MachineAnswer

#: What names the CPUs of each pool.
_SOURCES: Final = {"isolated": "isolcpus= (or nohz_full=) on the kernel command line", "general": "cpu-pool"}


class _Words(NamedTuple):
    """The words for one CPU or several."""

    be: str
    they: str
    them: str


_ONE: Final = _Words("is", "it", "it")
_SEVERAL: Final = _Words("are", "they", "them")


def about_not_usable(total: Totals, answer: MachineAnswer | None) -> Iterator[str]:
    """A sentence about the CPUs of the pool for each reason; an older daemon does not tell the machine."""
    if answer is None:
        yield from _sentence(total, total.not_usable_cpus, "", "'epa-orchestrator machine' shows which CPUs are online")
        return
    online = CpuSet.parse(answer.machine.online)
    present = CpuSet.parse(answer.machine.present) | online
    source = _SOURCES[total.pool]
    left = total.not_usable_cpus
    absent, offline = left - present, (left & present) - online
    elsewhere = (left & online) & total.held_elsewhere
    others = (left & online) - elsewhere
    yield from _sentence(total, absent, "this host does not have {them}", f"take {{them}} out of {source}")
    yield from _sentence(
        total, offline, "{they} {be} offline", f"bring {{them}} online, or take {{them}} out of {source}"
    )
    yield from _sentence(total, elsewhere, "claims of the other pool hold {them}", "release these")
    yield from _sentence(total, others, "the options let this pool grant none", "see the warnings")


def _sentence(total: Totals, cpus: CpuSet, reason: str, remedy: str) -> Iterator[str]:
    if cpus:
        words = _ONE if len(cpus) == 1 else _SEVERAL
        because = f", because {reason}" if reason else ""
        sentence = f"{named_cpus(str(cpus))} of pool {total.pool} {words.be} not usable{because}: {remedy}"
        yield sentence.format(**words._asdict())
