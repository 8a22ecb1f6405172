# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Noise text: what disturbs the owner of a claim, in sentences for `why`, and in short lines for `map`.

An older daemon says nothing about noise, and neither does one that serves a machine without its host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from epa_orchestrator.cli.command_text import command_text
from epa_orchestrator.cli.folding import ends_in_command
from epa_orchestrator.cli.options import quote
from epa_orchestrator.cli.times import format_time

if TYPE_CHECKING:
    from epa_orchestrator.client import Client
    from epa_orchestrator.protocol.isolation import ClaimIsolation, IsolationAnswer, NoiseCounts, NoisyThread

#: The most threads and devices that a sentence names.
_MOST_NAMED: Final = 3
#: What the lists of threads mean, in a sentence and in a word.
_THREADS: Final[Mapping[str, str]] = {
    "strangers": "Threads of others work on its CPUs",
    "outside": "Threads of its own work elsewhere",
    "stacked": "Threads of its own share a CPU while another of its CPUs idles",
}
_SHORT: Final[Mapping[str, str]] = {"strangers": "stranger", "outside": "outside", "stacked": "stacked"}


def ask_isolation(client: Client, service: str | None = None) -> IsolationAnswer | None:
    """What the daemon knows of the noise of all claims, or of one; None where it audits no host."""
    if not client.supports("get-isolation"):
        return None
    answer = client.isolation(service)
    return answer if answer.read_at is not None else None


def claim_noise(client: Client, service: str | None) -> ClaimIsolation | None:
    """What the daemon knows of the noise of a service's claim."""
    answer = ask_isolation(client, service) if service is not None else None
    return answer.claims[0] if answer is not None and answer.claims else None


def is_quiet(claim: ClaimIsolation) -> bool:
    """Whether nothing disturbs the owner that has a remedy, as far as it is known."""
    return claim.culprit is None and not (claim.strangers or claim.outside or claim.stacked)


# --- why ---


def sentences(claim: ClaimIsolation) -> Iterator[str]:
    """The noise of a claim in whole sentences."""
    if claim.noise is not None and claim.since is not None:
        yield f"{_so_far(claim.noise)} since {format_time(claim.since)}."
    if claim.now is not None:
        yield f"Per second now: {_rates(claim.now) or 'nothing'}."
    for name, meaning in _THREADS.items():
        threads: Sequence[NoisyThread] = getattr(claim, name)
        if threads:
            yield f"{meaning}: {_named(threads, claim.more_threads.get(name, 0))}."
    if claim.culprit is not None:
        yield f"Most of the noise: {claim.culprit}."
    if claim.remedy:
        sentence = f"To stop it: {claim.remedy}"
        yield sentence if ends_in_command(sentence) else f"{sentence}."
    if not is_quiet(claim):
        command = command_text("audit", options=["--service", claim.service_name])
        yield f"To see all that disturbs it, and what to do: sudo {command}"
    if claim.problem is not None:
        yield f"{claim.problem}."
    elif claim.now is not None and is_quiet(claim):
        yield "Its CPUs are quiet."


def _so_far(noise: NoiseCounts) -> str:
    of_devices = sum(noise.interrupts.values())
    waited, switches = noise.waited_seconds or 0, noise.involuntary_switches or 0
    parts = {
        count_with(noise.ticks, "timer tick"): noise.ticks,
        f"{count_with(of_devices, 'device interrupt')}{_devices(noise)}": of_devices,
        count_with(noise.ipis, "interrupt", " of other CPUs"): noise.ipis,
        count_with(noise.other, "other interrupt"): noise.other,
        f"{number(waited)} s of waiting for a CPU": number(waited) != "0",
        count_with(switches, "involuntary switch", plural="es"): switches,
    }
    return f"Its CPUs had {', '.join(part for part, count in parts.items() if count) or 'no interrupts'}"


def _devices(noise: NoiseCounts) -> str:
    """The devices with the most interrupts, after their sum."""
    counts = {name: count for name, count in noise.interrupts.items() if count}
    loudest = sorted(counts.items(), key=lambda each: (each[0] == "(other)", -each[1]))
    named = [f"{name}: {count:,}" for name, count in loudest[:_MOST_NAMED]]
    if len(loudest) > _MOST_NAMED:
        named.append("…")
    return f" ({', '.join(named)})" if named else ""


def _rates(noise: NoiseCounts) -> str:
    """What came in a second, without what did not come."""
    if noise.seconds <= 0:
        return ""
    counts = {
        "timer ticks": noise.ticks,
        "device interrupts": sum(noise.interrupts.values()),
        "interrupts of other CPUs": noise.ipis,
        "other interrupts": noise.other,
        "s of waiting": noise.waited_seconds or 0,
        "involuntary switches": noise.involuntary_switches or 0,
    }
    rates = {name: number(count / noise.seconds) for name, count in counts.items()}
    return ", ".join(f"{rate} {name}" for name, rate in rates.items() if rate != "0")


def _named(threads: Sequence[NoisyThread], more: int) -> str:
    shown = [f"{quote(thread.name)} (PID {thread.pid}) on CPU {thread.cpu}" for thread in threads[:_MOST_NAMED]]
    more += len(threads) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")


# --- map ---


def short_lines(answer: IsolationAnswer, marks: Mapping[str, str]) -> Iterator[str]:
    """The noise of each service a second, the quiet ones together; `marks` are the letters of the picture."""
    known = [claim for claim in answer.claims if claim.service_name in marks and (claim.now or not is_quiet(claim))]
    if not known:
        return
    yield ""
    yield "noise a second:"
    for claim in known:
        if not is_quiet(claim):
            yield f"{marks[claim.service_name]} {', '.join(_short(claim)) or 'noisy'}"
    quiet = [marks[claim.service_name] for claim in known if is_quiet(claim)]
    if quiet:
        yield f"{' '.join(quiet)} quiet"


def _short(claim: ClaimIsolation) -> Iterator[str]:
    """The parts of a line: rates, then troubles with an exclamation mark."""
    noise = claim.now
    if noise is not None and noise.seconds > 0:
        counts = {
            "ticks": noise.ticks,
            "irqs": sum(noise.interrupts.values()),
            "ipis": noise.ipis,
            "ms waited": (noise.waited_seconds or 0) * 1000,
            "switches": noise.involuntary_switches or 0,
        }
        for name, count in counts.items():
            if (rate := number(count / noise.seconds)) != "0":
                yield f"{rate} {name}"
    for name, word in _SHORT.items():
        count = len(getattr(claim, name)) + claim.more_threads.get(name, 0)
        if count:
            yield f"{count} {word}{'s' if word == 'stranger' and count > 1 else ''}!"


# --- numbers ---


def number(value: float) -> str:
    """A number with two digits or more: `1,234`, `12`, `1.5`, `0.012`; `0` if it is below 0.01."""
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value >= 0.01 else "0"


def count_with(count: int, noun: str, after: str = "", *, plural: str = "s") -> str:
    """A count with its noun: `1 timer tick`, `1,000 timer ticks`."""
    return f"{count:,} {noun}{'' if count == 1 else plural}{after}"
