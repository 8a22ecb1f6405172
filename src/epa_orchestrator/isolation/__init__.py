# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolation: judges whether the CPUs that the kernel keeps free are really quiet, and who disturbs their owners.

One reader (`facts`, from the modules `…_facts`) collects facts from a root of `/proc`, `/sys`, `/boot` and `/etc`: this
host's, or a recorded one's. Everything else judges these facts and does no I/O. `judge` puts together what the modules
`…_checks` find: A in `line_checks`, B in `scheduler_checks`, C in `tick_checks`, D in `interrupt_checks`, E and B3 in
`owner_checks`, F in `power_checks`. `claim_troubles` and `noise` are about one claim.

This room never writes to the host, never stops a process, and never runs anything on the CPUs that it judges.
"""
