# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the command epa-orchestrator, also as `python -m epa_orchestrator`."""

import gc
import os
import sys

# Without this, pydantic searches all installed distributions for plugins, which nearly doubles its import time.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")

# Imported objects live as long as the process, so the garbage collector need not visit them, now or later.
gc.disable()

from epa_orchestrator.cli.app import application, run  # noqa: E402

_APP = application(sys.argv[1:2])
gc.freeze()
gc.enable()


def main() -> None:
    """Run the command line."""
    run(_APP)


if __name__ == "__main__":
    main()
