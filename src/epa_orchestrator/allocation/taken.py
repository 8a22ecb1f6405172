# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Taken: which services lose CPUs to a request, for answers, the log and the history. All of it is bounded."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from epa_orchestrator.allocation.claims import Change, Claim
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import printable
from epa_orchestrator.units import count_of, named_cpus

#: The most bytes of JSON that name services and CPUs: the longest name (255 characters of four bytes) with its CPUs
#: fits. The first service is always named.
_MAX_BYTES: Final = 1100


class Taken(NamedTuple):
    """CPU lists by service in order of the names; `others` more services lose `other_cpus` together."""

    services: dict[str, str]
    others: int = 0
    other_cpus: CpuSet = EMPTY

    def __bool__(self) -> bool:
        return bool(self.services)

    def __str__(self) -> str:
        """Words such as "CPU 2 from 'nova', CPUs 3-4 from 'ceph'", printable on one line."""
        words = [f"{named_cpus(cpus)} from '{printable(service)}'" for service, cpus in self.services.items()]
        return ", ".join([*words, self.words_about_others()] if self.others else words)

    def words_about_others(self) -> str:
        """Words about those who are not named, such as "CPUs 5-9 from 3 other services"."""
        return f"{named_cpus(str(self.other_cpus))} from {count_of(self.others, 'other service')}"


NOTHING_TAKEN: Final = Taken({})


def taken_by(change: Change) -> Taken:
    """What services lose to the one that gains CPUs in a change."""
    if len(change.claims) < 2:  # the usual case: nobody loses anything
        return NOTHING_TAKEN
    lost = losses(change)
    services: dict[str, str] = {}
    size = 0
    for service in sorted(lost):
        cpus = str(lost[service])
        size += len(json.dumps(service, ensure_ascii=False).encode("utf-8", "replace")) + len(cpus) + 4
        if services and size > _MAX_BYTES:
            break
        services[service] = cpus
    rest = [cpus for service, cpus in lost.items() if service not in services]
    other_cpus = EMPTY
    for cpus in rest:
        other_cpus |= cpus
    return Taken(services, len(rest), other_cpus)


def gainer(change: Change) -> str | None:
    """The service that gains CPUs in a change; None when no service does."""
    return next((each.service for each in change.claims if _gain(each.before, each.after)), None)


def losses(change: Change) -> dict[str, CpuSet]:
    """The CPUs that each service loses to the one that gains them."""
    gained = EMPTY
    for each in change.claims:
        gained |= _gain(each.before, each.after)
    lost = {each.service: _gain(each.after, each.before) & gained for each in change.claims}
    return {service: cpus for service, cpus in lost.items() if cpus}


def _gain(before: Claim | None, after: Claim | None) -> CpuSet:
    cpus = after.cpus if after is not None else EMPTY
    return cpus - before.cpus if before is not None else cpus
