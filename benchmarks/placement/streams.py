# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Streams of requests: open loop, so that what arrives does not depend on what was granted.

Claims arrive as a Poisson process, live for lognormal times (mean 1, which is the unit of time), and are as large as
their profile says; the rate is such that on the average they ask for `load` of the machine's CPUs. Some are resized
while they live, to another size of the same profile, which leaves the load as it is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Literal

Profile = Literal["small", "mixed", "any"]
Kind = Literal["allocate", "resize", "release"]


@dataclass(frozen=True)
class Sizes:
    """What requests ask for: 1 to `largest` CPUs, each doubling of the size as frequent as the one before it.

    All but `ragged` of them are rounded up to whole cores, as usual for pinned virtual machines and poll-mode drivers.
    """

    largest: int
    ragged: float


PROFILES: Final[dict[Profile, Sizes]] = {
    "small": Sizes(8, 1 / 20),
    "mixed": Sizes(32, 1 / 20),
    # Two of three requests want an odd thread, so cores must be shared: which allocator shares more than necessary?
    "any": Sizes(32, 1.0),
}

#: The standard deviation of the logarithm of a lifetime: a fifth of the claims live for less than a quarter of the
#: mean, one in forty for more than four times as long.
_LIFETIME_SIGMA: Final = 1.0

_RESIZED: Final = 0.3
_RESIZED_AGAIN: Final = 0.3


@dataclass(frozen=True)
class Event:
    """What happens to a claim at a time; `count` is the size it should have then, 0 for a release."""

    time: float
    kind: Kind
    claim: int
    count: int


@dataclass(frozen=True)
class Scenario:
    """What a stream is made of; equal scenarios make equal streams."""

    cpus: int
    threads_per_core: int
    profile: Profile
    load: float
    requests: int
    seed: int
    resizes: bool = True


def stream(scenario: Scenario) -> list[Event]:
    """The events in the order of time; the releases of claims that outlive the last arrival are in it, too."""
    # A string seeds through SHA-512, the same on every Python.
    chance = random.Random(repr((scenario.seed, scenario.cpus, scenario.profile, scenario.load, scenario.resizes)))
    weights = size_weights(PROFILES[scenario.profile], scenario.threads_per_core)
    rate = arrivals(scenario)
    events: list[Event] = []
    now, requests, claim = 0.0, 0, 0
    while requests < scenario.requests:
        now += chance.expovariate(rate)
        count = _size(chance, weights)
        lifetime = chance.lognormvariate(-(_LIFETIME_SIGMA**2) / 2, _LIFETIME_SIGMA)
        events.append(Event(now, "allocate", claim, count))
        events.append(Event(now + lifetime, "release", claim, 0))
        resizes = _resizes(chance, weights, count) if scenario.resizes else []
        times = sorted(now + lifetime * chance.random() for _ in resizes)
        events += [Event(when, "resize", claim, size) for when, size in zip(times, resizes, strict=True)]
        requests += 1 + len(resizes)
        claim += 1
    return sorted(events, key=lambda event: event.time)


def arrivals(scenario: Scenario) -> float:
    """How many claims arrive in a mean lifetime."""
    weights = size_weights(PROFILES[scenario.profile], scenario.threads_per_core)
    return scenario.load * scenario.cpus / sum(size * weight for size, weight in weights.items())


def size_weights(sizes: Sizes, threads_per_core: int) -> dict[int, float]:
    """The probability of each size."""
    total = sum(1 / size for size in range(1, sizes.largest + 1))
    weights = dict.fromkeys(range(1, sizes.largest + 1), 0.0)
    for size in weights:
        whole_cores = -(-size // threads_per_core) * threads_per_core
        weights[size] += sizes.ragged / size / total
        weights[whole_cores] += (1 - sizes.ragged) / size / total
    return weights


def _size(chance: random.Random, weights: dict[int, float]) -> int:
    return chance.choices(list(weights), list(weights.values()))[0]


def _resizes(chance: random.Random, weights: dict[int, float], count: int) -> list[int]:
    """The sizes that a claim will have after its first one, each different from the one before."""
    resizes: list[int] = []
    while chance.random() < (_RESIZED_AGAIN if resizes else _RESIZED):
        size = count
        while size == count:
            size = _size(chance, weights)
        resizes.append(size)
        count = size
    return resizes
