# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The battery of faults: attempts to break the daemon's promises, by kind. `tox -e faults` runs it."""
