# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Builds the kernel and the initrd that the tests boot, from Debian's packages for amd64.

    python -m tests.boots.build [WORKDIR]

It takes about 20 s, and root only if QEMU is missing.
"""

from __future__ import annotations

import sys

from tests.architectures.bare import AMD64
from tests.architectures.build import build_bare

if __name__ == "__main__":
    sys.exit(build_bare(AMD64, "python -m tests.boots.build"))
