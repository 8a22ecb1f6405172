# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Packet checks: whether irqbalance moves interrupts to isolated CPUs, and the network stack its work."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.case import Case, known
from epa_orchestrator.isolation.findings import Finding, not_checked, passed, warned
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.interrupt_facts import PacketMask
from epa_orchestrator.isolation.remedies import isolated_list
from epa_orchestrator.isolation.task_names import listed
from epa_orchestrator.units import count_of, cpus_are, named_cpus

#: So many network devices are named in a command.
_MOST_NAMED: Final = 3
_UNPRINTABLE: Final = printable("\n")
_RESTART: Final = "sudo systemctl restart irqbalance"
#: The first one that is set counts (setup_banned_cpus in cputree.c of irqbalance).
_BANS: Final = {"IRQBALANCE_BANNED_CPUS": CpuSet.parse_mask, "IRQBALANCE_BANNED_CPULIST": CpuSet.parse}


def irqbalance(case: Case) -> Finding:
    """D5: irqbalance bans the CPUs of isolcpus= and nohz_full= by itself, unless a list of banned CPUs is set."""
    settings = case.now.interrupts.irqbalance
    if isinstance(settings, Unread) and settings.reason == "denied":
        return not_checked("D5", settings.needs)
    values = {} if isinstance(settings, Unread) else _assignments(settings)
    variable = next((name for name in _BANS if values.get(name)), None)
    if variable is None:
        return _own_ban(case, is_installed=not isinstance(settings, Unread))
    path = _settings_file(case)
    missing = case.isolated - _banned(variable, values[variable])
    if not missing:
        return passed("D5", f"{variable} keeps irqbalance off {named_cpus(str(case.isolated))}")
    if case.isolated <= _banned_anyway(case):
        remedy = f"remove {variable} from {path}"
    else:
        remedy = f"replace {variable} in {path} by IRQBALANCE_BANNED_CPULIST={isolated_list(case)}"
    return warned(
        "D5",
        f"{variable} in {path} does not hold {named_cpus(str(missing))}, and turns off irqbalance's own ban",
        f"{remedy}, then run: {_RESTART}",
    )


def _own_ban(case: Case, *, is_installed: bool) -> Finding:
    """Without a list: irqbalance does not know cpuset partitions."""
    missing = case.isolated - _banned_anyway(case)
    if not missing:
        where = "irqbalance leaves isolated CPUs alone by itself" if is_installed else "irqbalance has no settings here"
        return passed("D5", where)
    tasks = case.now.tasks
    if isinstance(tasks, Unread):
        return not_checked("D5", tasks.needs)
    if not any(task.name == "irqbalance" and task.parent == 1 for task in tasks):
        return passed("D5", "irqbalance does not run")
    path = _settings_file(case)
    return warned(
        "D5",
        f"irqbalance does not know that {cpus_are(str(missing))} isolated",
        f"add IRQBALANCE_BANNED_CPULIST={isolated_list(case)} to {path}, then run: {_RESTART}",
    )


def _settings_file(case: Case) -> str:
    return f"/{case.now.interrupts.irqbalance_path}"


def _banned_anyway(case: Case) -> CpuSet:
    return known(case.now.line.isolated) | known(case.now.line.nohz_full)


def _banned(variable: str, value: str) -> CpuSet:
    try:
        return _BANS[variable](value)
    except ValueError:
        return EMPTY


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
        f"{_shell_word(f'/{queues}')}/{names[0] if len(names) == 1 else names[0].partition('-')[0] + '-*'}/{name}"
        for (queues, name), names in by_device.items()
    ]
    others = ", and the same for the other devices" if len(paths) > _MOST_NAMED else ""
    return f"echo 0 | sudo tee {' '.join(paths[:_MOST_NAMED])}{others}"


def _shell_word(text: str) -> str:
    """The text for a shell, which matches `?` with what a terminal may act on.

    A network device's name may hold anything but blanks, colons and slashes (dev_valid_name in net/core/dev.c).
    """
    return "?".join(shlex.quote(part) for part in printable(text).split(_UNPRINTABLE))
