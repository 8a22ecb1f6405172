# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The files at /job in the machine: the charm as Juju unpacks it, and snaps."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from tests import hooktools
from tests.machine.machine import SEARCH
from tools.pack_charm import pack as pack_charm
from tools.pack_snap import pack as pack_snap

#: The Python of the stand-in base, and of the machine itself.
PYTHON = "3.13"

HERE = Path(__file__).parent


def prepare(directory: Path) -> None:
    """Lay out the files: `charm` and `hooks`, and the snaps `newer`, `older` and `consumer`."""
    carried = pack_snap(directory / "carried.snap", PYTHON)
    pack_snap(directory / "newer.snap", PYTHON, version="99.0.0")
    for name in ("older", "consumer"):
        squash(HERE / name, directory / f"{name}.snap")
    unzip(pack_charm(directory / "packed.charm", carried, PYTHON), directory / "charm")
    (directory / "hooks").mkdir()
    hooktools.install(directory / "hooks")
    for name in ("packed.charm", "carried.snap"):
        (directory / name).unlink()


def squash(tree: Path, snap: Path) -> None:
    """Make a snap out of a directory."""
    options = ["-noappend", "-comp", "lzo", "-all-root", "-quiet", "-no-progress"]
    subprocess.run(["mksquashfs", tree, snap, *options], env={"PATH": SEARCH}, check=True)


def unzip(charm: Path, directory: Path) -> None:
    """Unpack a charm with the modes of its files, as Juju does."""
    with zipfile.ZipFile(charm) as archive:
        for entry in archive.infolist():
            Path(archive.extract(entry, directory)).chmod(entry.external_attr >> 16 & 0o777)
