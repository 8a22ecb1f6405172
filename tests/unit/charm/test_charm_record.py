# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The charm's record, as the snap's configuration holds it."""

from __future__ import annotations

import json
from typing import Any

import pytest

import charm_record
from charm_record import Record
from store_offer import Offer

FULL = Record("epa/0", "uuid", {"cpu-pool": "0", "resize-policy": "in-place"}, 4, True, "3", 17.5, 12.0)


@pytest.mark.parametrize("record", [Record(), FULL])
def test_record_is_read_back(record: Record) -> None:
    stored = json.loads(json.dumps(record.document()))
    assert charm_record.parse({"charm": stored, "cpu-pool": "0"}) == record


def test_record_has_the_members_that_others_rely_on() -> None:
    document = FULL.document()
    assert (document["unit"], document["model"]) == ("epa/0", "uuid")
    assert document["options"] == {"cpu-pool": "0", "resize-policy": "in-place"}


@pytest.mark.parametrize("found", [None, 5, "text", [], {}, {"unit": 5, "options": [], "offered": "4", "settled": "x"}])
def test_malformed_record_is_empty(found: Any) -> None:
    assert charm_record.parse({"charm": found}) == Record()


def test_whole_number_is_a_time() -> None:
    assert charm_record.parse({"charm": {"settled": 12}}).settled == 12.0


def test_offer_is_what_was_found_in_the_store() -> None:
    assert Record().offer is None
    assert FULL.offer == Offer(4, is_ours=True)
