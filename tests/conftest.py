# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What all tests share: hypothesis without deadlines, because a loaded machine is no bug."""

from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.load_profile("default")
