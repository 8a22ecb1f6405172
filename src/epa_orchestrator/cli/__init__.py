# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Cli: the command epa-orchestrator. Words on the command line become requests; answers become tables or JSON.

It never decides anything: it prints the answers of a daemon, or the findings of the rooms below. `app` has the table
of all commands, with the module of each.
"""
