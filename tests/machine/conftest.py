"""So that all tests share one boot: under emulation it takes a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.machine import BUILT, Machine


@pytest.fixture(scope="session")
def machine_files() -> Path | None:
    """The directory that the guest has at /job: the one boot is all tests', so what any of them needs goes here."""
    return None


@pytest.fixture(scope="session")
def machine(machine_files: Path | None) -> Iterator[Machine]:
    """The running machine."""
    if not (BUILT / "root.img").exists():
        pytest.skip(f"there is no machine in {BUILT}: `tox -e machine` makes it and runs these tests")
    with Machine(machine_files) as machine:
        yield machine
