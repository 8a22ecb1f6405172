# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Refusal: the error that a decision raises to refuse a request; the sentences are where it is raised."""

from __future__ import annotations

from epa_orchestrator.errors import EpaError
from epa_orchestrator.placement.rules import Unplaceable


class Refused(EpaError):
    """A request that is not granted; `unplaceable` has the details when a rule of placement refused it."""

    def __init__(self, sentence: str, unplaceable: Unplaceable | None = None) -> None:
        super().__init__(sentence)
        self.unplaceable = unplaceable
