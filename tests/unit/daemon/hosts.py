# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The made-up host of the tests of encoded answers: two NUMA nodes with hugepages, and one with memory only."""

from __future__ import annotations

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from tools.synthetic import Shape, build

SHAPE = Shape(
    packages=2,
    cores_per_l3=4,
    threads_per_core=2,
    isolated="0-15",
    hugepages={2048: (64, 60), 1048576: (4, 4)},
    memory_only_nodes=1,
)


def host(shape: Shape = SHAPE, **options: object) -> Host:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return Host(RecordedSysfs(build(shape)), parse_settings(named))
