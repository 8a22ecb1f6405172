# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hands out a host's isolated CPUs and hugepages over a Unix socket, each to one owner only."""

__version__ = "1.0.0"
