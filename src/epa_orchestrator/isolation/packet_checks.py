# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Packet checks: whether irqbalance moves interrupts to isolated CPUs, and the network stack its work."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.findings import Finding, not_checked, passed, warned
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.interrupt_facts import PacketMask
from epa_orchestrator.isolation.task_names import listed
from epa_orchestrator.units import count_of, named_cpus

_SETTINGS: Final = "/etc/default/irqbalance"
_MOST_PATHS: Final = 3
#: The first one that is set counts (setup_banned_cpus in cputree.c of irqbalance).
_BANS: Final = {"IRQBALANCE_BANNED_CPUS": CpuSet.parse_mask, "IRQBALANCE_BANNED_CPULIST": CpuSet.parse}


def irqbalance(case: Case) -> Finding:
    """D5: a list of banned CPUs turns off irqbalance's own ban of isolated CPUs, so it has to hold all of them."""
    settings = case.now.interrupts.irqbalance
    if isinstance(settings, Unread):
        if settings.reason == "denied":
            return not_checked("D5", settings.needs)
        return passed("D5", "irqbalance is not installed")
    values = _assignments(settings)
    for name, parse in _BANS.items():
        if not values.get(name):
            continue
        try:
            banned = parse(values[name])
        except ValueError:
            banned = EMPTY
        missing = case.isolated - banned
        if not missing:
            return passed("D5", f"{name} bans {named_cpus(str(case.isolated))} from irqbalance")
        return warned(
            "D5",
            f"{name} in {_SETTINGS} does not hold {named_cpus(str(missing))}, and turns off irqbalance's own ban",
            f"remove {name} from {_SETTINGS}, then run: sudo systemctl restart irqbalance",
        )
    return passed("D5", "irqbalance leaves isolated CPUs alone by itself")


def _assignments(text: str) -> dict[str, str]:
    """The variables of an environment file of systemd; the last assignment of a name counts."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            values[name.strip().removeprefix("export ")] = _unquoted(value)
    return values


def _unquoted(value: str) -> str:
    try:
        return "".join(shlex.split(value))
    except ValueError:  # a quote without its partner
        return value.strip()


def packet_masks(case: Case) -> Finding:
    """D6: the masks of RPS and XPS."""
    masks = case.now.interrupts.packet_masks
    if isinstance(masks, Unread):
        return not_checked("D6", masks.needs)
    found = [mask for mask in masks if mask.cpus & case.isolated]
    if not found:
        return passed("D6", f"No mask of RPS or XPS holds {named_cpus(str(case.isolated))}")
    cpus = EMPTY
    for mask in found:
        cpus |= mask.cpus & case.isolated
    parts = [mask.queue for mask in found]
    verb = "holds" if len(found) == 1 else "hold"
    return warned(
        "D6",
        f"{count_of(len(found), 'mask')} of RPS or XPS {verb} {named_cpus(str(cpus))}: {listed(parts, 'mask')}",
        _cleared(found),
    )


def _cleared(masks: Sequence[PacketMask]) -> str:
    """The command that clears the masks; for a device with several, a pattern of the shell."""
    by_device: dict[tuple[str, str], list[str]] = {}
    for mask in masks:
        queues, queue, name = mask.path.rsplit("/", 2)
        by_device.setdefault((queues, name), []).append(queue)
    paths = [
        f"{shlex.quote(f'/{queues}')}/{names[0] if len(names) == 1 else names[0].partition('-')[0] + '-*'}/{name}"
        for (queues, name), names in by_device.items()
    ]
    others = ", and the same for the other devices" if len(paths) > _MOST_PATHS else ""
    return f"echo 0 | sudo tee {printable(' '.join(paths[:_MOST_PATHS]))}{others}"
