# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The installed snap as a workload: its options, its connections, its removal, and the charm's record in it.

This module knows nothing of Juju. It raises `CharmError` for problems that the operator has to fix. Failures that go
away by themselves are retried a few times (see `snapd`), then raised as the library's own `snap.Error`.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from charmlibs import snap

import charm_record
import daemon_health
import snap_file
import snapd
from charm_record import Record
from epa_orchestrator.allocation.settings import SettingsError, read_options
from errors import CharmError
from snapd import Connection, with_retries

log = logging.getLogger(__name__)

NAME: Final = snap_file.NAME
#: The slot that other snaps connect to.
SLOT: Final = "epa-info"
#: The plug through which the daemon reads hugepages; snapd connects it and the others only when it is told to. It has
#: the name that the older snap's plug has, so that its connection survives the refresh.
NODE_PLUG: Final = "sys-devices-system-node"
#: The plugs that the daemon can do without, each with what is missing then.
OPTIONAL_PLUGS: Final[Mapping[str, str]] = {
    "topology": "requests for CPUs near a device are refused until then",
    "isolation": "the daemon's audit lacks interrupts and partitions until then",
    "system-observe": "the daemon's audit knows no owners of threads until then",
}

_MOUNT_PROFILES: Final = Path("/run/snapd/ns")


def installed() -> snap.InstalledInfo | None:
    """Revision, version, channel and hold of the snap; None when it is not installed."""
    return snapd.installed(NAME)


def installed_is_ours() -> bool:
    """Whether the snap is installed and is not the older one."""
    info = installed()
    return info is not None and snap_file.is_ours(info.revision)


def options() -> dict[str, Any]:
    """The options that are set in the snap, without the charm's record."""
    return {name: value for name, value in snapd.options(NAME).items() if name != charm_record.KEY}


def record() -> Record:
    """The charm's record in the snap; an empty one if the snap is not installed."""
    return Record() if installed() is None else charm_record.parse(snapd.options(NAME))


def save(new: Record) -> None:
    """Write the charm's record if it differs from the one that is there.

    Raises CharmError.
    """
    if new != record():
        _set({charm_record.KEY: new.document()})


def ensure_config(requested: Mapping[str, Any], optional: str = "") -> list[str]:
    """Set these options, and unset those that the charm set earlier; the configure hook refuses all or none.

    If it refuses the `optional` one, the others are requested again without it. An option that was set with `snap set`
    keeps its value until it is requested here.

    Returns the options that this snap does not know: it is older than the charm.

    Raises CharmError.
    """
    try:
        _configure(requested)
    except CharmError as error:
        if optional not in requested or optional not in str(error):
            raise
        _configure({name: value for name, value in requested.items() if name != optional})
        log.warning("the snap refuses %s: %s", optional, error)
        return [optional]
    return _unknown(requested)


def _unknown(requested: Mapping[str, Any]) -> list[str]:
    """The options that the configure hook has not stored: it asks snapd only for those that it knows."""
    try:
        stored = read_options(daemon_health.settings_file())
    except SettingsError:  # nobody can tell
        return []
    return sorted(requested.keys() - stored.keys())


def _configure(requested: Mapping[str, Any]) -> None:
    current, before = options(), record()
    set_now = {name: value for name, value in requested.items() if current.get(name) != value}
    unset_now = {
        name: None for name, value in before.options.items() if name not in requested and current.get(name) == value
    }
    after = dataclasses.replace(before, options=dict(requested))
    if set_now or unset_now or after != before:
        _set({**set_now, **unset_now, charm_record.KEY: after.document()})


def connections() -> list[Connection]:
    """The connections of the snap's plugs and slots."""
    return snapd.connections(NAME)


def connect_host() -> str:
    """Connect the plugs through which the daemon reads the host, those that the snap has.

    Returns what is missing without the optional plugs that cannot be connected; an empty text if they all can.

    Raises CharmError.
    """
    unconnected = {each.plug[1] for each in connections() if each.plug[0] == NAME and each.slot is None}
    if NODE_PLUG in unconnected:
        _connect((NAME, NODE_PLUG), None, f"run 'sudo snap connect {NAME}:{NODE_PLUG}'")
    missing: list[str] = []
    for plug, without in OPTIONAL_PLUGS.items():
        if plug in unconnected:
            try:
                _connect((NAME, plug), None, f"run 'sudo snap connect {NAME}:{plug}'")
            except CharmError as error:
                missing.append(f"{error}; {without}")
    return "; ".join(missing)


def connect_consumers(plugs: Iterable[tuple[str, str]]) -> None:
    """Connect these plugs of other snaps if they are installed, and reconnect all that a refresh left stale.

    Raises CharmError about all plugs that cannot be connected, after trying each.
    """
    connected = [each.plug for each in connections() if each.slot == f"{NAME}:{SLOT}"]
    problems: list[str] = []
    for plug in dict.fromkeys((*plugs, *connected)):
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
        if each.plug[0] == NAME and each.plug[1] in (NODE_PLUG, *OPTIONAL_PLUGS):
            _disconnect(each)
    with_retries(lambda: snap.unhold(NAME))
    if reason is None:
        with_retries(lambda: snap.remove(NAME))
    return reason


def _set(changes: dict[str, Any]) -> None:
    try:
        with_retries(lambda: snap.set(NAME, changes))
    except snap.ChangeError as error:
        raise CharmError(_hook_message(error.message)) from error


def _hook_message(message: str) -> str:
    """The configure hook's own message, without snapd's words around it."""
    found = re.search(r'run hook "configure":\s*(?:-+\s*)?(.*?)\s*(?:-{3,})?\s*\)?\s*$', message, re.DOTALL)
    return " ".join((found[1] if found else message).split())


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
        raise CharmError(f"{remedy}: failed to connect {':'.join(plug)} ({reason})") from error


def _disconnect(connection: Connection) -> None:
    snapd.run("disconnect", "--forget", ":".join(connection.plug), str(connection.slot))
