# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Placement: which CPUs a request gets. Pure functions from a topology and a policy to a set of CPUs.

It never reads a file, and knows neither services nor claims: free CPUs, own CPUs and the policy are arguments.
"""
