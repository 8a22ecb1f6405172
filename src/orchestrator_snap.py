# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The snap epa-orchestrator as a workload: install it from a given source, set its options, connect it, remove it.

This module knows nothing of Juju. It raises `CharmError` for problems that the operator has to fix. Failures that go
away by themselves are retried a few times (see `snapd`), then raised as the library's own `snap.Error`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from charmlibs import snap

import daemon_health
import snapd
from errors import CharmError
from snapd import Connection, with_retries

log = logging.getLogger(__name__)

NAME: Final = daemon_health.SNAP
#: The base snap. Installing from a file works only if the base is installed or the store can be reached.
BASE: Final = "core24"
#: The slot that other snaps connect to.
SLOT: Final = "epa-info"
#: The plug through which the daemon reads the host's topology. snapd does not connect it automatically.
PLUG: Final = "topology"

_INSTALLED_FILES: Final = Path("/var/lib/snapd/snaps")
_MOUNT_PROFILES: Final = Path("/run/snapd/ns")
_STORE_DOWN: Final = re.compile(
    r"unable to contact snap store|persistent network error|no such host|dial tcp|store unavail|net/http|deadline"
)
#: Messages of the command `snap`; the library has an exception for each.
_NOT_IN_STORE: Final = re.compile(r"snap .* not found")
_NO_CHANNEL: Final = re.compile(r"not available on|no snap revision|cannot find .* channel|revision not available")


class FileSource(NamedTuple):
    """The snap in a file: the attached resource, or the file inside the charm."""

    path: Path

    def __str__(self) -> str:
        """The source in a status message."""
        return f"the file {self.path.name}"


class StoreSource(NamedTuple):
    """The snap in a store channel (track/risk, as snapd writes it); revision 0 stands for the newest."""

    channel: str
    revision: int = 0

    def __str__(self) -> str:
        """The source in a status message."""
        return (f"revision {self.revision} in " if self.revision else "") + f"{self.channel} in the store"


Source = FileSource | StoreSource


def installed() -> snap.InstalledInfo | None:
    """Revision, version, channel and hold of the snap; None when it is not installed."""
    return snapd.installed(NAME)


def is_installed_from(source: Source) -> bool:
    """Whether the installed snap comes from this source; a newer revision in the same channel makes no difference."""
    info = installed()
    if info is None:
        return False
    if isinstance(source, FileSource):
        return _have_same_content(source.path, _INSTALLED_FILES / f"{NAME}_{info.revision}.snap")
    # snapd keeps the channel of a store snap that a file has replaced: only a store revision is a number.
    from_channel = info.revision.isdecimal() and info.tracking == source.channel
    return from_channel and source.revision in (0, int(info.revision))


def install(source: Source, *, refresh: bool = False) -> None:
    """Install the snap from the source, in place of the installed one if there is one, and hold it.

    With `refresh`, a snap that already comes from this channel is refreshed to the channel's newest revision.

    Raises CharmError.
    """
    try:
        _install(source, refresh=refresh)
    except snap.APIError as error:
        with contextlib.suppress(snap.Error):  # the failed install is the more useful error
            hold()
        if snapd.is_busy(error):
            raise
        raise CharmError(_explain_install_error(source, error)) from error
    hold()


def hold() -> None:
    """Keep snapd from refreshing this snap, and no other, by itself."""
    if (info := installed()) is not None and info.hold is None:
        with_retries(lambda: snap.hold(NAME))


def options() -> dict[str, Any]:
    """The options that are set in the snap."""
    return snapd.options(NAME)


def ensure_config(requested: dict[str, Any]) -> None:
    """Set these options in one step; the configure hook refuses all or none.

    Raises CharmError.
    """
    current = options()
    changed = {name: value for name, value in requested.items() if current.get(name) != value}
    if not changed:
        return
    try:
        with_retries(lambda: snap.set(NAME, changed))
    except snap.APIError as error:
        if 'no "configure" hook' in error.message:
            raise CharmError(f"the installed snap {NAME} is too old for this charm: reset snap-channel") from error
        if not isinstance(error, snap.ChangeError):
            raise
        raise CharmError(_hook_message(error.message)) from error


def connections() -> list[Connection]:
    """The connections of the snap's plugs and slots."""
    return snapd.connections(NAME)


def connect_topology() -> None:
    """Connect the plug through which the daemon reads the host's topology.

    Raises CharmError.
    """
    plug = (NAME, PLUG)
    if not any(each.plug == plug and each.slot is not None for each in connections()):
        _connect(plug, None, f"run 'sudo snap connect {NAME}:{PLUG}'; a snap older than this charm has no such plug")


def connect_consumers(plugs: Iterable[tuple[str, str]]) -> None:
    """Connect these plugs of other snaps if they are installed, and reconnect those that a refresh left stale.

    Raises CharmError about all plugs that cannot be connected, after trying each.
    """
    connected = {each.plug for each in connections() if each.slot == f"{NAME}:{SLOT}"}
    problems: list[str] = []
    for plug in plugs:
        try:
            if snapd.installed(plug[0]) is not None:
                _ensure_connected(plug, connected=plug in connected)
        except CharmError as error:
            problems.append(str(error))
    if problems:
        raise CharmError("; ".join(problems))


def remove() -> str | None:
    """Undo connections and hold, and remove the snap unless something is still held.

    Returns the reason why the snap stays; None when it is gone.
    """
    if installed() is None:
        return None
    connected = [each for each in connections() if each.slot is not None]
    for each in connected:
        if each.slot == f"{NAME}:{SLOT}":
            _disconnect(each)
    # Only now: no other snap can claim anything after the answer.
    reason = daemon_health.reason_to_keep_snap()
    for each in connected:
        if each.plug == (NAME, PLUG):
            _disconnect(each)
    with_retries(lambda: snap.unhold(NAME))
    if reason is None:
        with_retries(lambda: snap.remove(NAME))
    return reason


def _install(source: Source, *, refresh: bool) -> None:
    info = installed()
    if isinstance(source, FileSource):
        _install_file(source.path)
    elif info is not None and info.revision.startswith("x"):
        _replace_file_by_store(source)
    else:
        revision = source.revision or None
        with_retries(lambda: snap.ensure_installed(NAME, source.channel, revision=revision, update=refresh))


def _install_file(path: Path) -> None:
    if not path.is_file() or not path.stat().st_size:
        raise CharmError(
            f"the charm contains no snap ({path.name}): attach the resource {NAME}-snap, or set snap-channel"
        )
    snapd.run("install", "--dangerous", str(path))


def _replace_file_by_store(source: StoreSource) -> None:
    pin = ["--revision", str(source.revision)] if source.revision else []
    snapd.run("refresh", "--amend", "--channel", source.channel, *pin, NAME)


def _explain_install_error(source: Source, error: snap.APIError) -> str:
    reason = " ".join(error.message.split())
    if isinstance(source, StoreSource):
        if isinstance(error, snap.NotInStoreError) or _NOT_IN_STORE.search(reason):
            return f"the store has no snap {NAME}: reset snap-channel to use the snap in the charm"
        unavailable = isinstance(error, snap.ChannelNotAvailableError | snap.RevisionNotAvailableError)
        if unavailable or _NO_CHANNEL.search(reason):
            return f"there is no {source} ({reason[:200]}): set another channel or revision, or reset snap-channel"
    elif snapd.installed(BASE) is None:
        return (
            f"the base snap {BASE} is not installed and cannot be downloaded: run 'sudo snap install {BASE}', or"
            f" without a network 'sudo snap ack' and 'sudo snap install' with its files ({reason[:200]})"
        )
    if _STORE_DOWN.search(reason):
        return (
            f"the store cannot be reached for {source} ({reason[:200]}): fix the machine's network or the model's"
            " snap-http-proxy, or reset snap-channel"
        )
    return f"failed to install the snap from {source}: {reason[:400]}"


def _hook_message(message: str) -> str:
    """The configure hook's own message, without snapd's words around it."""
    found = re.search(r'run hook "configure":\s*(?:-+\s*)?(.*?)\s*(?:-{3,})?\s*\)?\s*$', message, re.DOTALL)
    return " ".join((found[1] if found else message).split())


def _have_same_content(path: Path, other: Path) -> bool:
    try:
        return path.stat().st_size == other.stat().st_size and _digest(path) == _digest(other)
    except FileNotFoundError:
        return False


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _ensure_connected(plug: tuple[str, str], *, connected: bool) -> None:
    if connected and _is_stale(plug[0]):
        log.info("reconnecting %s: it leads to an earlier revision of %s", ":".join(plug), NAME)
        with_retries(lambda: snap.disconnect(plug, (NAME, SLOT)))
        connected = False
    if not connected:
        _connect(plug, (NAME, SLOT), "correct connect-plugs")


def _is_stale(consumer: str) -> bool:
    """Whether the consumer's mount namespace shows the data of another revision of our snap than the current one."""
    info = installed()
    try:
        lines = (_MOUNT_PROFILES / f"snap.{consumer}.fstab").read_text(encoding="utf-8").splitlines()
    except OSError:  # the consumer has not run yet
        return False
    ours = [line.split()[0] for line in lines if line.startswith(f"/var/snap/{NAME}/")]
    return info is not None and (not ours or any(f"/{info.revision}/" not in source for source in ours))


def _connect(plug: tuple[str, str], slot: tuple[str, str] | None, remedy: str) -> None:
    try:
        with_retries(lambda: snap.connect(plug, slot))
    except snap.APIError as error:
        if snapd.is_busy(error):
            raise
        reason = " ".join(error.message.split())
        raise CharmError(f"failed to connect {':'.join(plug)} ({reason}): {remedy}") from error


def _disconnect(connection: Connection) -> None:
    snapd.run("disconnect", "--forget", ":".join(connection.plug), str(connection.slot))
