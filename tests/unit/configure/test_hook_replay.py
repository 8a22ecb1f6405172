# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Options that were accepted before stay accepted, whatever has become of the host and of this release's options."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from epa_orchestrator.allocation.settings import SettingsError, load_settings, parse_settings
from epa_orchestrator.configure.hook import apply_options
from epa_orchestrator.configure.proposal import NotAcceptable
from epa_orchestrator.hardware.sysfs import SysfsTree
from tests.unit.configure.builders import SHAPE, Snap
from tools.synthetic import Shape, build, write_tree


def replay(installed: Snap, options: dict[str, Any]) -> None:
    """Run the hook of a refresh."""
    apply_options(options, installed.settings, installed.common, SysfsTree(installed.sys), replay=True)


def isolate(installed: Snap, cpus: str) -> None:
    """Boot the host with other isolated CPUs."""
    shutil.rmtree(installed.sys)
    write_tree(build(Shape(packages=2, cores_per_l3=4, isolated=cpus, hugepages=SHAPE.hugepages)), installed.sys)


def stored(installed: Snap) -> dict[str, Any]:
    return json.loads(installed.settings.read_text())


def leave(installed: Snap, options: dict[str, Any]) -> None:
    """Leave settings that another release of the snap accepted."""
    installed.settings.write_text(json.dumps(options))


@pytest.mark.parametrize("pool", ["0-1", "0 - 1 , 4", 4, "isolated"])
def test_accepted_pool_is_accepted_again_when_its_cpus_are_isolated(pool: object, installed: Snap) -> None:
    installed.put({"cpu-pool": pool})
    isolate(installed, "0-7")
    installed.put({"cpu-pool": pool})
    replay(installed, {"cpu-pool": pool})
    assert stored(installed) == {"cpu-pool": pool}


def test_accepted_pool_is_accepted_again_when_its_cpus_are_gone(installed: Snap) -> None:
    leave(installed, {"cpu-pool": "0,64", "reserved-cpus": "65", "reserved-hugepages": "9:2048:1"})
    installed.put(stored(installed) | {"numa-reclaim": "never"})
    assert stored(installed)["numa-reclaim"] == "never"


def test_same_pool_in_another_notation_is_accepted(installed: Snap) -> None:
    leave(installed, {"cpu-pool": "0-2"})
    installed.put({"cpu-pool": " 0 , 1 - 2 "})


def test_new_pool_of_isolated_cpus_is_refused(installed: Snap) -> None:
    installed.put({"cpu-pool": "0-1"})
    isolate(installed, "0-7")
    assert "overlaps the isolated CPUs 0" in installed.refusal({"cpu-pool": "0"}, NotAcceptable)


INVALID: dict[str, Any] = {"numa-policy": "of-a-later-release", "cpu-pool": "all", "max-services": 0}


def test_accepted_option_is_accepted_again_although_it_is_not_valid(installed: Snap) -> None:
    leave(installed, INVALID)
    installed.put(INVALID | {"log-level": "debug"})
    assert stored(installed) == INVALID | {"log-level": "debug"}


def test_accepted_contradiction_is_accepted_again(installed: Snap) -> None:
    both = {"cpu-thread-policy": "require", "cpu-distribution": "cores"}
    leave(installed, both)
    installed.put(both | {"log-level": "debug"})


@pytest.mark.parametrize("other", [{"cpu-thread-policy": "require"}, {"cpu-distribution": "cores"}])
def test_new_half_of_a_contradiction_is_refused(other: dict[str, Any], installed: Snap) -> None:
    leave(installed, other)
    both = {"cpu-thread-policy": "require", "cpu-distribution": "cores"}
    assert "contradicts" in installed.refusal(both, SettingsError)


@pytest.mark.parametrize(
    ("accepted", "proposed"), [({"max-services": 0}, {"max-services": -1}), ({"cpu-pool": 1}, {"cpu-pool": True})]
)
def test_other_invalid_value_is_refused(accepted: dict[str, Any], proposed: dict[str, Any], installed: Snap) -> None:
    leave(installed, accepted)
    assert "is not valid" in installed.refusal(proposed, SettingsError)


def test_long_invalid_value_that_changes_at_its_end_is_refused(installed: Snap) -> None:
    leave(installed, {"cpu-pool": "x" * 100})
    assert "is not valid" in installed.refusal({"cpu-pool": "x" * 100 + "y"}, SettingsError)


def test_invalid_option_can_be_corrected(installed: Snap) -> None:
    leave(installed, INVALID)
    installed.put({"cpu-pool": "0"})
    assert load_settings(installed.settings) == parse_settings({"cpu-pool": "0"})


def test_refresh_from_the_older_snap_accepts_all_options(installed: Snap) -> None:
    """The older snap left no settings, only options that it had accepted."""
    options = {"cpu-pool": "0 - 2,64", "numa-policy": "of-a-later-release"}
    replay(installed, options)
    installed.put(options)  # the configure hook follows
    assert stored(installed) == options


def test_refresh_does_not_ask_the_host(installed: Snap) -> None:
    """The older snap may have accepted another pool since this one ran last."""
    installed.put({"cpu-pool": "0"})
    installed.claim("6")
    replay(installed, {"cpu-pool": "2,64", "reserved-cpus": "6"})
    installed.put(stored(installed))


def test_first_options_without_a_refresh_are_judged(installed: Snap) -> None:
    assert "is not valid" in installed.refusal({"cpu-pool": "all"}, SettingsError)
    assert "overlaps" in installed.refusal({"cpu-pool": "2"}, NotAcceptable)


def test_damaged_settings_do_not_stop_a_refresh(installed: Snap) -> None:
    installed.settings.write_text("{")
    replay(installed, INVALID)
    assert stored(installed) == INVALID


def test_record_of_the_charm_is_not_stored(installed: Snap) -> None:
    installed.put({"charm": {"unit": "epa/0"}, "cpu-pool": "0"})
    assert stored(installed) == {"cpu-pool": "0"}
