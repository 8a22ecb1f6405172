# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command line: `python -m benchmarks.placement --help`."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.processes import OtherWork
from benchmarks.report import Run


def main() -> int:
    """Measure and print. The exit code is 0 for good and bad results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.placement",
        description="Replay streams of requests through this daemon's placement and through other allocators.",
    )
    parser.add_argument("--quick", action="store_true", help="shorter streams, the default policy only: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument(
        "--seed", type=int, default=1, help="the seed of the streams, default 1; the same seed gives the same streams"
    )
    arguments = parser.parse_args()
    if find_spec("highspy") is None:
        parser.error("highspy is not installed, which the clairvoyant bound needs: pip install highspy")
    from benchmarks.placement.measure import FULL, QUICK, measure
    from benchmarks.placement.report import show, write_json

    begin, others = time.monotonic(), OtherWork()
    try:
        results = measure(replace(QUICK if arguments.quick else FULL, seed=arguments.seed), _say)
    except KeyboardInterrupt:
        return 130
    run = Run(seconds=time.monotonic() - begin, other_work=others.share())
    show(results, run)
    if arguments.json:
        write_json(results, arguments.json, run)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
