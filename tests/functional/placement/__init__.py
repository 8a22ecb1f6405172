# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Placement over the wire: options, wishes, dry runs, explanations, and claims that stay in place."""
