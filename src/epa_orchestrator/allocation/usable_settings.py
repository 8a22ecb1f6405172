# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Usable settings: as much of an operator's options as can be used, so that a mistake never stops the daemon.

An option that cannot be used has its default, or a safer value where the default could give away what the option
protects. While an option that reserves something is unusable, nothing of that kind is granted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from epa_orchestrator.allocation.settings import Settings, given_options, mistakes, option_names
from epa_orchestrator.errors import printable

#: Values in place of unusable ones, where the default could take CPUs from a service that the operator protects.
_SAFE_VALUES: Final[Mapping[str, object]] = {
    "numa-reclaim": "never",
    "default-preemption-policy": "non-preemptive",
}


def usable_settings(document: object, where: str = "") -> Settings:
    """The settings in a JSON object of options; `Settings.unusable` has the options that cannot be used.

    Of two options that contradict each other, the one with a rule that refuses requests is used. `where` begins each
    reason, such as "settings file …: ".

    Raises SettingsError when the document is no JSON object.
    """
    options = given_options(document)
    unusable: dict[str, str] = {}
    while True:
        try:
            return Settings.model_validate(options).without(unusable)
        except ValidationError as error:
            for option, reason in mistakes(error):
                unusable[option] = printable(where + reason)
                del options[option]
                if option in _SAFE_VALUES:
                    options[option] = _SAFE_VALUES[option]


def no_usable_settings(reason: str) -> Settings:
    """The settings when no option is known, for this reason."""
    return Settings.model_validate(_SAFE_VALUES).without(dict.fromkeys(option_names(), printable(reason)))
