# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A process that opens the state in a directory as a starting daemon does, once for each line that it reads."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from .states import opened


def main() -> None:
    """Open, close, and answer each line with one."""
    directory, legacy = map(Path, sys.argv[1:])
    logging.disable(logging.CRITICAL)
    for _ in sys.stdin:
        _, store, _ = opened(directory, legacy)
        if store is not None:
            store.close()
        print("opened", flush=True)


if __name__ == "__main__":
    main()
