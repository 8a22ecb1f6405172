# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Fixtures: the packed charm, shared by all tests, and a machine and a unit for each test."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_snapd.server import serving
from tests.fake_snapd.snaps import write_snap
from tests.service import short_directory

from .unit import WAYS_IN, Host, Unit, inside, make_root

SOURCE = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def way_in() -> list[str]:
    """The command with which this user enters a new mount namespace."""
    problems: list[str] = []
    for way in WAYS_IN:
        with short_directory() as directory:
            command = inside(way, make_root(directory), "test", "-x", "/usr/bin/snap")
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            except OSError as error:
                problems.append(str(error))
                continue
        if done.returncode == 0:
            return way
        problems.append(done.stderr.strip())
    pytest.skip(f"no new mount namespace for the fake machine: {'; '.join(problems)}")


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed charm with a snap of the stand-in's kind; the workers of xdist share it."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    charm = directory / "packed.charm"
    with (directory / "packing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not charm.exists():
            _pack(charm, write_snap(directory / "bundled.snap", "2.0"))
    return charm


def _pack(charm: Path, snap: Path) -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [sys.executable, "-m", "tools.pack_charm", "--snap", str(snap), "--python", python, "--output"]
    source_path = os.pathsep.join((str(SOURCE / "src"), str(SOURCE)))
    new = charm.with_name("new.charm")
    done = subprocess.run(
        [*command, str(new)],
        cwd=SOURCE,
        env=os.environ | {"PYTHONPATH": source_path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    new.rename(charm)


@pytest.fixture(scope="session")
def unzipped(packed: Path) -> Iterator[Path]:
    """The charm's files; each unit gets hard links to them."""
    with short_directory() as directory:
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(directory)
        (directory / "dispatch").chmod(0o755)
        _compile(directory)
        yield directory


def _compile(charm: Path) -> None:
    """Compile all imports once for all units: a zip does not keep the times by which Python judges compiled files."""
    (packages,) = charm.glob("venv/lib/*/site-packages")
    environment = {"PYTHONPATH": f"{charm / 'src'}:{packages}", "PYDANTIC_DISABLE_PLUGINS": "true"}
    subprocess.run([sys.executable, "-S", "-c", "import charm, ops_tracing, ops._main"], env=environment, check=True)


@pytest.fixture
def host() -> Iterator[Host]:
    """A machine whose kernel isolates CPUs 2-7 of 8."""
    with short_directory() as directory:
        host = Host(make_root(directory))
        with serving(host.snapd, directory / "run" / "snapd.socket"):
            try:
                yield host
            finally:
                host.close()


@pytest.fixture
def unit(host: Host, unzipped: Path, way_in: list[str]) -> Unit:
    """The unit before its first hook."""
    charm = host.root / "charm"
    shutil.copytree(unzipped, charm, copy_function=os.link)
    return Unit(host, charm, way_in)
