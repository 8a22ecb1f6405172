# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Placement on streams of requests, compared with other allocators: `python -m benchmarks.placement --help`."""
