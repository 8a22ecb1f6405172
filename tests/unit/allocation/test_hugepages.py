# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hugepages: how many are left, and the records of services."""

from __future__ import annotations

import pytest

from epa_orchestrator.allocation.claims import Change
from epa_orchestrator.allocation.hugepages import free_pages, record, remove_record
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.hardware.hugepages import Hugepages


class TestPages:
    """Hugepages: free = free - max(recorded - (total - free), 0)."""

    @pytest.mark.parametrize(
        ("total", "free", "recorded", "reserved", "left"),
        [
            (8, 8, 0, 0, 8),
            (8, 8, 3, 0, 5),  # recorded, none in use yet
            (8, 5, 3, 0, 5),  # recorded and in use
            (8, 6, 3, 0, 5),  # two of the three in use
            (8, 2, 3, 0, 2),  # others use some as well
            (8, 1, 8, 0, 0),  # never below 0
            (8, 8, 3, 4, 1),  # and never the reserved ones
        ],
    )
    def test_free(self, total: int, free: int, recorded: int, reserved: int, left: int) -> None:
        ledger = Ledger.of([], {"a": {(0, 2048): recorded}} if recorded else {})
        assert free_pages(ledger, Hugepages(2048, total, free), reserved, 0) == left

    def test_only_the_increase_must_fit(self) -> None:
        kernel = Hugepages(2048, 8, 8)
        ledger = Ledger.of([], {"a": {(0, 2048): 6}, "b": {(0, 2048): 1}})
        ledger = ledger.apply(record(ledger, kernel, 0, "a", 0, 7))
        assert ledger.pages["a"] == {(0, 2048): 7}
        with pytest.raises(
            Refused, match=r"^NUMA node 0 size 2048 KB only has 0 free hugepages, requested additional 1$"
        ):
            record(ledger, kernel, 0, "b", 0, 2)
        assert record(ledger, kernel, 0, "a", 0, 7) == Change()
        assert ledger.apply(record(ledger, kernel, 0, "a", 0, 1)).recorded == {(0, 2048): 2}

    def test_dropping(self) -> None:
        ledger = Ledger.of([], {"a": {(0, 2048): 6, (1, 2048): 1}})
        ledger = ledger.apply(remove_record(ledger, "a", (0, 2048)))
        assert ledger.pages == {"a": {(1, 2048): 1}}
        assert remove_record(ledger, "a", (0, 2048)) == Change()
        ledger = ledger.apply(remove_record(ledger, "a", (1, 2048)))
        assert (dict(ledger.pages), dict(ledger.recorded)) == ({}, {})
