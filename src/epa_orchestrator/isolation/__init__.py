# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolation: judges whether the CPUs that the kernel keeps free are really quiet, and who disturbs their owners.

One reader (`facts`, from the modules `…_facts`) collects facts from a root of `/proc`, `/sys`, `/boot` and `/etc`: this
host's, or a recorded one's. Everything else judges these facts and does no I/O: `judge` puts together what the modules
`…_checks` find, line_checks for A, scheduler_checks for B, tick_checks for C, interrupt_checks for D, owner_checks for
E and B3, power_checks for F. `claim_troubles` and `noise` tell the same of one claim. This room never writes to the host, never stops a process,
and never runs anything on the CPUs that it judges.
"""
