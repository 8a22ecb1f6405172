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


@pytest.mark.parametrize(
    ("kernel", "recorded", "reserved", "left"),
    [
        (Hugepages(2048, 1024, 1024), 0, 256, 768),  # reserved, none in use yet
        (Hugepages(2048, 1024, 768), 0, 256, 768),  # reserved and in use
        (Hugepages(2048, 1024, 768), 256, 256, 512),  # one of the two in use
        (Hugepages(2048, 1024, 512), 256, 256, 512),  # both in use
        (Hugepages(2048, 1024, 1024), 1024, 256, 0),
        (Hugepages(2048, 1024, 1024, promised=100), 0, 0, 924),
        (Hugepages(2048, 1024, 1024, promised=100), 100, 0, 924),  # promised to the service that recorded them
        (Hugepages(2048, 1024, 924, promised=100), 100, 100, 824),  # promised and reserved, others in use
        (Hugepages(2048, 1024, 1024, promised=100), 200, 0, 824),
        (Hugepages(2048, 1024, 10, promised=100), 0, 0, 0),
        (Hugepages(2048, 0, 0, promised=5), 3, 2, 0),
    ],
    ids=str,
)
def test_reserved_and_promised_pages_count_once(kernel: Hugepages, recorded: int, reserved: int, left: int) -> None:
    ledger = Ledger.of([], {"a": {(0, 2048): recorded}} if recorded else {})
    assert free_pages(ledger, kernel, reserved, 0) == left


@pytest.mark.parametrize("count", [8, 7, 3])
def test_a_record_for_more_than_the_node_has_is_refused(count: int) -> None:
    ledger = Ledger.of([], {"a": {(0, 2048): 8}})
    with pytest.raises(Refused, match=rf"only has 2 hugepages in all, requested {count}: "):
        record(ledger, Hugepages(2048, 2, 2), 0, "a", 0, count)


@pytest.mark.parametrize("count", [2, 1])
def test_a_record_may_be_lowered_to_what_the_node_has(count: int) -> None:
    ledger = Ledger.of([], {"a": {(0, 2048): 8}})
    assert ledger.apply(record(ledger, Hugepages(2048, 2, 0), 0, "a", 0, count)).recorded == {(0, 2048): count}
