# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Arguments and options that several commands share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ServiceArgument = Annotated[str, typer.Argument(help="The service that gets the CPUs.")]
CountArgument = Annotated[int | None, typer.Argument(help="The number of CPUs.", min=0)]
DefaultSizeOption = Annotated[
    bool, typer.Option("--default-size", help="Give the default size, which depends on what is free, instead of COUNT.")
]
PercentOption = Annotated[
    int | None, typer.Option(help="The share of the pool's CPUs in percent, instead of COUNT.", min=1, max=100)
]
NumaNodeOption = Annotated[int | None, typer.Option(help="Take COUNT CPUs of this NUMA node only.", min=0)]
PreemptionPolicyOption = Annotated[
    str | None,
    typer.Option(
        "--preemption-policy",
        help="Whether requests for a NUMA node may take these CPUs: legacy (yes) or non-preemptive (no).",
    ),
]
#: The earlier name of --preemption-policy.
OldPolicyOption = Annotated[str | None, typer.Option("--policy", hidden=True)]
NumaPolicyOption = Annotated[
    str | None,
    typer.Option(
        "--numa-policy",
        help="How NUMA nodes limit the choice: none, best-effort, restricted or single-numa-node.",
    ),
]
CpuThreadPolicyOption = Annotated[
    str | None,
    typer.Option("--cpu-thread-policy", help="How threads of a core are used: prefer, share, require or isolate."),
]
UncoreCacheAlignmentOption = Annotated[
    str | None,
    typer.Option("--uncore-cache-alignment", help="Whether to keep to few L3 cache domains: none, prefer or require."),
]
NearOption = Annotated[
    str | None, typer.Option(help="Prefer CPUs near a NUMA node, a PCI address or a network interface.")
]
PoolOption = Annotated[str, typer.Option("--pool", help="The pool: isolated or general.")]
SocketOption = Annotated[
    Path | None, typer.Option("--socket", help="The path of the daemon's socket.", envvar="EPA_SOCKET")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
MachineOption = Annotated[
    str | None,
    typer.Option("--machine", help="A recorded machine instead of this host: a file, or the name of one that ships."),
]
