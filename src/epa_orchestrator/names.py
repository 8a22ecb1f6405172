# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Names: those of pools, preemption policies and sources of isolated CPUs, which several rooms have in common."""

from __future__ import annotations

from typing import Final, Literal

#: `isolated` are the isolated CPUs; `general` is the pool that the operator configures.
PoolName = Literal["isolated", "general"]

#: Whether requests for a NUMA node may take a claim's CPUs: those of a `legacy` claim that is not explicit, yes.
PreemptionPolicy = Literal["legacy", "non-preemptive"]

#: Where the pool `isolated` comes from: the kernel's list `isolated` (isolcpus= with domain isolation), its list
#: `nohz_full`, or the isolated cpuset partitions (`cpuset.cpus.isolated` of the root of cgroup v2).
IsolatedCpusFrom = Literal["isolcpus", "nohz_full", "cpuset"]

#: The most characters of a service name, in requests and in the form NFC, which may be longer.
MAX_NAME_LENGTH: Final = 255
