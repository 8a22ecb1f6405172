# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Folding stores the files of all CPUs once, and unfolding gives the same files."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.hardware.folding import fold, unfold
from tests.unit.hardware.recordings import PATHS, TEXTS


def test_fold_stores_each_text_once() -> None:
    files = {f"devices/system/cpu/cpu{cpu}/cache/index3/level": "3" for cpu in range(8)}
    files |= {"devices/system/cpu/cpu9/cache/index3/level": "2", "devices/system/cpu/online": "0-9"}
    assert fold(files) == {
        "devices/system/cpu/cpu{}/cache/index3/level": {"3": "0-7", "2": "9"},
        "devices/system/cpu/online": "0-9",
    }


@settings(deadline=None)
@given(st.dictionaries(PATHS, TEXTS, max_size=20))
def test_unfold_undoes_fold(files: dict[str, str]) -> None:
    assert unfold(fold(files)) == files
