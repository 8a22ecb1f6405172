# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machine, booted once for all tests: under emulation a boot takes a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.machine.machine import BUILT, REPOSITORY, Machine
from tests.machine.payload import prepare
from tests.machine.unit import Unit


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The running machine, with the files of all tests at /job."""
    if not (BUILT / "root.img").exists():
        pytest.skip(f"there is no machine in {BUILT}: `tox -e machine` builds it and runs these tests")
    files = tmp_path_factory.mktemp("job")
    prepare(files)
    with Machine(files) as machine:
        yield machine


@pytest.fixture(scope="module")
def unit(machine: Machine) -> Unit:
    options = yaml.safe_load((REPOSITORY / "charmcraft.yaml").read_text(encoding="utf-8"))["config"]["options"]
    return Unit(machine, {name: option["default"] for name, option in options.items()})
