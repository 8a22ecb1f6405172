# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Arguments and options that several commands share, with their help, and the checks of their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

import typer

from epa_orchestrator.cli.completion import complete_interfaces, complete_machines, complete_services
from epa_orchestrator.errors import printable
from epa_orchestrator.names import MAX_NAME_LENGTH, PoolName, PreemptionPolicy
from epa_orchestrator.nearest import did_you_mean

#: The highest number that a request may have (protocol/fields.py).
MOST: Final = 2**31 - 1
#: The most characters of a wrong value that a sentence quotes.
_MOST_QUOTED: Final = 80
#: Python reads no numbers that are much longer.
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,4000}", re.ASCII)
#: What a request accepts as a device (protocol/fields.py).
_DEVICE: Final = re.compile(r"(?!\.{1,2}$)[!-.0-~]{1,64}")

_DECIMAL_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)

_Number = TypeVar("_Number", int, float)
Values = Callable[[], Sequence[str]]


def choice(values: Values, *names: str, help: str, hidden: bool = False) -> Any:  # noqa: A002
    """An option with one of these values: any other is wrong use, and the shell completes them."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in values():
            raise typer.BadParameter(
                f"{quote(value)} is not one of {', '.join(values())}{did_you_mean(value, values()) or ''}"
            )
        return value

    def complete(incomplete: str) -> list[str]:
        return [value for value in values() if value.startswith(incomplete)]

    return typer.Option(*names, help=help, hidden=hidden, callback=check, autocompletion=complete)


def quote(value: str) -> str:
    """A value of the command line inside a sentence."""
    text = printable(value)
    return f"'{text}'" if len(text) <= _MOST_QUOTED else f"'{text[:_MOST_QUOTED]}…'"


def check_service(name: str | None) -> str | None:
    """Refuse what no service can be called; the daemon has more rules for new names."""
    if name is None:
        return None
    if not name:
        raise typer.BadParameter("the name is empty")
    if len(name) > MAX_NAME_LENGTH:
        raise typer.BadParameter(f"the name has {len(name)} characters: at most {MAX_NAME_LENGTH} are possible")
    if not name.isprintable():
        raise typer.BadParameter(f"{quote(name)} holds characters that cannot be printed")
    return name


def whole_number(text: object) -> int:
    """Read a number of the command line, which may have a sign and digits only."""
    if _WHOLE_NUMBER.fullmatch(str(text)) is None:
        raise typer.BadParameter(f"must be a whole number, not {quote(str(text))}")
    return int(str(text))


def decimal_number(text: object) -> float:
    """Read a number of the command line, which may have a sign, digits and a point."""
    if _DECIMAL_NUMBER.fullmatch(str(text)) is None:
        raise typer.BadParameter(f"must be a number such as 5 or 2.5, not {quote(str(text))}")
    return float(str(text))


def within(least: int, most: int) -> Callable[[_Number | None], _Number | None]:
    """A check that refuses a number outside of these bounds."""

    def check(number: _Number | None) -> _Number | None:
        if number is not None and not least <= number <= most:
            raise typer.BadParameter(f"must be from {least} to {most}, not {quote(str(number).removesuffix('.0'))}")
        return number

    return check


#: Refuses a number that no request can have.
check_number: Final[Callable[[int | None], int | None]] = within(0, MOST)


def _check_count(count: int | None) -> int | None:
    if count is not None and count < 0:
        raise typer.BadParameter(f"must be at least 1, not {quote(str(count))}: use 'epa-orchestrator release'")
    return check_number(count)


def _check_near(value: str | None) -> str | None:
    if value is not None and _DEVICE.fullmatch(value) is None:
        raise typer.BadParameter(f"must be a NUMA node, a PCI address or a network interface, not {quote(value)}")
    return value


def _placement(name: str) -> Values:
    """The values of a placement option, imported when they are needed."""

    def values() -> Sequence[str]:
        from epa_orchestrator.placement import policy

        return get_args(getattr(policy, name))

    return values


def _preemption_policies() -> Sequence[str]:
    return get_args(PreemptionPolicy)


def pools() -> Sequence[str]:
    """The names of the pools."""
    return get_args(PoolName)


ServiceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SERVICE",
        help="The service that gets the CPUs.",
        callback=check_service,
        autocompletion=complete_services,
    ),
]
CountArgument = Annotated[
    int | None, typer.Argument(metavar="COUNT", help="The number of CPUs.", parser=whole_number, callback=_check_count)
]
DefaultSizeOption = Annotated[
    bool, typer.Option("--default-size", help="Give the default size, which depends on what is free, instead of COUNT.")
]
PercentOption = Annotated[
    int | None,
    typer.Option(
        help="The share of the pool's CPUs in percent, instead of COUNT.", parser=whole_number, callback=within(1, 100)
    ),
]
NumaNodeOption = Annotated[
    int | None, typer.Option(help="Take COUNT CPUs of this NUMA node only.", parser=whole_number, callback=check_number)
]
PreemptionPolicyOption = Annotated[
    str | None,
    choice(
        _preemption_policies,
        "--preemption-policy",
        help="Whether requests for a NUMA node may take these CPUs: legacy (yes) or non-preemptive (no).",
    ),
]
#: The earlier name of --preemption-policy.
OldPolicyOption = Annotated[str | None, choice(_preemption_policies, "--policy", help="", hidden=True)]
NumaPolicyOption = Annotated[
    str | None,
    choice(
        _placement("NumaPolicy"),
        "--numa-policy",
        help="How NUMA nodes limit the choice: none, best-effort, restricted or single-numa-node.",
    ),
]
CpuThreadPolicyOption = Annotated[
    str | None,
    choice(
        _placement("CpuThreadPolicy"),
        "--cpu-thread-policy",
        help="How threads of a core are used: prefer, share, require or isolate.",
    ),
]
UncoreCacheAlignmentOption = Annotated[
    str | None,
    choice(
        _placement("UncoreCacheAlignment"),
        "--uncore-cache-alignment",
        help="Whether to keep to few L3 cache domains: none, prefer or require.",
    ),
]
NearOption = Annotated[
    str | None,
    typer.Option(
        help="Prefer CPUs near a NUMA node, a PCI address or a network interface.",
        callback=_check_near,
        autocompletion=complete_interfaces,
    ),
]
PoolOption = Annotated[str, choice(pools, "--pool", help="The pool: isolated or general.")]
SocketOption = Annotated[
    Path | None, typer.Option("--socket", help="The path of the daemon's socket.", envvar="EPA_SOCKET")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
MachineOption = Annotated[
    str | None,
    typer.Option(
        "--machine",
        help="A recorded machine instead of this host: a file, or the name of one that ships.",
        autocompletion=complete_machines,
    ),
]
