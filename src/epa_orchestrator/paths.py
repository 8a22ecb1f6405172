# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Paths of the socket, the state and the settings, and the log level: from the environment, or their defaults."""

from __future__ import annotations

import os
from pathlib import Path

_SNAP_NAME = "epa-orchestrator"

#: The socket of an installed snap, seen from the host.
_SNAP_SOCKET = Path("/var/snap/epa-orchestrator/current/data/epa.sock")


def in_snap() -> bool:
    """Whether this process runs in our own snap, in its confinement. A terminal of another snap has its variables."""
    return os.environ.get("SNAP_NAME") == _SNAP_NAME


def user_directory_in_snap() -> str:
    """The directory in the user's home that a confined snap may write."""
    return os.environ.get("SNAP_USER_COMMON") or f"~/snap/{_SNAP_NAME}/common"


def snap_revision() -> str | None:
    """The revision of our snap that runs, or that is installed; None when there is none."""
    if in_snap():
        return os.environ.get("SNAP_REVISION")
    try:
        return os.path.basename(os.readlink(f"/snap/{_SNAP_NAME}/current"))
    except OSError:
        return None


def data_directory() -> Path:
    """`$SNAP_DATA`, whose `data` is shared with other snaps; outside a snap, a directory of the user."""
    return Path(os.environ.get("SNAP_DATA") or _user_directory() / "current")


def state_directory(recorded: str | None = None) -> Path:
    """The directory of the state: `$SNAP_COMMON`; outside a snap, one for the host and each recorded machine."""
    if common := os.environ.get("SNAP_COMMON"):
        return Path(common)
    return _user_directory() / (f"machines/{recorded}" if recorded else "common")


def socket_path() -> Path:
    """The socket that the daemon serves."""
    return data_directory() / "data" / "epa.sock"


def legacy_state() -> Path:
    """The older daemon's state file."""
    return data_directory() / "data" / "state.json"


def client_socket_path() -> Path:
    """The socket that a client connects to: the daemon's, or the installed snap's when only that one exists."""
    path = socket_path()
    # os.path.exists is false without permission to look, where Path.exists raises an error.
    if not os.environ.get("SNAP_DATA") and not os.path.exists(path) and os.path.exists(_SNAP_SOCKET):
        return _SNAP_SOCKET
    return path


def sysfs_root() -> Path:
    """The sysfs root: `$EPA_SYSFS`, /sys by default."""
    return Path(os.environ.get("EPA_SYSFS") or "/sys")


def host_root(sysfs_root: Path) -> Path | None:
    """The root directory of the host that a sysfs root belongs to: the parent of `/sys`, or of another `sys`.

    None where the sysfs root has another name, because nothing says what is next to it.
    """
    root = Path(os.path.abspath(sysfs_root))
    return root.parent if root.name == "sys" else None


def settings_file() -> Path | None:
    """The settings file: `$EPA_SETTINGS`, none by default."""
    path = os.environ.get("EPA_SETTINGS")
    return Path(path) if path else None


def log_level() -> str:
    """The log level: `$EPA_LOG_LEVEL`, info by default."""
    return (os.environ.get("EPA_LOG_LEVEL") or "info").lower()


def _user_directory() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state") / "epa-orchestrator"


def _home() -> Path:
    """The user's home; the root directory for a user who has none, as in login(1)."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
