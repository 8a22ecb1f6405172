# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The library for consumers, over real sockets: with this daemon, with older ones, and with odd servers."""
