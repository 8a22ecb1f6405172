# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Configure: the snap's configure hook. It checks proposed options against the host and its claims, and stores them.

It refuses a whole set of options or accepts it; it never changes claims.
"""
