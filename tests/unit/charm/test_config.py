# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The charm's options and action parameters: the meaning of each value, and the error for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from config import CharmConfig, Plug, ReleaseParams, SettleParams
from epa_orchestrator.allocation.settings import option_names

CHARMCRAFT = yaml.safe_load((Path(__file__).parents[3] / "charmcraft.yaml").read_text("utf-8"))
DEFAULTS = {name: each["default"] for name, each in CHARMCRAFT["config"]["options"].items()}


def parsed(**options: Any) -> CharmConfig:
    """The configuration with these values, and with Juju's defaults for all other options."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return CharmConfig.from_juju(DEFAULTS | given, DEFAULTS)


def refusal(**options: Any) -> str:
    """The error for these options."""
    (sentence,) = parsed(**options).problems.values()
    return sentence


def test_defaults_are_the_charms_snap_and_no_options() -> None:
    config = parsed()
    assert (config.snap_channel, config.snap_revision) == ("", 0)
    assert config.connect_plugs == (Plug("openstack-hypervisor", "epa-info"),)
    assert config.require_isolated_cpus is False
    assert config.snap_options == {}
    assert config.problems == {}


def test_every_mistake_is_named_and_the_other_options_count() -> None:
    config = parsed(snap_revision=-1, connect_plugs="nova", numa_policy="sideways", require_isolated_cpus=True)
    assert config.problems.keys() == {"snap-revision", "connect-plugs", "daemon"}
    assert (config.connect_plugs, config.snap_options, config.require_isolated_cpus) == ((), None, True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"snap_channel": "edge", "snap_revision": 3}, True),
        ({"snap_channel": "!"}, False),
        ({"snap_channel": "!", "snap_revision": 3}, False),
        ({"snap_revision": 3}, False),
        ({"connect_plugs": "nova", "snap_name": "other"}, True),
    ],
)
def test_source_is_unknown_if_its_options_are_not_valid(options: dict[str, Any], expected: bool) -> None:
    assert parsed(**options).names_a_source is expected


@pytest.mark.parametrize("name", ["other", "", "epa-orchestrator_2"])
def test_other_snap_name_is_refused(name: str) -> None:
    assert refusal(snap_name=name) == (
        f"snap-name={name!r} is not valid: the snap is always epa-orchestrator: reset this option"
    )


# --- the channel and the revision ---


@pytest.mark.parametrize(
    ("channel", "full"),
    [
        ("", ""),
        ("stable", "latest/stable"),
        ("edge", "latest/edge"),
        ("latest/stable", "latest/stable"),
        ("2024.1/candidate", "2024.1/candidate"),
        ("2024.1", "2024.1/stable"),
        ("latest/edge/fix-123", "latest/edge/fix-123"),
        ("edge/fix-123", "latest/edge/fix-123"),
        ("1.0_x-y/beta", "1.0_x-y/beta"),
    ],
)
def test_channel_gets_its_default_track_and_risk(channel: str, full: str) -> None:
    assert parsed(snap_channel=channel).snap_channel == full


@pytest.mark.parametrize(
    "channel",
    [
        "latest/",
        "/stable",
        "latest/newest",
        "latest/stable/a/b",
        "latest stable",
        "-edge",
        "--dangerous",
        "latest/stable\n",
        "edge;reboot",
    ],
)
def test_invalid_channel_is_refused(channel: str) -> None:
    assert refusal(snap_channel=channel) == (
        f"snap-channel={channel!r} is not valid: give a channel such as latest/stable, or reset it to use the charm's"
        " snap"
    )


def test_revision_is_accepted_with_a_channel() -> None:
    assert parsed(snap_channel="edge", snap_revision=42).snap_revision == 42


def test_revision_without_a_channel_is_refused() -> None:
    assert refusal(snap_revision=42) == "snap-revision=42 needs a snap-channel: set both, or reset snap-revision"


def test_negative_revision_is_refused() -> None:
    text = refusal(snap_channel="edge", snap_revision=-1)
    assert text == "snap-revision='-1' is not valid: Input should be greater than or equal to 0"


# --- plugs ---


@pytest.mark.parametrize(
    ("text", "plugs"),
    [
        ("", ()),
        (" , ", ()),
        ("openstack-hypervisor:epa-info", (Plug("openstack-hypervisor", "epa-info"),)),
        ("a:b,c:d", (Plug("a", "b"), Plug("c", "d"))),
        (" a:b , c:d ,", (Plug("a", "b"), Plug("c", "d"))),
        ("a:b,a:b", (Plug("a", "b"),)),
        ("a:b,a:c", (Plug("a", "b"), Plug("a", "c"))),
        ("nova_two:epa-info", (Plug("nova_two", "epa-info"),)),
        ("0ad:e2", (Plug("0ad", "e2"),)),
    ],
)
def test_plugs_are_pairs_separated_by_commas(text: str, plugs: tuple[Plug, ...]) -> None:
    assert parsed(connect_plugs=text).connect_plugs == plugs


@pytest.mark.parametrize(
    "word", ["nova", "nova:", ":epa-info", "a:b:c", "Nova:epa", "a b:c", "--x:y", "a:--y", "nova_:x", "a:b_c", "a;b:c"]
)
def test_invalid_plug_is_refused(word: str) -> None:
    assert refusal(connect_plugs=f"x:y,{word}") == (
        f"connect-plugs={f'x:y,{word}'!r} is not valid: '{word}' is not snap:plug; separate such pairs by commas"
    )


def test_plug_prints_as_snapd_writes_it() -> None:
    assert str(Plug("nova", "epa-info")) == "nova:epa-info"


# --- the daemon's options ---


def test_daemon_options_that_differ_from_their_defaults_keep_names_and_values() -> None:
    config = parsed(
        snap_channel="edge",
        require_isolated_cpus=True,
        cpu_pool="0-1",
        prefer_closest_numa_nodes=False,
        default_allocation_percent=50,
        resize_policy="in-place",
        allowed_uids="64060",
    )
    assert config.snap_options == {
        "cpu-pool": "0-1",
        "prefer-closest-numa-nodes": False,
        "default-allocation-percent": 50,
        "allowed-uids": "64060",
    }


@pytest.mark.parametrize("option", option_names())
def test_daemon_option_is_checked(option: str) -> None:
    text = refusal(**{option.replace("-", "_"): "\x00?"})
    assert text.startswith(f"{option}=")
    assert "is not valid: " in text


def test_contradicting_options_are_refused() -> None:
    assert refusal(uncore_cache_alignment="require", cpu_distribution="caches") == (
        "uncore-cache-alignment=require contradicts cpu-distribution=caches: change one of the two"
    )


def test_error_quotes_only_the_start_of_a_long_value() -> None:
    text = refusal(connect_plugs="x" * 1000)
    assert "x" * 60 in text
    assert "x" * 61 not in text


# --- parameters of actions ---


def test_release_is_not_confirmed_by_default() -> None:
    params = ReleaseParams.model_validate({"service": "nova"})
    assert (params.service, params.confirm) == ("nova", False)


@pytest.mark.parametrize("params", [{}, {"service": ""}, {"service": "x" * 256}, {"service": "a", "confirm": "maybe"}])
def test_invalid_release_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        ReleaseParams.model_validate(params)


@pytest.mark.parametrize("params", [{}, {"keep": "both"}])
def test_invalid_settlement_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        SettleParams.model_validate(params)
