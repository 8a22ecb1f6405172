# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command line of the benchmarks: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.load import LoadError
from benchmarks.measure import FULL, QUICK, measure
from benchmarks.processes import OtherWork
from benchmarks.report import Run, show, write_json

#: It is on a disk on most systems. /tmp is often in memory, where a sync costs nothing.
_DIRECTORY: Final = "/var/tmp"


def main() -> int:
    """Measure and print. The exit code is 0 if everything was measured, whether fast or slow."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the daemon, and the floors under its times."
    )
    parser.add_argument("--quick", action="store_true", help="three sizes and shorter rounds, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(_DIRECTORY),
        help=f"on the disk to measure, default {_DIRECTORY}",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)  # ends the processes that we started
    begin, others = time.monotonic(), OtherWork()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="epa-", dir=arguments.directory) as directory,
            tempfile.TemporaryDirectory(prefix="epa-", dir=_memory()) as machines,
        ):
            results = measure(QUICK if arguments.quick else FULL, Path(directory), Path(machines), _say)
    except LoadError as error:
        print(f"The benchmarks could not be run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    run = Run(seconds=time.monotonic() - begin, other_work=others.share())
    show(results, run)
    if arguments.json:
        write_json(results, arguments.json, run)
    return 0


def _memory() -> Path | None:
    """A directory in memory, as sysfs is; None for the usual directory of temporary files."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
