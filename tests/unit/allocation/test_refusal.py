# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Refusal: the sentence of a request that is not granted, with the details of placement."""

from __future__ import annotations

import pytest

from epa_orchestrator.allocation.allocate import Terms, allocate
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.refusal import Refused
from tests.builders import pools


def test_refusal_by_a_rule_of_placement_carries_the_rule() -> None:
    with pytest.raises(Refused) as caught:
        allocate(Ledger(), pools(cpu_thread_policy="require").isolated, Terms("a"), 3)
    assert caught.value.unplaceable is not None
    assert str(caught.value) == str(caught.value.unplaceable)
    assert caught.value.unplaceable.rule.option == "cpu-thread-policy"


def test_other_refusals_carry_no_rule() -> None:
    with pytest.raises(Refused) as caught:
        allocate(Ledger(), pools().isolated, Terms("a"), 13)
    assert caught.value.unplaceable is None


def test_sentence_is_made_printable() -> None:
    assert str(Refused("no\x1b[2J")) == "no\N{REPLACEMENT CHARACTER}[2J"
