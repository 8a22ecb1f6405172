# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The packed snap and charm in the arm64 machine, booted once for all tests."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Iterator

import pytest

from tests.architectures.bare import ARM64, BareMachine
from tests.machine.machine import Shape
from tools.pack_charm import pack as pack_charm
from tools.pack_snap import pack as pack_snap

#: The Python of Debian's release in the guest; the base core24 has 3.12, of which Debian has no package.
PYTHON = "3.13"

#: 2 packages of 2 clusters of 2 cores of 2 threads; each package is a NUMA node.
SHAPE = Shape(sockets=2, clusters=2, cores=2, threads=2, memory=1536, hugepages=16, isolated="4-7,12-15")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareMachine]:
    """The running machine, with the unpacked snap and charm in /job."""
    if not ARM64.is_built:
        pytest.skip(f"there is no machine in {ARM64.built}: `tox -e arm64` builds it and runs these tests")
    place = tmp_path_factory.mktemp("packed")
    files = tmp_path_factory.mktemp("job")
    snap = pack_snap(place / "packed.snap", PYTHON, target="arm64")
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-dest", files / "snap", snap], check=True)
    with zipfile.ZipFile(pack_charm(place / "packed.charm", None, PYTHON, target="arm64")) as charm:
        charm.extractall(files / "charm")
    with BareMachine(ARM64, files, SHAPE) as machine:
        yield machine
