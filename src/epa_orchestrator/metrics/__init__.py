# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Metrics: what Prometheus can learn of the daemon, counted on the request's way and served on loopback.

Every metric is in `catalogue`. `counts` counts requests; `figures` reads the ledger and the pools. `exporter` serves
both in a thread of its own. The room never changes anything, and a scrape never makes a request wait.
"""
