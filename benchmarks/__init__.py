# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""How fast the daemon is, compared with the best that this machine can do: `python -m benchmarks`."""
