# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Of options with mistakes, the valid ones are used, and the others give away nothing that they protect."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.option_values import HYPERVISOR_CGROUPS
from epa_orchestrator.allocation.settings import Settings, SettingsError, parse_settings
from epa_orchestrator.allocation.usable_settings import no_usable_settings, usable_settings
from tests.unit.allocation.test_settings import BAD_VALUES, CONTRADICTIONS


def test_valid_options_are_used_as_they_are() -> None:
    options = {"cpu-pool": "2-5", "numa-policy": "none", "log-level": None, "charm": {"unit": "epa/0"}}
    settings = usable_settings(options)
    assert settings == parse_settings(options)
    assert (settings.unusable, settings.warnings) == ({}, ())


@pytest.mark.parametrize(("option", "value", "_"), BAD_VALUES)
def test_unusable_option_leaves_the_others_in_use(option: str, value: object, _: str) -> None:
    other = "log-level" if option != "log-level" else "numa-policy"
    given = {"log-level": "error", "numa-policy": "none"}[other]
    settings = usable_settings({option: value, other: given})
    assert settings.value(other) == given
    assert settings.unusable.keys() == {option}
    with pytest.raises(SettingsError) as caught:
        parse_settings({option: value})
    assert settings.unusable[option] == str(caught.value)


#: A value that the daemon cannot use, what it uses instead, and the end of the sentence about it.
INSTEAD: list[tuple[str, object, object, str]] = [
    ("numa-policy", "x", "best-effort", "numa-policy is best-effort"),
    ("default-allocation-percent", 101, 80, "default-allocation-percent is 80"),
    ("allowed-uids", ["root"], (), "allowed-uids is empty"),
    ("allowed-gids", [-1], (), "allowed-gids is empty"),
    ("log-level", "loud", None, "log-level is empty"),
    ("numa-reclaim", "x", "never", "numa-reclaim is never"),
    ("default-preemption-policy", "x", "non-preemptive", "default-preemption-policy is non-preemptive"),
    ("reserved-cpus", "x", parse_settings({}).reserved_cpus, "no CPUs are granted"),
    ("isolated-cpus-from", "x", "isolcpus", "no CPUs of pool isolated are granted"),
    ("nohz-full", "x", "same", "nohz-full is same"),
    ("owner-cgroups", "x", HYPERVISOR_CGROUPS, "owner-cgroups is openstack-hypervisor=machine.slice"),
    ("cpu-pool", "x", parse_settings({}).cpu_pool, "pool general grants no CPUs"),
    ("reserved-hugepages", "x", (), "no hugepages are granted"),
]


@pytest.mark.parametrize(("option", "value", "used", "end"), INSTEAD)
def test_unusable_option_has_a_safe_value(option: str, value: object, used: object, end: str) -> None:
    settings = usable_settings({option: value}, "settings file s.json: ")
    assert settings.value(option) == used
    (warning,) = settings.warnings
    assert warning.startswith(f"settings file s.json: {option}=")
    assert warning.endswith(f"; until this is corrected, {end}")


@pytest.mark.parametrize("option", ["cpu-pool", "reserved-cpus", "reserved-hugepages", "numa-policy", "\udfff"])
@pytest.mark.parametrize("value", ["\ud800", "0,\ud800", "0:1:\ud800"])
def test_half_of_a_surrogate_pair_is_unusable(option: str, value: str) -> None:
    (warning,) = usable_settings({option: value}).warnings
    assert warning.isprintable()
    assert "?" in warning


def test_unknown_option_is_ignored() -> None:
    settings = usable_settings({"of-a-later-release": 1, "cpu-pool": "2"})
    assert settings.cpu_pool == parse_settings({"cpu-pool": "2"}).cpu_pool
    (warning,) = settings.warnings
    assert "there is no option 'of-a-later-release'" in warning
    assert warning.endswith("it is ignored")


@pytest.mark.parametrize("pair", CONTRADICTIONS)
def test_of_two_that_contradict_each_other_the_rule_stays(pair: dict[str, str]) -> None:
    settings = usable_settings(pair)
    (rule, value), (preference, _) = pair.items()
    assert (settings.value(rule), settings.value(preference)) == (value, "packed")
    assert settings.unusable.keys() == {preference}


def test_two_contradictions_leave_the_rule() -> None:
    both = {"uncore-cache-alignment": "require", "numa-allocation-strategy": "distribute", "cpu-distribution": "caches"}
    settings = usable_settings(both)
    assert settings.uncore_cache_alignment == "require"
    assert settings.unusable.keys() == {"numa-allocation-strategy", "cpu-distribution"}


def test_several_mistakes_are_all_named() -> None:
    options: dict[str, Any] = {"numa-policy": 1, "cpu-pool": "x", "allowed-uids": ["a", "b"], "max-services": 0}
    settings = usable_settings(options)
    assert settings.unusable.keys() == options.keys()
    assert len(settings.warnings) == 4


def test_at_most_twenty_mistakes_are_named() -> None:
    warnings = usable_settings({f"unknown-{number}": 1 for number in range(50)}).warnings
    assert len(warnings) == 21
    assert warnings[-1] == "30 more options cannot be used"


def test_warnings_are_printable() -> None:
    settings = usable_settings({"x\x1b[2J\n": 1, "cpu-pool": "\x1b[31m", "numa-policy": "\ud800"})
    assert all(warning.isprintable() for warning in settings.warnings)


@pytest.mark.parametrize("document", [None, [], "cpu-pool=2", 5])
def test_document_without_options_is_an_error(document: object) -> None:
    with pytest.raises(SettingsError):
        usable_settings(document)


def test_unusable_reservation_reserves_all_hugepages() -> None:
    assert usable_settings({"reserved-hugepages": "x"}).reserved_pages(0, 2048) > 2**40


def test_without_usable_settings_every_option_is_safe() -> None:
    settings = no_usable_settings("settings file s.json is not JSON")
    assert (settings.numa_reclaim, settings.default_preemption_policy) == ("never", "non-preemptive")
    assert settings.unusable.keys() >= {"reserved-cpus", "cpu-pool", "reserved-hugepages", "allowed-uids"}
    (warning,) = settings.warnings
    assert warning == (
        "settings file s.json is not JSON; until this is corrected, no CPUs and no hugepages are granted, and all"
        " options have safe values"
    )


def test_settings_without_mistakes_reserve_nothing() -> None:
    assert Settings().warnings == ()
    assert Settings().reserved_pages(0, 2048) == 0
