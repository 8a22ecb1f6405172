# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Fixtures for a real controller: the packed charm and the model.

`EPA_CHARM` names the packed charm if dist has several or none. The options of pytest-jubilant choose the
controller, the cloud and the model, such as `--juju-model NAME --no-juju-teardown`.
"""

from __future__ import annotations

import os
from pathlib import Path

import jubilant
import pytest

DIST = Path(__file__).parents[2] / "dist"


@pytest.fixture(scope="session")
def charm() -> Path:
    """The packed charm."""
    if named := os.environ.get("EPA_CHARM"):
        return Path(named).resolve(strict=True)
    packed = sorted(DIST.glob("*.charm"))
    if len(packed) != 1:
        pytest.fail(f"{len(packed)} packed charms are in dist: run 'tox -e pack', or name one in EPA_CHARM")
    return packed[0]


@pytest.fixture(scope="module")
def juju(juju: jubilant.Juju) -> jubilant.Juju:
    """The model of pytest-jubilant, with a time-out that is long enough to start a machine and install a snap."""
    juju.wait_timeout = 30 * 60
    return juju
