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

from benchmarks.echo import has_uvloop
from benchmarks.load import LoadError
from benchmarks.measure import FULL, QUICK, measure
from benchmarks.processes import OtherWork
from benchmarks.report import Run, show, write_json

#: On a disk on most systems, while /tmp is often memory, where a sync costs nothing.
_DIRECTORY: Final = "/var/tmp"


def main() -> int:
    """Measure, print, and say whether that could be done; how fast anything was is no reason to fail."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the daemon and, beside it, the floors."
    )
    parser.add_argument("--quick", action="store_true", help="three sizes, shorter: under a minute")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), help="the daemon's loop; default: uvloop if installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument(
        "--directory", type=Path, default=Path(_DIRECTORY), help=f"on the disk to measure, default {_DIRECTORY}"
    )
    arguments = parser.parse_args()
    loop = arguments.loop or ("uvloop" if has_uvloop() else "asyncio")
    if loop == "uvloop" and not has_uvloop():
        parser.error("uvloop is not installed")
    signal.signal(signal.SIGTERM, _leave)  # so that the processes we started are ended
    begin, others = time.monotonic(), OtherWork()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="epa-", dir=arguments.directory) as directory,
            tempfile.TemporaryDirectory(prefix="epa-", dir=_memory()) as machines,
        ):
            results = measure(QUICK if arguments.quick else FULL, loop, Path(directory), Path(machines), _say)
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
    """Where files are in memory, as those in sysfs are; None: the usual place for temporary files."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
