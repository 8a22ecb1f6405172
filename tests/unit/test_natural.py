# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Names are sorted as people count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epa_orchestrator.natural import natural


@pytest.mark.parametrize(
    "names",
    [
        ["vm-2", "vm-10"],
        ["node2", "node10", "node100"],
        ["a1b2", "a1b10", "a2b1"],
        ["2", "10", "a"],
        ["Nova", "ovs"],
        ["a01", "a1", "a2"],
        ["a", "a1", "a1b"],
    ],
)
def test_natural_order(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(backwards, key=natural) == names


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=255)))
def test_order_does_not_depend_on_the_order_before(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(names, key=natural) == sorted(backwards, key=natural)
