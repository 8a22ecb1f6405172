# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Kernel line: the parameters on the kernel's command line that isolate CPUs, read as the kernel reads them."""

from __future__ import annotations

from dataclasses import dataclass

from epa_orchestrator.cpuset import EMPTY, CpuSet


@dataclass(frozen=True)
class KernelLine:
    """The text of a kernel line, as in `/proc/cmdline`."""

    text: str

    @property
    def named_cpus(self) -> CpuSet:
        """The CPUs that isolcpus= and nohz_full= name, also where the kernel ignores that."""
        return EMPTY
