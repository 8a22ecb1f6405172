# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPU lists as the kernel writes them."""

from __future__ import annotations

from collections.abc import Iterable


def parse_cpus(text: str) -> set[int]:
    """Read the kernel's CPU list syntax, and insist on its normal form."""
    cpus: set[int] = set()
    for part in text.split(",") if text else []:
        low, _, high = part.partition("-")
        cpus.update(range(int(low), int(high or low) + 1))
    assert format_cpus(cpus) == text, f"not the kernel's way to write a CPU list: {text!r}"
    return cpus


def format_cpus(cpus: Iterable[int]) -> str:
    """Write CPU ids as the kernel does."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
