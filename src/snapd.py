# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Access to snapd: calls that its library lacks, and retries of failures that go away by themselves."""

from __future__ import annotations

import importlib
import logging
import os
import re
import subprocess
import time
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from charmlibs import snap

from errors import CharmError

log = logging.getLogger(__name__)

#: What the operator has to do where there is no snapd.
MISSING: Final = "snapd is not installed: run 'sudo apt install snapd'"

_COMMAND: Final = "/usr/bin/snap"
_COMMAND_TIMEOUT: Final = 900.0
_ATTEMPTS: Final = 4
_PAUSE: Final = 15.0
#: snapd's words while another change, a restart or its first start is under way, or a command of the snap runs.
_BUSY: Final = re.compile(
    r"changes? in progress|device not yet seeded|snapd is about to reboot|daemon is restarting|has running (apps|hooks)"
)
#: snapd's words when the store is too slow.
_SLOW_STORE: Final = re.compile(r"Client\.Timeout|context deadline exceeded|request canceled")

#: Messages of the command `snap`; the library has an exception for each.
_NOT_IN_STORE: Final = re.compile(r"snap .* not found")
_NO_CHANNEL: Final = re.compile(r"not available on|no snap revision|cannot find .* channel|revision not available")

_RESULT = TypeVar("_RESULT")


class Connection(NamedTuple):
    """A row of `snap connections` that has a plug; `slot` is None when the plug is not connected."""

    interface: str
    plug: tuple[str, str]
    slot: str | None


def installed(name: str) -> snap.InstalledInfo | None:
    """Revision, version, channel and hold of a snap; None when it is not installed."""
    try:
        return with_retries(lambda: snap.list_one(name))
    except snap.NotInstalledError:
        return None


def options(name: str) -> dict[str, Any]:
    """The options that are set in a snap."""
    return with_retries(lambda: snap.get(name))


def connections(name: str) -> list[Connection]:
    """The connections of a snap's plugs and slots, and its plugs that are not connected."""
    rows = [line.split() for line in run("connections", name).splitlines()[1:]]
    if any(len(row) < 3 for row in rows):
        raise snap.BadResponseError(f"'snap connections {name}' does not print a table of plugs and slots")
    return [
        Connection(interface.partition("[")[0], (owner, plug_name), None if slot == "-" else slot)
        for interface, plug, slot, *_ in rows
        if ":" in plug
        for owner, _, plug_name in [plug.partition(":")]
    ]


def run(*arguments: str) -> str:
    """Run the command `snap` and return its output.

    Raises snap.Error as the library does. A command that times out is not run again: snapd may still be working on it.
    """
    return with_retries(lambda: _run(arguments))


def with_retries(action: Callable[[], _RESULT]) -> _RESULT:
    """Call `action`, and again after a pause when it fails for a reason that goes away by itself.

    Such reasons are a slow answer from snapd or the store, a restart of snapd, and another change in progress.

    Raises snap.Error, and CharmError where snapd is not installed.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return _call(action)
        except snap.SocketNotFoundError as error:
            raise CharmError(MISSING) from error
        except snap.Error as error:
            if not _is_temporary(error):
                raise
            log.warning("trying again in %g seconds: %s", _PAUSE, error)
        time.sleep(_PAUSE)
    return _call(action)


def is_busy(error: snap.Error) -> bool:
    """Whether snapd failed only because it is busy with something else."""
    return bool(_BUSY.search(str(error)))


def says_not_in_store(error: snap.Error) -> bool:
    """Whether the store has no snap of this name."""
    return isinstance(error, snap.NotInStoreError) or bool(_NOT_IN_STORE.search(str(error)))


def says_no_channel(error: snap.Error) -> bool:
    """Whether the store has the snap, but neither in this channel nor with this revision."""
    unavailable = isinstance(error, snap.ChannelNotAvailableError | snap.RevisionNotAvailableError)
    return unavailable or bool(_NO_CHANNEL.search(str(error)))


def _is_temporary(error: snap.Error) -> bool:
    no_answer = isinstance(error, snap.TimeoutError | snap.ConnectionError)
    return no_answer or is_busy(error) or bool(_SLOW_STORE.search(str(error)))


def _call(action: Callable[[], _RESULT]) -> _RESULT:
    """Call `action`, and turn every exception about an unreadable answer into one of the library's own.

    The library's decoder lets three others through: for text that is not UTF-8, for text that is nested too deeply,
    and for an error that is not an object.
    """
    try:
        return action()
    except (UnicodeDecodeError, RecursionError, AttributeError) as error:
        raise snap.BadResponseError(f"snapd's answer has an unknown form ({type(error).__name__})") from error


def _run(arguments: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            [_COMMAND, *arguments],
            env=_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise snap.SocketNotFoundError(f"{_COMMAND} is missing: install snapd") from None
    except OSError as error:
        message = f"{_COMMAND} cannot be run: {error.strerror}"
        raise snap.ChangeError(message, kind="command", value=" ".join(arguments)) from error
    except subprocess.TimeoutExpired:
        message = f"snap {arguments[0]} took more than {_COMMAND_TIMEOUT:g} seconds: see 'snap changes'"
        raise snap.ChangeError(message, kind="command", value=" ".join(arguments)) from None
    if done.returncode:
        message = done.stderr.strip().removeprefix("error: ")
        raise snap.ChangeError(message, kind="command", value=" ".join(arguments))
    return done.stdout


def _environment() -> dict[str, str]:
    """Our environment with Juju's proxy settings, in lower and upper case because programs look for either.

    They concern the command itself. snapd has its own proxy for the store: the model's `snap-http-proxy`.
    """
    with warnings.catch_warnings():
        # charmhelpers imports distutils, which warns on Python 3.11. On 3.12 only setuptools has it.
        warnings.simplefilter("ignore")
        importlib.import_module("setuptools")
        hookenv: Any = importlib.import_module("charmhelpers.core.hookenv")
    return {**os.environ, **(hookenv.env_proxy_settings(["http", "https", "no_proxy"]) or {})}
