# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Building in parts: each part is a file or a directory, made once, out of Debian's packages."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.machine.emulator import MachineError
from tests.machine.machine import SEARCH

#: The release in the guest, whatever the host's is.
SUITE: Final = "trixie"


class BuildError(Exception):
    """The machine cannot be built on this host."""


def run_build(program: str, description: str, default: Path, build: Callable[[Path], None]) -> int:
    """Build in the directory that the command line names, or print why that is not possible; returns the exit code."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("workdir", nargs="?", type=Path, default=default, help="where to make it (%(default)s)")
    try:
        build(parser.parse_args().workdir.resolve())
    except (BuildError, MachineError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


class Parts:
    """A work directory, and the steps that make its parts."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print the progress."""
        print(f"[{time.monotonic() - self._start:4.0f} s] {text}", flush=True)

    def call(self, *argv: str | Path, cwd: Path | None = None) -> str:
        """Run a program and return its output; its errors go to the build's log."""
        environment = os.environ | {"PATH": SEARCH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        with (self._work / "build.log").open("a") as log:
            try:
                done = subprocess.run(
                    argv, check=False, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
                )
            except FileNotFoundError:
                raise BuildError(f"the program {argv[0]} is missing: install it") from None
            log.write(done.stdout)
        if done.returncode:
            raise BuildError(f"{argv[0]} ended with status {done.returncode}: see {self._work / 'build.log'}")
        return done.stdout

    def make(self, name: str, maker: Callable[[Path], None]) -> Path:
        """Make a file or directory unless it exists; it gets its name when it is complete."""
        target, part = self._work / name, self._work / f"{name}.part"
        if not target.exists():
            self.say(name)
            remove(part)
            maker(part)
            part.rename(target)
        return target

    def install(self, tools: Mapping[str, str]) -> None:
        """Install the programs of `tools` that are missing on this host, each with its package."""
        missing = [package for tool, package in tools.items() if not shutil.which(tool, path=SEARCH)]
        if missing:
            self.say(f"apt-get install {' '.join(missing)}")
            self.call("apt-get", "update")
            self.call("apt-get", "install", "-y", "--no-install-recommends", *missing)

    def mirror(self) -> str:
        """The mirror of Debian that this host's apt uses."""
        which = ("Created-By: Packages", "Label: Debian")
        mirrors = self.call("apt-get", "indextargets", "--format", "$(REPO_URI)", *which).split()
        if not mirrors:
            raise BuildError("apt on this host has no mirror of Debian")
        return mirrors[0]


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file and the directories above it; replace a symbolic link instead of following it out of the tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def find(tree: Path, pattern: str) -> Path:
    """The first file that matches: releases differ in its directory."""
    for path in sorted(tree.glob(pattern)):
        return path
    raise BuildError(f"{tree} has no {pattern}: remove that directory, and try again")


def remove(path: Path) -> None:
    """Remove a file or a directory, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def strip(tree: Path, ballast: Sequence[str]) -> None:
    """Remove the files that match these patterns."""
    for pattern in ballast:
        for path in tree.glob(pattern):
            remove(path)
