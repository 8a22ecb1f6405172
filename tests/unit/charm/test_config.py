# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The charm's options and action parameters: the meaning of each value, and the error for each mistake."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from config import CharmConfig, Plug, ReleaseParams, describe_error
from epa_orchestrator.allocation.settings import option_names


def parsed(**options: Any) -> CharmConfig:
    return CharmConfig.model_validate(options)


def refusal(**options: Any) -> str:
    """The error for these options."""
    with pytest.raises(pydantic.ValidationError) as caught:
        parsed(**options)
    return describe_error(caught.value)


def test_defaults_are_the_charms_snap_and_no_plugs() -> None:
    config = parsed()
    assert (config.snap_channel, config.snap_revision, config.connect_plugs) == ("", 0, ())
    assert config.require_isolated_cpus is False
    assert config.snap_options == {}


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


def test_daemon_options_keep_their_names_and_values() -> None:
    config = parsed(
        snap_channel="edge",
        connect_plugs="a:b",
        require_isolated_cpus=True,
        cpu_pool="0-1",
        prefer_closest_numa_nodes=False,
        default_allocation_percent=50,
    )
    assert config.snap_options == {
        "cpu-pool": "0-1",
        "prefer-closest-numa-nodes": False,
        "default-allocation-percent": 50,
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
