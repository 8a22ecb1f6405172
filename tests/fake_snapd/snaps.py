# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The snaps that the stand-in for snapd has installed, and the store that it asks."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

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
    #: Whether this is the older snap: without hooks, without a socket, with fewer plugs.
    older: bool = False
    #: Interface by name.
    plugs: dict[str, str] = field(default_factory=dict[str, str])
    slots: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Store:
    """The store: for each snap its versions by revision, and its revisions by channel."""

    down: bool = False
    versions: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    channels: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    #: The revisions that are the older snap.
    older: set[int] = field(default_factory=set[int])

    def publish(self, name: str, channel: str, revision: int, version: str, *, older: bool = False) -> None:
        """Release a revision to a channel; the channel's older revisions stay available."""
        self.versions.setdefault(name, {})[revision] = version
        self.channels.setdefault(name, {})[channel] = revision
        if older:
            self.older.add(revision)

    def content(self, name: str, revision: int) -> bytes:
        """The file of a revision."""
        return snap_content(self.versions[name][revision], name, older=revision in self.older)

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


@functools.cache
def snap_content(version: str, name: str = NAME, *, older: bool = False) -> bytes:
    """A snap file with nothing but meta/snap.yaml; the same arguments give the same bytes."""
    meta: Json = {"name": name, "version": version, "apps": {"daemon": {"command": "bin/daemon", "daemon": "simple"}}}
    if not older:
        meta["apps"]["daemon"]["sockets"] = {"epa": {"listen-stream": "$SNAP_DATA/data/epa.sock"}}
        meta["hooks"] = {"configure": {}, "install": {}, "post-refresh": {}}
    with tempfile.TemporaryDirectory() as directory:
        stage = Path(directory, "stage", "meta")
        stage.mkdir(parents=True)
        (stage / "snap.yaml").write_text(yaml.safe_dump(meta), encoding="utf-8")
        snap = Path(directory, "made.snap")
        command = ["mksquashfs", str(stage.parent), str(snap), "-quiet", "-no-progress", "-all-root"]
        subprocess.run([*command, "-all-time", "0", "-mkfs-time", "0"], check=True, stdout=subprocess.DEVNULL)
        return snap.read_bytes()


def write_snap(path: Path, version: str, name: str = NAME, *, older: bool = False) -> Path:
    """Write a snap file."""
    path.write_bytes(snap_content(version, name, older=older))
    return path


def read_snap(path: Path) -> Json | None:
    """The file's meta/snap.yaml; None if the file is no snap."""
    command = ["unsquashfs", "-no-progress", "-cat", str(path), "meta/snap.yaml"]
    done = subprocess.run(command, capture_output=True, check=False)
    return yaml.safe_load(done.stdout) if done.returncode == 0 else None


def requested_revision(body: Json) -> int | None:
    """The revision that a request asks for, if any."""
    return int(body["revision"]) if "revision" in body else None


def full_channel(channel: str) -> str:
    """The channel with its track and risk."""
    words = channel.split("/")
    if words[0] in ("stable", "candidate", "beta", "edge"):
        return "/".join(["latest", *words])
    return channel if len(words) > 1 else f"{channel}/stable"
