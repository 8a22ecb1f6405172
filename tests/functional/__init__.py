# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The daemon as its clients meet it: a real process, a real socket, a real database."""
