# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Daemon: the running process. Socket, connections, batches of requests, answers, logs and signals.

It carries a request from its bytes to its committed answer. It never chooses CPUs or owners itself: `placement` and
`allocation` do.
"""
