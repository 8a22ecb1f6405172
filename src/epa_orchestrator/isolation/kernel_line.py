# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Kernel line: the parameters on the kernel's command line that isolate CPUs, read as the kernel reads them.

Sources, all of Linux 6.12: next_arg in lib/cmdline.c, parse_args in kernel/params.c, and
housekeeping_isolcpus_setup in kernel/sched/isolation.c.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple

from epa_orchestrator.cpuset import CpuSet, union
from epa_orchestrator.isolation.boot_lists import read_boot_list

Flag = Literal["domain", "managed_irq", "nohz"]

_FLAGS: Final[tuple[Flag, ...]] = ("domain", "managed_irq", "nohz")
_LETTERS: Final = frozenset(string.ascii_letters)

#: No architecture takes a longer kernel line.
_LONGEST: Final = 65_536


class Parameter(NamedTuple):
    """A word of the kernel line: its number from 1, its text, its name with `_` for `-`, and its value."""

    position: int
    text: str
    name: str
    value: str | None


@dataclass(frozen=True)
class Request:
    """One isolcpus= or nohz_full= on the line.

    `flags` are what it asks for: a nohz_full= asks for `nohz`, an isolcpus= without a flag for `domain`. `listed` is
    its list of CPUs as text. The kernel skips the words of `skipped`; with an `invalid` one it drops the parameter.
    """

    position: int
    text: str
    name: Literal["isolcpus", "nohz_full"]
    flags: frozenset[Flag]
    listed: str
    skipped: tuple[str, ...] = ()
    invalid: str = ""

    @property
    def named_cpus(self) -> CpuSet:
        """The CPUs in its list, as far as they can be understood, also those that do not exist."""
        return read_boot_list(self.listed, None).cpus

    def with_cpus(self, cpus: CpuSet | str) -> str:
        """The same parameter for these CPUs, without words that the kernel does not know."""
        if self.name == "nohz_full":
            return f"nohz_full={cpus}"
        written = self.text.partition("=")[2]
        flags = [flag for flag in _FLAGS if flag in self.flags and f"{flag}," in written]
        return f"isolcpus={','.join([*flags, str(cpus)])}"


@dataclass(frozen=True)
class KernelLine:
    """The text of a kernel line, as in `/proc/cmdline`."""

    text: str

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All words up to `--`, after which they belong to init."""
        return tuple(_parameters(self.text[:_LONGEST]))

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """Each isolcpus= and nohz_full=, in the order in which the kernel reads them."""
        return tuple(_requests(self.parameters))

    @property
    def isolcpus(self) -> tuple[Request, ...]:
        """Each isolcpus=."""
        return tuple(request for request in self.requests if request.name == "isolcpus")

    @cached_property
    def named_cpus(self) -> CpuSet:
        """The CPUs that isolcpus= and nohz_full= name, also where the kernel ignores that."""
        return CpuSet.from_mask(union(request.named_cpus.mask for request in self.requests))

    def values(self, name: str) -> tuple[str, ...]:
        """The values of each NAME= on the line, such as those of rcu_nocbs and irqaffinity."""
        return tuple(word.value for word in self.parameters if word.name == name and word.value is not None)


def _parameters(line: str) -> Iterator[Parameter]:
    for position, word in enumerate(_words(line), start=1):
        if word == "--":
            return
        text = word
        if text.startswith('"'):
            text = text[1:].removesuffix('"')
        # The kernel looks for the "=" from the second character on.
        equals = text.find("=", 1)
        if equals < 0:
            yield Parameter(position, word, text.replace("-", "_"), None)
            continue
        value = text[equals + 1 :]
        if value.startswith('"'):
            value = value[1:].removesuffix('"')
        yield Parameter(position, word, text[:equals].replace("-", "_"), value)


def _words(line: str) -> Iterator[str]:
    """The words between white space that no double quotes enclose."""
    word: list[str] = []
    quoted = False
    for char in line:
        if char.isspace() and not quoted:
            if word:
                yield "".join(word)
            word = []
            continue
        quoted ^= char == '"'
        word.append(char)
    if word:
        yield "".join(word)


def _requests(parameters: tuple[Parameter, ...]) -> Iterator[Request]:
    for word in parameters:
        if word.value is None:
            continue
        if word.name == "nohz_full":
            yield Request(word.position, word.text, "nohz_full", frozenset({"nohz"}), word.value)
        elif word.name == "isolcpus":
            yield _isolcpus(word, word.value)


def _isolcpus(word: Parameter, value: str) -> Request:
    flags: set[Flag] = set()
    skipped: list[str] = []
    rest = value
    while rest[:1] in _LETTERS:
        name, comma, rest = rest.partition(",")
        known: list[Flag] = [flag for flag in _FLAGS if comma and flag == name]
        if known:
            flags.update(known)
        elif set(name) <= _LETTERS | {"_"}:
            skipped.append(name)
        else:
            asked = frozenset(flags) or frozenset[Flag]({"domain"})
            return Request(word.position, word.text, "isolcpus", asked, rest, tuple(skipped), name)
    asked = frozenset(flags) or frozenset[Flag]({"domain"})
    return Request(word.position, word.text, "isolcpus", asked, rest, tuple(skipped))
