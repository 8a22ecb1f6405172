# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Allocation: who owns what. Settings, pools, claims and hugepage records, and the decisions that change them.

A decision returns a change and touches nothing; only `host` reads the machine, again when it may have changed. It never
talks to a client and never writes to disk.
"""
