# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A stand-in for snapd and for the command `snap`, with every answer and every failure that a test needs.

`snaps` is what is installed and what the store has, `troubles` are the failures to come, `snapd` answers requests and
commands, `server` serves it. The state is in memory; the files that others see of snapd (the installed snaps, the mount
profiles) lie below a directory of the test. It knows the part of snapd's REST API that charmlibs.snap uses. The program
in the place of /usr/bin/snap sends its arguments to the same server.
"""
