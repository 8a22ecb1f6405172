# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Draws the pictures in docs/explanation/placement.md: `python tools/draw_placement.py [--check]`.

The daemon's own code decides what they show, so they always agree with it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from epa_orchestrator.allocation.allocate import Terms, allocate  # noqa: E402
from epa_orchestrator.allocation.cpu_states import CpuState, cpu_states  # noqa: E402
from epa_orchestrator.allocation.ledger import Ledger  # noqa: E402
from epa_orchestrator.allocation.pools import Pools, build_pools  # noqa: E402
from epa_orchestrator.allocation.refusal import Refused  # noqa: E402
from epa_orchestrator.allocation.settings import parse_settings  # noqa: E402
from epa_orchestrator.cpuset import EMPTY, CpuSet  # noqa: E402  (importable only now, when run as a script)
from epa_orchestrator.daemon.summary import summarize  # noqa: E402
from epa_orchestrator.hardware.discovery import read_machine  # noqa: E402
from epa_orchestrator.hardware.machine import Machine  # noqa: E402
from epa_orchestrator.hardware.sysfs import RecordedSysfs  # noqa: E402
from epa_orchestrator.picture import svg  # noqa: E402
from epa_orchestrator.picture.model import build_picture  # noqa: E402
from epa_orchestrator.units import count_of, named_nodes  # noqa: E402
from tools.generated import write_or_check  # noqa: E402
from tools.synthetic import Shape, build  # noqa: E402

PICTURES: Final = ROOT / "docs" / "pictures"

#: Small enough to be drawn whole, and large enough that every level of the machine has several of the next.
SHAPE: Final = Shape(
    packages=2, nodes_per_package=2, l3_per_node=2, cores_per_l3=3, threads_per_core=2, isolated="0-47"
)


class Request(NamedTuple):
    """How many CPUs a service asks for."""

    service: str
    asked: int


#: In the order of their arrival, which is that of their letters.
REQUESTS: Final = (
    Request("ovs-dpdk", 4),
    Request("vm-a", 6),
    Request("vm-b", 3),
    Request("ceph-osd", 5),
    Request("vm-c", 14),
)

#: File name without its suffix -> the options that are not at their default.
DRAWN: Final[Mapping[str, Mapping[str, str]]] = {
    "defaults": {},
    "numa-allocation-strategy-spread": {"numa-allocation-strategy": "spread"},
    "numa-allocation-strategy-distribute": {"numa-allocation-strategy": "distribute"},
    "cpu-thread-policy-share": {"cpu-thread-policy": "share"},
    "cpu-thread-policy-require": {"cpu-thread-policy": "require"},
    "cpu-thread-policy-isolate": {"cpu-thread-policy": "isolate"},
    "cpu-distribution-cores": {"cpu-distribution": "cores"},
    "cpu-distribution-caches": {"cpu-distribution": "caches"},
}


class Outcome(NamedTuple):
    """The answers by service (its CPUs, where they are and what it withholds, or the refusal), and the CPUs by state.

    All of it after the last request.
    """

    machine: Machine
    granted: dict[str, CpuSet]
    where: dict[str, str]
    withheld: dict[str, CpuSet]
    refused: dict[str, Refused]
    states: dict[CpuState, CpuSet]
    free: CpuSet


def outcome(options: Mapping[str, str]) -> Outcome:
    """The daemon's answers to the requests, one after the other, on the empty machine."""
    machine = read_machine(RecordedSysfs(build(SHAPE)))
    pools = build_pools(machine, None, parse_settings(dict(options)))
    ledger = Ledger()
    granted: dict[str, CpuSet] = {}
    refused: dict[str, Refused] = {}
    for request in REQUESTS:
        try:
            grant = allocate(ledger, pools.isolated, Terms(request.service), request.asked)
        except Refused as error:
            refused[request.service] = error
        else:
            granted[request.service] = grant.cpus
            ledger = grant.ledger
    free = ledger.free(pools.isolated)
    where = {service: _where(pools, cpus, free | ledger.claims[service].withheld) for service, cpus in granted.items()}
    withheld = {service: claim.withheld for service, claim in ledger.claims.items()}
    return Outcome(machine, granted, where, withheld, refused, cpu_states(ledger, pools), free)


def _where(pools: Pools, cpus: CpuSet, available: CpuSet) -> str:
    """Where a service's CPUs are, in words, when the available ones are free for it."""
    found = summarize(pools.isolated.topology(), cpus, available | cpus)
    parts = [named_nodes(found.numa_nodes), count_of(found.l3_domains, "L3 domain")]
    if found.whole_cores:
        parts.append(count_of(found.whole_cores, "whole core"))
    if found.shared_cores:
        parts.append(count_of(found.shared_cores, "shared core"))
    return ", ".join(parts)


def draw(options: Mapping[str, str]) -> str:
    """The picture of the requests under these options, as an SVG file; it marks what differs from the defaults."""
    found = outcome(options)
    heading = ", ".join(f"{name}={value}" for name, value in options.items()) or "All options at their defaults"
    defaults = outcome({})
    changed = {each.service for each in REQUESTS if _cpus(found, each) != _cpus(defaults, each)}
    differs = _differences(found, defaults)
    owners = [(each.service, _cpus(found, each)) for each in REQUESTS]
    remarks = {each.service: _remark(found, each) for each in REQUESTS}
    picture = build_picture(
        found.machine, found.states, owners, remarks=remarks, differs=differs, changed=changed, withheld=found.withheld
    )
    return svg.draw(picture, title=heading)


def _cpus(found: Outcome, request: Request) -> CpuSet:
    """The CPUs that a service got."""
    return found.granted.get(request.service, EMPTY)


def _differences(found: Outcome, defaults: Outcome) -> CpuSet:
    """The CPUs that have another owner, or another state, than by default."""
    return CpuSet(cpu for cpu in found.machine.online if _use(found, cpu) != _use(defaults, cpu))


def _use(found: Outcome, cpu: int) -> str:
    """The owner of a CPU, or its state."""
    owner = next((service for service, cpus in found.granted.items() if cpu in cpus), None)
    return owner or next(state for state, cpus in found.states.items() if cpu in cpus)


def _remark(found: Outcome, request: Request) -> str:
    """What the daemon answered: the CPUs and where they are, or the refusal."""
    return f"asks for {request.asked}: {_answer(found, request)}"


def _answer(found: Outcome, request: Request) -> str:
    error = found.refused.get(request.service)
    if error is not None:
        rule = error.unplaceable and error.unplaceable.rule
        return f"refused: {f'{rule.option}={rule.value}' if rule else error}"
    return f"CPUs {found.granted[request.service]}; {found.where[request.service]}"


def main() -> int:
    """Write the pictures, or with --check compare them; the exit code is 1 if one is out of date."""
    texts = {PICTURES / f"{name}.svg": draw(options) for name, options in DRAWN.items()}
    return write_or_check("draw_placement.py", __doc__, texts)


if __name__ == "__main__":
    sys.exit(main())
