# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tests in a virtual machine with systemd, snapd and AppArmor; only `tox -e machine` runs them."""
