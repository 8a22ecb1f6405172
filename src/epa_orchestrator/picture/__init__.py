# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Picture: the machine as nested boxes with the owner and state of each CPU, drawn on a terminal or as SVG.

`model` says what is drawn, `arrange` where, `terminal` and `svg` draw it. The room never asks a daemon, never reads the
host, and writes no file.
"""
