# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Scenes: pictures of made-up machines with services in each state, for the tests of both renderers."""

from __future__ import annotations

from dataclasses import replace

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.cpu_states import cpu_states
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import build_pools
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.last_seen import LastSeen
from epa_orchestrator.hardware.machine import Core, Machine, Package
from epa_orchestrator.picture.model import Core as DrawnCore
from epa_orchestrator.picture.model import Group, Pages, Picture, build_picture
from tests.machines import made_up
from tools.synthetic import Shape

PAGES = (Pages(0, 2048, 512, 512, 2048), Pages(0, 1048576, 0, 4, 4))

#: Machines by their number of CPUs.
SHAPES = {
    8: Shape(1, 1, 1, 4, 2, siblings="adjacent"),
    48: Shape(2, 2, 2, 3, 2),
    512: Shape(2, 4, 4, 8, 2),
    4096: Shape(8, 4, 4, 16, 2),
}


def scene(machine: Machine, names: tuple[str, ...] = ("ovs", "vm-2", "vm-10"), general: str = "") -> Picture:
    """A picture of the machine whose CPUs are in every state that has room.

    The first CPU is not isolated, unless it is in the pool `general`, and the next one reserved. The first service has
    its cores alone. The last CPU of the last service is offline, and so is one of nobody.
    """
    every = [*machine.online]
    isolated = CpuSet(every[1:])
    settings = parse_settings({"reserved-cpus": str(CpuSet(every[1:2])), "cpu-pool": general})
    whole = replace(machine, isolated=isolated)
    seen = LastSeen().updated(whole)
    cores = [core.cpus for core in machine.cores if core.cpus <= isolated - settings.reserved_cpus]
    claims: list[Claim] = []
    for number, name in enumerate(names):
        own = [*(cores[number] if number < len(cores) else ())]
        own = own[:1] if number == 0 else own
        if own:
            alone = CpuSet(own) if number == 0 else EMPTY
            claims.append(Claim(name, "isolated", CpuSet(own), EMPTY, "legacy", alone=alone))
    held = Ledger.of(claims, {}, seen.known_cores(whole)).claimed
    gone = CpuSet([*held][-1:]) | CpuSet([*(isolated - held - settings.reserved_cpus)][-1:])
    now = without(whole, gone if len(every) > 4 else EMPTY)
    pools = build_pools(now, None, settings, seen.known_cores(now))
    ledger = Ledger.of(claims, {}, pools.cores)
    owners = [(each.service, each.cpus) for each in claims]
    withheld = {name: claim.withheld for name, claim in ledger.claims.items()}
    configured = pools.general.configured if pools.general is not None else EMPTY
    return build_picture(now, cpu_states(ledger, pools), owners, PAGES, withheld=withheld, general=configured)


def without(machine: Machine, offline: CpuSet) -> Machine:
    """The machine with these CPUs offline, which the kernel then shows in no core, cache and package."""
    return replace(
        machine,
        online=machine.online - offline,
        cores=tuple(Core(core.cpus - offline, core.type) for core in machine.cores if core.cpus - offline),
        l3_domains=tuple(cpus - offline for cpus in machine.l3_domains if cpus - offline),
        packages=tuple(Package(each.id, each.cpus - offline) for each in machine.packages if each.cpus - offline),
    )


def sized(cpus: int) -> Machine:
    """A machine with so many CPUs."""
    return made_up(SHAPES[cpus])


def drawn_cores(groups: tuple[Group, ...]) -> list[DrawnCore]:
    """All cores of a picture in its order."""
    return [core for group in groups for core in (*group.cores, *drawn_cores(group.children))]
