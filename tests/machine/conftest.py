# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machine, booted once for all tests: under emulation a boot takes a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.machine import BUILT, Machine
from tests.machine.payload import prepare


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The running machine, with the files of all tests at /job."""
    if not (BUILT / "root.img").exists():
        pytest.skip(f"there is no machine in {BUILT}: `tox -e machine` builds it and runs these tests")
    files = tmp_path_factory.mktemp("job")
    prepare(files)
    with Machine(files) as machine:
        yield machine
