# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Builds the documentation's pages with Sphinx: `python -m tools.build_docs [DIRECTORY]`, by default in build/docs.

A broken link, an anchor that does not exist, or a page that no other page leads to is an error. Each
run reads every file again, because Sphinx warns only about the files that it reads.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = ROOT / "docs"


def build(directory: Path) -> int:
    """Build the pages in the directory; returns Sphinx' exit code, which is 1 after a warning."""
    options = ["--builder", "html", "--quiet", "--fail-on-warning", "--fresh-env"]
    command = [sys.executable, "-m", "sphinx", *options, str(SOURCES), str(directory)]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Build the pages, and say where they are."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    code = build(directory)
    if code == 0:
        print(f"open {directory / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
