# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The one exception for problems that the operator has to fix."""

from __future__ import annotations


class CharmError(Exception):
    """A problem that does not go away by itself; the message says what is wrong and what to do."""
