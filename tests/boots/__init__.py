# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the audit on booted kernels with real isolation; `tox -e boots` runs them."""
