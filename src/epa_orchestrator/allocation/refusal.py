# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Refusal: the error that a decision raises to refuse a request; the sentences are where it is raised."""

from __future__ import annotations

from typing import Final, Literal, cast

from epa_orchestrator.errors import EpaError
from epa_orchestrator.placement.rules import NOT_PLACEABLE, Unplaceable

#: How the sentences begin and end that refuse a request because of CPUs that others hold (see `concerns_room`).
INSUFFICIENT: Final = "Insufficient CPUs available. "
HELD_BY_OTHERS: Final = " are held by other services"

#: The kinds of refusals, which metrics count: a few words, never text of a request.
RefusalRule = Literal[
    # The three options of placement with values that refuse requests.
    "numa-policy",
    "cpu-thread-policy",
    "uncore-cache-alignment",
    # Not enough CPUs or hugepages are free.
    "insufficient",
    # The pool grants nothing, or the service holds CPUs in the other pool.
    "pool",
    # The service holds CPUs that are offline or no longer in its pool.
    "unavailable",
    # The NUMA node, device or size of hugepages does not exist.
    "not-found",
    # The request's wish contradicts the operator's options.
    "wish",
    # Other services would lose CPUs that the request does not agree to.
    "may-take",
    "preemption-policy",
    # max-services or max-hugepage-records is reached.
    "limit",
    # A new service's name cannot be read well.
    "name",
    "other",
]


class Refused(EpaError):
    """A request that is not granted; `unplaceable` has the details when a rule of placement refused it.

    `rule` is the kind of refusal.
    """

    def __init__(self, sentence: str, unplaceable: Unplaceable | None = None, *, rule: RefusalRule = "other") -> None:
        super().__init__(sentence)
        self.unplaceable = unplaceable
        self.rule: RefusalRule = rule if unplaceable is None else cast("RefusalRule", unplaceable.rule.option)


def concerns_room(sentence: str) -> bool:
    """Whether a refusal says that CPUs are missing, or are not where a rule needs them, so that moving claims may help.

    A client has the sentence alone, of older daemons too.
    """
    return sentence.startswith(INSUFFICIENT) or NOT_PLACEABLE in sentence or sentence.endswith(HELD_BY_OTHERS)
