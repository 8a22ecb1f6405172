# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The files at /job in the machine: the charm and the consumer charm as Juju unpacks them, and snaps."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Final

from tests import hooktools
from tests.machine.host import CONSUMER
from tests.machine.machine import SEARCH
from tools.pack_charm import pack as pack_charm
from tools.pack_charm import write_metadata
from tools.pack_snap import pack as pack_snap
from tools.packing import ROOT, architecture, document

#: The Python of the stand-in base, and of the machine itself.
PYTHON = "3.13"

HERE = Path(__file__).parent
EXAMPLES: Final = ROOT / "examples"


def prepare(directory: Path) -> None:
    """Lay out the files: `charm`, `consumer-charm` and `hooks`, and the snaps `newer`, `older` and `consumer`."""
    carried = pack_snap(directory / "carried.snap", PYTHON)
    pack_snap(directory / "newer.snap", PYTHON, version="99.0.0")
    squash(HERE / "older", directory / "older.snap")
    unzip(pack_charm(directory / "packed.charm", carried, PYTHON), directory / "charm")
    pack_consumer_snap(directory / "consumer.snap", directory / "consumer")
    lay_out_consumer_charm(directory / "consumer-charm", directory / "charm")
    (directory / "hooks").mkdir()
    hooktools.install(directory / "hooks")
    for name in ("packed.charm", "carried.snap"):
        (directory / name).unlink()


def pack_consumer_snap(snap: Path, workplace: Path) -> None:
    """Pack the example as its README says, with the name of the snap that the charm connects by default."""
    shutil.copytree(EXAMPLES / "consumer-snap", workplace)
    copy_library(workplace)
    pack_snap(snap, PYTHON, root=workplace, name=CONSUMER)
    shutil.rmtree(workplace)


def lay_out_consumer_charm(charm: Path, other: Path) -> None:
    """Lay the example out as charmcraft packs it, with the dispatch and the packages of the other charm."""
    example = EXAMPLES / "consumer-charm"
    shutil.copytree(example / "src", charm / "src", ignore=shutil.ignore_patterns("__pycache__"))
    copy_library(charm)
    write_metadata(document(example / "charmcraft.yaml"), charm, architecture())
    shutil.copy(other / "dispatch", charm)
    (charm / "venv").symlink_to(f"../{other.name}/venv")


def copy_library(project: Path) -> None:
    """Copy the library into a project, as the examples' READMEs say."""
    shutil.copytree(ROOT / "lib", project / "lib", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


def squash(tree: Path, snap: Path) -> None:
    """Make a snap out of a directory."""
    options = ["-noappend", "-comp", "lzo", "-all-root", "-quiet", "-no-progress"]
    subprocess.run(["mksquashfs", tree, snap, *options], env={"PATH": SEARCH}, check=True)


def unzip(charm: Path, directory: Path) -> None:
    """Unpack a charm with the modes of its files, as Juju does."""
    with zipfile.ZipFile(charm) as archive:
        for entry in archive.infolist():
            Path(archive.extract(entry, directory)).chmod(entry.external_attr >> 16 & 0o777)
