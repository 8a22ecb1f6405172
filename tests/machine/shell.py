# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A shell in the machine for developers, used by hand or by a script that sends one command at a time.

    python -m tests.machine.shell [--files DIR]

Each line runs in its own bash, as root; `:put HOST GUEST` and `:get GUEST HOST` copy a file; `exit` ends the machine.
To keep a machine in the background, give it a FIFO that is open for writing too, so that its input never ends:

    mkfifo in; python -m tests.machine.shell <>in >out 2>&1 &
    echo 'snap list' >in
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.machine.emulator import CommandError, MachineError
from tests.machine.machine import BUILT, Machine, Shape


def copy(machine: Machine, words: list[str]) -> None:
    """Copy a file into the guest, with its mode, or out of it."""
    match words:
        case [":put", source, target]:
            machine.put(target, Path(source).read_bytes(), Path(source).stat().st_mode & 0o7777)
        case [":get", source, target]:
            Path(target).write_bytes(machine.get(source))
        case _:
            raise ValueError("unknown command: use :put HOST GUEST or :get GUEST HOST")


def perform(machine: Machine, line: str, timeout: float) -> None:
    """Run a line, and print its result."""
    if line.startswith(":"):
        try:
            copy(machine, shlex.split(line))
            print("[copied]", flush=True)
        except (OSError, ValueError, CommandError) as error:
            print(f"[{error}]", flush=True)
        return
    result = machine.shell(line, timeout=timeout, check=False)
    print(result.out, end="")
    print(result.err, end="")
    end = "timed out" if result.timed_out else f"status {result.rc}"
    print(f"[{end}, {result.seconds:.1f} s]", flush=True)


def lines() -> Iterator[str]:
    """Yield the lines of the input, with a prompt on a terminal."""
    while True:
        if sys.stdin.isatty():
            print("guest# ", end="", flush=True)
        line = sys.stdin.readline()
        if not line or line.strip() == "exit":
            return
        if line.strip():
            yield line.strip()


def main() -> int:
    """Boot, run the lines, and end the machine."""
    parser = argparse.ArgumentParser(prog="python -m tests.machine.shell", description="A prompt in the machine.")
    parser.add_argument("--files", type=Path, help="a directory that the guest has, as a copy, at /job")
    parser.add_argument("--built", type=Path, default=BUILT, help="where the machine was built (%(default)s)")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that a line may take (%(default)s)")
    parser.add_argument("--append", default="", help="more for the kernel's command line")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        with Machine(options.files, Shape(append=options.append), options.built) as machine:
            print(f"[booted, {time.monotonic() - start:.1f} s; the console is in {machine.screen}]", flush=True)
            for line in lines():
                perform(machine, line, options.timeout)
    except MachineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
