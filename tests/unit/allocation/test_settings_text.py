# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Settings text: the options that are not at their default, and a digest that stands for them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.allocation.settings_text import settings_text


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, {}),
        ({"numa-policy": "best-effort"}, {}),
        ({"reserved-cpus": "4-5,7"}, {"reserved-cpus": "4-5,7"}),
        ({"cpu-pool": "0-1", "numa-policy": "restricted"}, {"cpu-pool": "0-1", "numa-policy": "restricted"}),
        ({"reserved-hugepages": "0:2048:16,1:1G:8"}, {"reserved-hugepages": "0:2M:16,1:1G:8"}),
        (
            {"prefer-closest-numa-nodes": False, "max-services": 5},
            {"prefer-closest-numa-nodes": False, "max-services": 5},
        ),
        ({"allowed-uids": [1000], "allowed-gids": [7], "log-level": "debug"}, {}),
        (
            {"isolated-cpus-from": "nohz_full", "nohz-full": "none", "owner-cgroups": ""},
            {"isolated-cpus-from": "nohz_full"},
        ),
    ],
)
def test_options_at_their_default_are_left_out(options: dict[str, Any], kept: dict[str, Any]) -> None:
    assert json.loads(settings_text(parse_settings(options)).document) == kept


def test_unusable_options_are_named() -> None:
    settings = Settings().without({"cpu-pool": "is wrong", "numa-policy": "is wrong"})
    assert json.loads(settings_text(settings).document) == {"unusable": ["cpu-pool", "numa-policy"]}
    assert settings_text(settings) != settings_text(Settings())


def test_the_digest_stands_for_the_options() -> None:
    one, same = (settings_text(parse_settings({"cpu-pool": pool})).digest for pool in ("0-1", "0,1"))
    other = settings_text(parse_settings({"cpu-pool": "0"})).digest
    assert one == same != other
    assert re.fullmatch("[0-9a-f]{12}", one)
