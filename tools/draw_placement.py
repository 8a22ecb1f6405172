# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Draws the pictures in docs/placement.md: `python tools/draw_placement.py [--check]`.

The daemon's own code decides what they show, so they always agree with it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from epa_orchestrator.allocation.allocate import Terms, allocate  # noqa: E402
from epa_orchestrator.allocation.ledger import Ledger  # noqa: E402
from epa_orchestrator.allocation.pools import Pools, build_pools  # noqa: E402
from epa_orchestrator.allocation.refusal import Refused  # noqa: E402
from epa_orchestrator.allocation.settings import parse_settings  # noqa: E402
from epa_orchestrator.cpuset import EMPTY, CpuSet  # noqa: E402  (importable only now, when run as a script)
from epa_orchestrator.daemon.summary import summarize  # noqa: E402
from epa_orchestrator.hardware.discovery import read_machine  # noqa: E402
from epa_orchestrator.hardware.machine import Machine  # noqa: E402
from epa_orchestrator.hardware.sysfs import RecordedSysfs  # noqa: E402
from tools.synthetic import Shape, build  # noqa: E402

PICTURES: Final = ROOT / "docs" / "pictures"

#: Small enough to be drawn whole, and large enough that every level of the machine has several of the next.
SHAPE: Final = Shape(
    packages=2, nodes_per_package=2, l3_per_node=2, cores_per_l3=3, threads_per_core=2, isolated="0-47"
)


class Request(NamedTuple):
    """How many CPUs a service asks for, and how these are drawn: a letter on a colour."""

    letter: str
    service: str
    asked: int
    colour: str
    ink: str


#: In the order of their arrival. The colours are Okabe and Ito's, which colour-blind readers can distinguish.
REQUESTS: Final = (
    Request("D", "ovs-dpdk", 4, "#0072b2", "#ffffff"),
    Request("A", "vm-a", 6, "#e69f00", "#000000"),
    Request("B", "vm-b", 3, "#f0e442", "#000000"),
    Request("S", "ceph-osd", 5, "#009e73", "#000000"),
    Request("C", "vm-c", 14, "#cc79a7", "#000000"),
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
    """The answers by service (its CPUs and where they are, or the refusal), and the withheld and the free CPUs.

    All of it after the last request.
    """

    machine: Machine
    granted: dict[str, CpuSet]
    where: dict[str, str]
    refused: dict[str, Refused]
    withheld: CpuSet
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
    return Outcome(machine, granted, where, refused, ledger.withheld, free)


def _where(pools: Pools, cpus: CpuSet, available: CpuSet) -> str:
    """Where a service's CPUs are, in words, when the available ones are free for it."""
    found = summarize(pools.isolated.topology(), cpus, available | cpus)
    parts = [f"NUMA {'node' if found.numa_nodes.isdigit() else 'nodes'} {found.numa_nodes}"]
    parts.append(_number(found.l3_domains, "L3 domain"))
    if found.whole_cores:
        parts.append(_number(found.whole_cores, "whole core"))
    if found.shared_cores:
        parts.append(_number(found.shared_cores, "shared core"))
    return ", ".join(parts)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


# --- drawing -----------------------------------------------------------------------------------------------------

_CPU_WIDTH, _CPU_HEIGHT = 30, 35
_CORE_GAP = 3
_PAD = 5
#: Between L3 domains, NUMA nodes, packages.
_GAP = 6
_LABEL = 17
_MARGIN = 14
_HEADING = 52
_LINE = 24

_STYLE: Final = """\
text { font-family: "DejaVu Sans", Verdana, "Segoe UI", sans-serif; font-size: 12px; fill: #1a1a1a; }
.heading { font-size: 16px; font-weight: bold; }
.letter { font-size: 14px; font-weight: bold; text-anchor: middle; }
.id { font-size: 11.5px; text-anchor: middle; }
.paper { fill: #ffffff; stroke: #8a8f98; }
.package { fill: #e4e7ec; stroke: #6b717c; }
.node { fill: #f2f4f7; stroke: #8a8f98; }
.l3 { fill: #ffffff; stroke: #8a8f98; stroke-dasharray: 4 2; }
.core { fill: none; stroke: #1a1a1a; stroke-width: 1.5; }
.thread { stroke: #8a8f98; }
.free { fill: #ffffff; }
.withheld { fill: url(#hatch); }
.behind { fill: #ffffff; }
.refused { fill: #a4262c; font-weight: bold; }"""

_XMLNS: Final = 'xmlns="http://www.w3.org/2000/svg"'
_HATCH: Final = """\
<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="6" height="6" fill="#ffffff"/><rect width="2.5" height="6" fill="#9aa0a9"/>
</pattern></defs>"""


class _Box(NamedTuple):
    """A drawn part of the machine: its lines, and how wide and high it is."""

    lines: list[str]
    width: int
    height: int


def draw(options: Mapping[str, str]) -> str:
    """The picture of the requests under these options, as an SVG file."""
    found = outcome(options)
    heading = ", ".join(f"{name}={value}" for name, value in options.items()) or "All options at their defaults"
    if options:
        heading += ", all other options at their defaults"
    drawn = _machine(found)
    width = drawn.width + 2 * _MARGIN
    height = _HEADING + drawn.height + (len(REQUESTS) + 1) * _LINE + 2 * _MARGIN - 4
    answers = "; ".join(f"{each.service}: {_answer(found, each)}" for each in REQUESTS)
    lines = [
        f'<svg {_XMLNS} width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(heading)}</title>",
        f"<desc>{escape(answers)}; free: {found.free or 'none'}; withheld: {found.withheld or 'none'}.</desc>",
        f"<style>\n{_STYLE}\n</style>",
        _HATCH,
        f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
        _text("heading", _MARGIN, 25, heading),
        _text("said", _MARGIN, 44, _describe_machine(found)),
        *_at(_MARGIN, _HEADING, drawn.lines),
        *_at(_MARGIN, _HEADING + drawn.height + _MARGIN, _legend(found)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _describe_machine(found: Outcome) -> str:
    machine = found.machine
    return (
        f"{len(machine.online)} isolated CPUs: {len(machine.packages)} packages, {len(machine.nodes)} NUMA nodes,"
        f" {len(machine.l3_domains)} L3 domains, {len(machine.cores)} cores of two threads, one above the other"
    )


def _answer(found: Outcome, request: Request) -> str:
    error = found.refused.get(request.service)
    if error is not None:
        rule = error.unplaceable and error.unplaceable.rule
        return f"refused: {f'{rule.option}={rule.value}' if rule else error}"
    return f"CPUs {found.granted[request.service]}"


def _machine(found: Outcome) -> _Box:
    machine = found.machine
    return _in_a_row([_package(found, number, package.cpus) for number, package in enumerate(machine.packages)])


def _package(found: Outcome, number: int, cpus: CpuSet) -> _Box:
    nodes = [_node(found, node.id, node.cpus) for node in found.machine.nodes if node.cpus & cpus]
    return _around("package", f"package {number}", _in_a_row(nodes))


def _node(found: Outcome, number: int, cpus: CpuSet) -> _Box:
    domains = [_l3(found, place, l3) for place, l3 in enumerate(found.machine.l3_domains) if l3 & cpus]
    return _around("node", f"NUMA node {number}", _in_a_row(domains))


def _l3(found: Outcome, number: int, cpus: CpuSet) -> _Box:
    cores = [_core(found, core.cpus) for core in found.machine.cores if core.cpus & cpus]
    return _around("l3", f"L3 {number}", _in_a_row(cores, _CORE_GAP))


def _core(found: Outcome, threads: CpuSet) -> _Box:
    height = _CPU_HEIGHT * len(threads)
    lines = [_thread(found, cpu, place * _CPU_HEIGHT) for place, cpu in enumerate(threads)]
    lines.append(f'<rect class="core" width="{_CPU_WIDTH}" height="{height}" rx="3"/>')
    return _Box(lines, _CPU_WIDTH, height)


def _thread(found: Outcome, cpu: int, y: int) -> str:
    """One CPU: its owner's letter above its id."""
    owner = next((each for each in REQUESTS if cpu in found.granted.get(each.service, EMPTY)), None)
    middle = _CPU_WIDTH / 2
    parts: list[str] = []
    if owner is not None:
        parts.append(_square(f'class="thread" fill="{owner.colour}"', y))
        parts.append(_text("letter", middle, y + 15, owner.letter, owner.ink))
        parts.append(_text("id", middle, y + 29, str(cpu), owner.ink))
        return f'<g class="cpu" data-owner="{owner.letter}">{"".join(parts)}</g>'
    kind = "withheld" if cpu in found.withheld else "free"
    parts.append(_square(f'class="thread {kind}"', y))
    if kind == "withheld":
        parts.append(f'<rect class="behind" x="{middle - 10}" y="{y + 18}" width="20" height="14" rx="2"/>')
    parts.append(_text("id", middle, y + 29, str(cpu)))
    return f'<g class="cpu" data-owner="{kind}">{"".join(parts)}</g>'


def _legend(found: Outcome) -> list[str]:
    """One line for each request: service, count, and CPUs or refusal; then the CPUs that no service has."""
    lines: list[str] = []
    for place, request in enumerate(REQUESTS):
        y = place * _LINE
        refused = request.service in found.refused
        cells = [
            _square(f'class="thread" fill="{request.colour}"', y, 22, 20),
            _text("letter", 11, y + 15, request.letter, request.ink),
            _text("service", 32, y + 15, request.service),
            _text("asked", 106, y + 15, f"asks for {request.asked}"),
            _text("refused" if refused else "answer", 190, y + 15, _answer(found, request)),
            "" if refused else _text("where", 525, y + 15, found.where[request.service]),
        ]
        lines.append(f'<g class="request">{"".join(cells)}</g>')
    y = len(REQUESTS) * _LINE
    lines += [_square('class="thread free"', y, 22, 20), _text("rest", 32, y + 15, f"free: {len(found.free)} CPUs")]
    if found.withheld:
        withheld = f"withheld from all others: {len(found.withheld)} CPUs"
        lines += [_square('class="thread withheld"', y, 22, 20, 190), _text("rest", 222, y + 15, withheld)]
    return lines


def _in_a_row(boxes: list[_Box], gap: int = _GAP) -> _Box:
    lines: list[str] = []
    x = 0
    for box in boxes:
        lines += _at(x, 0, box.lines)
        x += box.width + gap
    return _Box(lines, x - gap, max(box.height for box in boxes))


def _around(kind: str, label: str, inner: _Box) -> _Box:
    width, height = inner.width + 2 * _PAD, inner.height + 2 * _PAD + _LABEL
    frame = f'<rect class="{kind}" width="{width}" height="{height}" rx="4"/>'
    lines = [frame, _text("label", _PAD, 15, label), *_at(_PAD, _PAD + _LABEL, inner.lines)]
    return _Box(lines, width, height)


def _at(x: int, y: int, lines: list[str]) -> list[str]:
    return [f'<g transform="translate({x} {y})">', *lines, "</g>"]


def _square(attributes: str, y: int, width: int = _CPU_WIDTH, height: int = _CPU_HEIGHT, x: int = 0) -> str:
    return f'<rect {attributes} x="{x}" y="{y}" width="{width}" height="{height}"/>'


def _text(kind: str, x: float, y: float, text: str, ink: str | None = None) -> str:
    style = f' style="fill: {ink}"' if ink else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{style}>{escape(text)}</text>'


def main() -> int:
    """Write the pictures, or with --check compare them; the exit code is 1 if one is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file is not up to date")
    check = parser.parse_args().check
    stale = 0
    for name, options in DRAWN.items():
        path = PICTURES / f"{name}.svg"
        text = draw(options)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        shown = path.relative_to(ROOT)
        if check:
            print(f"{shown} is not up to date: run python tools/draw_placement.py")
            stale += 1
        else:
            PICTURES.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {shown}")
    return min(stale, 1)


if __name__ == "__main__":
    sys.exit(main())
