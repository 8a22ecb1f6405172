# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hardware: the host as it is. Reads the kernel's files for CPUs, NUMA nodes, caches, hugepages and devices.

It never decides who gets a CPU, and knows neither settings nor claims. All reading goes through `sysfs`, so that a
recorded host can stand in for the real one.
"""
