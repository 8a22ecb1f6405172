# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The snaps that the stand-in for snapd has installed, and the store that it asks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.fake_snapd.troubles import refusal

Json: TypeAlias = dict[str, Any]

NAME: Final = "epa-orchestrator"
BASE: Final = "core24"
CONSUMER: Final = "openstack-hypervisor"

NO_STORE: Final = 'Post "https://store.test/v2/snaps/refresh": dial tcp: lookup store.test: no such host'


@dataclass
class Snap:
    """An installed snap."""

    name: str
    revision: str
    version: str
    tracking: str = ""
    held: bool = False
    options: Json = field(default_factory=dict[str, Any])
    #: Interface by name.
    plugs: dict[str, str] = field(default_factory=dict[str, str])
    slots: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Store:
    """The store: for each snap its versions by revision, and its revisions by channel."""

    down: bool = False
    versions: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    channels: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def publish(self, name: str, channel: str, revision: int, version: str) -> None:
        """Release a revision to a channel; the channel's older revisions stay available."""
        self.versions.setdefault(name, {})[revision] = version
        self.channels.setdefault(name, {})[channel] = revision

    def find(self, name: str, channel: str, revision: int | None) -> int:
        """The revision that an install gets."""
        if self.down:
            raise refusal(f"persistent network error: {NO_STORE}", "dns-failure")
        if name not in self.versions:
            raise refusal("snap not found", "snap-not-found", 404, name)
        if revision is not None and revision not in self.versions[name]:
            raise refusal("no snap revision available as specified", "snap-revision-not-available", 404, name)
        if channel not in self.channels[name]:
            value = {"snap-name": name, "action": "install", "channel": channel, "architecture": "amd64"}
            raise refusal("no snap revision on specified channel", "snap-channel-not-available", 404, value)
        return self.channels[name][channel] if revision is None else revision


def write_snap(path: Path, version: str, name: str = NAME) -> Path:
    """Write a file that the stand-in can install as a snap."""
    path.write_text(json.dumps({"name": name, "version": version}), encoding="utf-8")
    return path


def requested_revision(body: Json) -> int | None:
    """The revision that a request asks for, if any."""
    return int(body["revision"]) if "revision" in body else None


def full_channel(channel: str) -> str:
    """The channel with its track and risk."""
    words = channel.split("/")
    if words[0] in ("stable", "candidate", "beta", "edge"):
        return "/".join(["latest", *words])
    return channel if len(words) > 1 else f"{channel}/stable"
