"""What the environment says: where things lie (outside a snap, in the user's state directory), and how much to log."""

from __future__ import annotations

import os
from pathlib import Path

#: Where the socket of an installed snap is, seen from the host.
_SNAP_SOCKET = Path("/var/snap/epa-orchestrator/current/data/epa.sock")


def data_directory() -> Path:
    """The directory whose `data` is shared with other snaps: `$SNAP_DATA`."""
    return Path(os.environ.get("SNAP_DATA") or _user_directory() / "current")


def state_directory(demo: str | None = None) -> Path:
    """Where the state lies: `$SNAP_COMMON`; outside a snap each recorded machine (`demo`) has its own."""
    if common := os.environ.get("SNAP_COMMON"):
        return Path(common)
    return _user_directory() / (f"machines/{demo}" if demo else "common")


def socket_path() -> Path:
    """Where the daemon serves."""
    return data_directory() / "data" / "epa.sock"


def legacy_state() -> Path:
    """Where the older daemon kept its state."""
    return data_directory() / "data" / "state.json"


def client_socket_path() -> Path:
    """Where a client looks for the daemon: as the daemon does, else at the installed snap's."""
    path = socket_path()
    # os.path.exists is also false for what may not be looked at, where Path.exists raises an error.
    if not os.environ.get("SNAP_DATA") and not os.path.exists(path) and os.path.exists(_SNAP_SOCKET):
        return _SNAP_SOCKET
    return path


def sysfs_root() -> Path:
    """The sysfs root: `$EPA_SYSFS`, else /sys."""
    return Path(os.environ.get("EPA_SYSFS") or "/sys")


def settings_file() -> Path | None:
    """The settings file: `$EPA_SETTINGS`, else none."""
    path = os.environ.get("EPA_SETTINGS")
    return Path(path) if path else None


def log_level() -> str:
    """How much to log: `$EPA_LOG_LEVEL`, else info."""
    return (os.environ.get("EPA_LOG_LEVEL") or "info").lower()


def _user_directory() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state") / "epa-orchestrator"


def _home() -> Path:
    """The user's home; as login(1) does, the root directory for a user who has none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
