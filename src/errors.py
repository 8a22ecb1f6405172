# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The exceptions of the charm's modules: a problem that the operator has to fix, and one that goes away by itself."""

from __future__ import annotations


class CharmError(Exception):
    """A problem that does not go away by itself; the message says what is wrong and what to do."""


class TemporaryError(Exception):
    """A problem that goes away by itself, such as a store that cannot be reached: the next event tries again."""
