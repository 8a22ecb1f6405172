# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Settings text: the settings in force as the history keeps them, with a digest that stands for them."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

from epa_orchestrator.allocation.option_values import as_written
from epa_orchestrator.allocation.settings import Settings

#: Options that decide nothing about a claim. All users may read the history: it does not name who may change claims.
_LEFT_OUT: Final = {"allowed_uids", "allowed_gids", "log_level", "metrics_port", "nohz_full", "owner_cgroups"}


class SettingsText(NamedTuple):
    """The options that are not at their default, as a JSON object, and 12 hex digits of a digest of it."""

    digest: str
    document: str


def settings_text(settings: Settings) -> SettingsText:
    """The settings in force. Options that cannot be used are under `unusable`: they have safe values instead."""
    return _remembered(cast("Any", settings))  # a frozen model is hashable


@lru_cache(maxsize=4)
def _remembered(settings: Settings) -> SettingsText:
    # Reads the attributes, as the models' own way out knows no CPU sets.
    defaults = Settings()
    changed: dict[str, Any] = {
        name.replace("_", "-"): as_written(getattr(settings, name))
        for name in Settings.model_fields
        if name not in _LEFT_OUT and getattr(settings, name) != getattr(defaults, name)
    }
    if settings.unusable:
        changed["unusable"] = sorted(settings.unusable)
    document = json.dumps(changed, sort_keys=True, separators=(",", ":"))
    return SettingsText(hashlib.blake2b(document.encode(), digest_size=6).hexdigest(), document)
