# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Model: what a picture shows, as nested groups of cores, with their owners, states and hugepages."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from epa_orchestrator.allocation.cpu_states import CpuState
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import CoreType, Machine
from epa_orchestrator.units import count_of

#: What a picture shows of a CPU: its state, of a free one also the pool if there are two.
State = Literal[CpuState, "free-general"]
#: The marks of states; a service's CPUs have its letter instead, followed by `!` if they are unavailable.
STATE_MARKS: Final[Mapping[State, str]] = {
    "free": ".",
    "free-general": ":",
    "withheld": "~",
    "reserved": "#",
    "unavailable": "!",
    "not-isolated": "-",
    "offline": "x",
}
#: Without x, which is the mark of CPUs that are offline.
_LETTERS: Final = string.ascii_uppercase + string.ascii_lowercase.replace("x", "")
#: The words of a legend.
STATE_NAMES: Final[Mapping[State, str]] = {
    "free": "free",
    "free-general": "free in pool general",
    "withheld": "withheld",
    "reserved": "reserved",
    "unavailable": "unavailable",
    "not-isolated": "not isolated",
    "offline": "offline",
}

Kind = Literal["package", "node", "l3", "offline"]
_NOUNS: Final[Mapping[str, str]] = {"package": "package", "node": "NUMA node", "l3": "L3"}


class Cpu(NamedTuple):
    """A CPU: its id, its state, and the number of its owner in `Picture.owners`, None without one.

    `mark` is the letter of its owner, or the mark of its state. `differs`: another picture shows another owner.
    `withheld_for` is the number of the service because of which it is withheld.
    """

    id: int
    state: State
    owner: int | None
    mark: str
    differs: bool = False
    withheld_for: int | None = None


class Core(NamedTuple):
    """A core with its threads, and where it is in words."""

    cpus: tuple[Cpu, ...]
    type: CoreType | None
    place: str


@dataclass(frozen=True)
class Group:
    """A box: a domain, or several with the same CPUs. It holds either smaller boxes or cores."""

    kind: Kind
    label: str
    children: tuple[Group, ...] = ()
    cores: tuple[Core, ...] = ()


class Owner(NamedTuple):
    """A service that owns CPUs: its letter, its name, its CPUs, and a remark for the legend.

    `differs`: another picture shows other CPUs. `withheld` are the CPUs that no other service gets because of it.
    """

    mark: str
    name: str
    cpus: CpuSet
    remark: str = ""
    differs: bool = False
    withheld: CpuSet = EMPTY


class Pages(NamedTuple):
    """The hugepages of one size (KiB) on a NUMA node: those recorded, those that can be, and the total."""

    node_id: int
    size_kb: int
    recorded: int
    free: int
    total: int

    @property
    def others(self) -> int:
        """The pages that others use, or that are reserved."""
        return max(self.total - self.recorded - self.free, 0)


@dataclass(frozen=True)
class Picture:
    """Everything that a picture shows. `counts` has the states that some CPU is in, in their order."""

    groups: tuple[Group, ...]
    owners: tuple[Owner, ...]
    counts: Mapping[State, int]
    pages: tuple[Pages, ...] = ()
    memory_only: str = ""
    differs: bool = False

    @property
    def summary(self) -> str:
        """The numbers of CPUs in one line."""
        total = sum(self.counts.values())
        parts = [f"{count} {STATE_NAMES[state]}" for state, count in self.counts.items() if state != "claimed"]
        if claimed := self.counts.get("claimed"):
            services = sum([bool(owner.cpus) for owner in self.owners])
            parts.insert(0, f"{claimed} claimed by {count_of(services, 'service')}")
        return f"{count_of(total, 'CPU')}: {', '.join(parts)}"


def build_picture(
    machine: Machine,
    states: Mapping[CpuState, CpuSet],
    owners: Iterable[tuple[str, CpuSet]],
    pages: Iterable[Pages] = (),
    remarks: Mapping[str, str] = MappingProxyType({}),
    differs: CpuSet = EMPTY,
    changed: Container[str] = (),
    withheld: Mapping[str, CpuSet] = MappingProxyType({}),
    general: CpuSet = EMPTY,
) -> Picture:
    """The picture of a machine with these states and owners; the owners get their letters in this order.

    `remarks` are for the legend, by owner. `differs` are CPUs, and `changed` are owners, that another picture shows
    otherwise. `withheld` are the CPUs that are withheld because of an owner. `general` is the pool general, if there
    is another pool to tell it from.
    """
    all_withheld = states.get("withheld", EMPTY)
    named = tuple(
        [
            Owner(
                mark_of(number),
                name,
                cpus,
                remark=remarks.get(name, ""),
                differs=name in changed,
                withheld=withheld.get(name, EMPTY) & all_withheld,
            )
            for number, (name, cpus) in enumerate(owners)
        ]
    )
    shown = _by_pool(states, general)
    cpus = _cpus(shown, named, differs)
    placed = set[int]()
    cores: list[Core] = []
    names = _Places(machine)
    for core in machine.cores:
        threads = tuple([cpus[cpu] for cpu in core.cpus if cpu in cpus])
        if threads:
            cores.append(Core(threads, core.type, names.place(core.cpus)))
            placed.update(core.cpus)
    left = [cpu for number, cpu in sorted(cpus.items()) if number not in placed]
    return Picture(
        groups=(*names.nest(cores), *_not_online(left)),
        owners=named,
        counts={state: len(found) for state, found in shown.items() if found},
        pages=tuple(pages),
        memory_only=str(CpuSet(node.id for node in machine.nodes if not node.cpus)),
        differs=bool(differs),
    )


def without_l3(groups: Iterable[Group]) -> tuple[Group, ...]:
    """The boxes without the innermost ones of L3 domains, whose cores are then in the box around them."""
    return tuple([_without_l3(group) for group in groups])


def _without_l3(group: Group) -> Group:
    if group.children and all(child.kind == "l3" and child.cores for child in group.children):
        cores = [core for child in group.children for core in child.cores]
        return replace(group, children=(), cores=tuple(cores))
    return replace(group, children=without_l3(group.children))


def mark_of(number: int) -> str:
    """The letter of a service: A to Z, a to z, then AA, AB and so on."""
    mark = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, len(_LETTERS))
        mark = _LETTERS[letter] + mark
    return mark


def _by_pool(states: Mapping[CpuState, CpuSet], general: CpuSet) -> dict[State, CpuSet]:
    """The states, in which the free CPUs of the pool general have one of their own."""
    found: dict[State, CpuSet] = {}
    for state, cpus in states.items():
        found[state] = cpus
        if state == "free" and general:
            found |= {"free": cpus - general, "free-general": cpus & general}
    return found


def _cpus(states: Mapping[State, CpuSet], owners: Sequence[Owner], differs: CpuSet) -> dict[int, Cpu]:
    owner_of = {cpu: number for number, owner in enumerate(owners) for cpu in owner.cpus}
    withheld_for = {cpu: number for number, owner in enumerate(owners) for cpu in owner.withheld}
    found: dict[int, Cpu] = {}
    for state, cpus in states.items():
        for cpu in cpus:
            owner = owner_of.get(cpu) if state in ("claimed", "unavailable") else None
            mark = owners[owner].mark if owner is not None else STATE_MARKS.get(state, "?")
            found[cpu] = Cpu(cpu, state, owner, mark, cpu in differs, withheld_for.get(cpu))
    return found


def _not_online(cpus: Sequence[Cpu]) -> Iterable[Group]:
    """The box of the CPUs that the kernel shows in no core."""
    if cpus:
        yield Group("offline", "not online", cores=tuple([Core((cpu,), None, "not online") for cpu in cpus]))


class _Places:
    """The domains of a machine by CPU: their names, and how they nest."""

    def __init__(self, machine: Machine) -> None:
        domains: dict[Kind, list[tuple[str, CpuSet]]] = {
            "package": [(package.id, package.cpus) for package in machine.packages],
            "node": [(str(node.id), online) for node in machine.nodes if (online := node.cpus & machine.online)],
            "l3": [(str(number), cpus) for number, cpus in enumerate(machine.l3_domains)],
        }
        self._names = {kind: [name for name, _ in named] for kind, named in domains.items()}
        self._of: dict[Kind, dict[int, tuple[int, ...]]] = {
            kind: _by_cpu([cpus for _, cpus in named]) for kind, named in domains.items()
        }
        # The larger domains are around the smaller ones; an L3 cache may reach over several nodes.
        self._kinds: list[Kind] = [kind for kind, named in domains.items() if self._is_shown(len(machine.cores), named)]
        self._kinds.sort(key=lambda kind: -_average_size([cpus for _, cpus in domains[kind]]))

    def place(self, cpus: CpuSet) -> str:
        """Where a core is, in words, from the smallest domain to the largest."""
        parts = [f"core {cpus}"]
        parts += [self._label(kind, key) for kind in ("l3", "node", "package") if (key := self._key(kind, cpus))]
        return ", ".join(parts)

    def nest(self, cores: Sequence[Core]) -> tuple[Group, ...]:
        """The cores in nested boxes."""
        if not cores:
            return ()
        if not self._kinds:
            return (Group("package", "machine", cores=tuple(cores)),)
        whole: dict[Kind, Counter[tuple[int, ...]]] = {
            kind: Counter([self._key_of(kind, core) for core in cores]) for kind in self._kinds
        }
        return self._nest(cores, self._kinds, whole)

    def _is_shown(self, cores: int, domains: Sequence[tuple[str, CpuSet]]) -> bool:
        """Whether boxes of a kind tell something: not those that the kernel does not know, or that hold one core."""
        return bool(domains) and (len(domains) < cores or len(domains) == 1)

    def _nest(
        self, cores: Sequence[Core], kinds: Sequence[Kind], whole: Mapping[Kind, Counter[tuple[int, ...]]]
    ) -> tuple[Group, ...]:
        kind, *smaller = kinds
        parts: dict[tuple[int, ...], list[Core]] = {}
        for core in cores:
            parts.setdefault(self._key_of(kind, core), []).append(core)
        groups: list[Group] = []
        for key in sorted(parts, key=lambda key: (not key, key)):
            inside = parts[key]
            label = self._label(kind, key) + (" (part)" if key and len(inside) < whole[kind][key] else "")
            if not smaller:
                groups.append(Group(kind, label, cores=tuple(inside)))
                continue
            children = self._nest(inside, smaller, whole)
            if len(children) == 1:  # the same CPUs, so one box has both names
                child = children[0]
                groups.append(Group(kind, f"{label}, {child.label}", child.children, child.cores))
            else:
                groups.append(Group(kind, label, children))
        return tuple(groups)

    def _key_of(self, kind: Kind, core: Core) -> tuple[int, ...]:
        return self._key(kind, [cpu.id for cpu in core.cpus])

    def _key(self, kind: Kind, cpus: Iterable[int]) -> tuple[int, ...]:
        """The numbers of the domains that the CPUs are in; a core may be in several nodes."""
        of = self._of[kind]
        return tuple(sorted({number for cpu in cpus for number in of.get(cpu, ())}))

    def _label(self, kind: Kind, key: tuple[int, ...]) -> str:
        names = [self._names[kind][number] for number in key]
        if not names:
            return f"no {_NOUNS[kind]}"
        listed = str(CpuSet(map(int, names))) if all(map(_is_id, names)) else ",".join(names)
        return f"{_NOUNS[kind]}{'s' * (len(names) > 1)} {listed}"


def _is_id(name: str) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]{0,4}", name) is not None


def _by_cpu(domains: Sequence[CpuSet]) -> dict[int, tuple[int, ...]]:
    """By CPU, the numbers of the domains that it is in."""
    found: dict[int, list[int]] = {}
    for number, cpus in enumerate(domains):
        for cpu in cpus:
            found.setdefault(cpu, []).append(number)
    return {cpu: tuple(numbers) for cpu, numbers in found.items()}


def _average_size(domains: Sequence[CpuSet]) -> float:
    return sum(map(len, domains)) / len(domains)
