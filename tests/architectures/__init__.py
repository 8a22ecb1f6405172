# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the packed snap on an emulated machine of another architecture; `tox -e arm64` runs them."""
