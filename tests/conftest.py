# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What all tests share: hypothesis without deadlines, because a loaded machine is no bug, and enough open files."""

import resource

from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.load_profile("default")

#: Some tests connect thousands of clients. Ordinary users begin with 1,024 open files, and may have more.
_OPEN_FILES = 20_000

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
allowed = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
if soft < allowed:
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
