# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Names: the names of pools and preemption policies, which requests, settings and claims have in common."""

from __future__ import annotations

from typing import Final, Literal

#: `isolated` is what the kernel isolates; `general` is the pool that the operator configures.
PoolName = Literal["isolated", "general"]

#: Whether requests for a NUMA node may take a claim's CPUs: those of a `legacy` claim that is not explicit, yes.
PreemptionPolicy = Literal["legacy", "non-preemptive"]

#: The most characters of a service name, in requests and in the form NFC, which may be longer.
MAX_NAME_LENGTH: Final = 255
