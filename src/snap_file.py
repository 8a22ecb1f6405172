# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What a snap file is, read without installing it: its version, and whether this project made it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

import yaml

from errors import CharmError

NAME: Final = "epa-orchestrator"
#: Where snapd keeps the file of each installed revision.
INSTALLED_FILES: Final = Path("/var/lib/snapd/snaps")

#: A dependency of Ubuntu's package snapd.
_UNSQUASHFS: Final = "/usr/bin/unsquashfs"
_TIMEOUT: Final = 60.0
#: A snap.yaml is a few kilobytes. A snap of 4 KiB can contain one of 300 MB.
_MAX_META_BYTES: Final = 256 * 1024
#: The most blanks that stand for no snap.
_MAX_BLANKS: Final = 64
_HOOKS: Final = {"install", "configure", "post-refresh"}


class SnapFile(NamedTuple):
    """A snap of our name."""

    version: str
    #: Whether its daemon is this project's. The older snap of the same name contains another daemon, which keeps its
    #: claims in another place, and would grant CPUs that this daemon has granted.
    is_ours: bool


def describe(path: Path) -> SnapFile | None:
    """Read a snap file's meta/snap.yaml; None if the file is no snap of our name, such as a file that is missing.

    Ours is a snap whose service `daemon` has the socket `epa`, and which has the hooks install, configure and
    post-refresh: they import the older daemon's claims and check options. No release of the older snap has any of these
    but a configure hook. This is the only place that decides it.

    Raises CharmError where unsquashfs is missing.
    """
    meta = _read_meta(path)
    if meta.get("name") != NAME:
        return None
    sockets = _get(meta, "apps", "daemon", "sockets")
    hooks = _get(meta, "hooks")
    return SnapFile(str(meta.get("version", "")), "epa" in sockets and hooks.keys() >= _HOOKS)


def is_blank(path: Path) -> bool:
    """Whether a file stands for no snap: it has nothing but blanks. Juju 4.0 takes no file without a byte."""
    return path.stat().st_size <= _MAX_BLANKS and not path.read_bytes().strip()


def installed_file(revision: str) -> Path:
    """The file of an installed revision."""
    return INSTALLED_FILES / f"{NAME}_{revision}.snap"


def is_ours(revision: str) -> bool:
    """Whether an installed revision is ours."""
    described = describe(installed_file(revision))
    return described is not None and described.is_ours


def _read_meta(path: Path) -> Mapping[str, Any]:
    """The mapping in meta/snap.yaml, all scalars as text; empty if there is none.

    The file is not trusted: plain YAML without types has neither merge keys, which can grow without limit, nor values
    that PyYAML fails to convert.
    """
    try:
        document = yaml.load(_read_member(path, "meta/snap.yaml"), yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, RecursionError, ValueError):
        document = None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _read_member(path: Path, member: str) -> bytes:
    """The content of a file in a snap; empty if it cannot be read in time, or is too long."""
    command = [_UNSQUASHFS, "-no-progress", "-cat", str(path), member]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        raise CharmError(f"{_UNSQUASHFS} is missing: run 'sudo apt install squashfs-tools'") from None
    time_out = threading.Timer(_TIMEOUT, process.kill)
    time_out.start()
    with process, cast("IO[bytes]", process.stdout) as output:
        try:
            content = output.read(_MAX_META_BYTES + 1)
            is_whole = len(content) <= _MAX_META_BYTES and process.wait() == 0
        finally:
            time_out.cancel()
            process.kill()
    return content if is_whole else b""


def _get(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The mapping below these keys; an empty one if there is none."""
    for key in keys:
        inner = document.get(key)
        document = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
    return document
