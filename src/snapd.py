"""Talking to snapd: what its library has no call for, and patience with what heals by itself."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from charmlibs import snap

log = logging.getLogger(__name__)

_COMMAND: Final = "/usr/bin/snap"
_COMMAND_TIMEOUT: Final = 900.0
_ATTEMPTS: Final = 4
_PAUSE: Final = 15.0
#: What snapd says while something else keeps it from what it was asked.
_BUSY: Final = re.compile(r"change in progress|device not yet seeded|snapd is about to reboot|daemon is restarting")
#: What it says when the store takes too long.
_SLOW_STORE: Final = re.compile(r"Client\.Timeout|context deadline exceeded|request canceled")

_RESULT = TypeVar("_RESULT")


class SnapError(Exception):
    """Something that the operator must mend; the message says what, and how."""


class Link(NamedTuple):
    """A row of `snap connections`: a plug, and the slot that it is connected to, if any."""

    interface: str
    plug: tuple[str, str]
    slot: str | None


def installed(name: str) -> snap.InstalledInfo | None:
    """What snapd says of a snap, None when it is not installed.

    Raises SnapError where there is no snapd.
    """
    try:
        return patiently(lambda: snap.list_one(name))
    except snap.NotInstalledError:
        return None


def links(name: str) -> list[Link]:
    """The plugs and slots of a snap, and what is connected to them."""
    rows = [line.split() for line in run("connections", name).splitlines()[1:]]
    if any(len(row) < 3 for row in rows):
        raise snap.BadResponseError(f"'snap connections {name}' prints something else than a table of plugs and slots")
    return [
        Link(interface.partition("[")[0], (owner, plug_name), None if slot == "-" else slot)
        for interface, plug, slot, *_ in rows
        if ":" in plug
        for owner, _, plug_name in [plug.partition(":")]
    ]


def run(*arguments: str) -> str:
    """Run the command snap and return what it prints.

    Raises snap.Error as the library does; a command that takes too long is not run again, as snapd may still be at it.
    """
    return patiently(lambda: _run(arguments))


def patiently(action: Callable[[], _RESULT]) -> _RESULT:
    """Do something, again after a pause when it fails for a reason that passes.

    Such are a slow answer (of the store, too), a restart of snapd, and another change that is in progress. Raises
    snap.Error, and SnapError where there is no snapd.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return _understood(action)
        except snap.SocketNotFoundError as error:
            raise SnapError("snapd is not on this machine: 'sudo apt install snapd'") from error
        except snap.Error as error:
            if not _passes(error):
                raise
            log.warning("trying again in %g seconds: %s", _PAUSE, error)
        time.sleep(_PAUSE)
    return _understood(action)


def _understood(action: Callable[[], _RESULT]) -> _RESULT:
    """Do something; what the library makes of an answer in an unknown form is an error of its own class.

    It lets through what its decoder raises for text that is not UTF-8 or nested too deeply, and for an error that is
    no object.
    """
    try:
        return action()
    except (UnicodeDecodeError, RecursionError, AttributeError) as error:
        raise snap.BadResponseError(f"snapd answers in an unknown form ({type(error).__name__})") from error


def is_busy(error: snap.Error) -> bool:
    """Whether snapd only has something else to do at the moment."""
    return bool(_BUSY.search(str(error)))


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
        raise snap.SocketNotFoundError(f"{_COMMAND} is not there: install snapd") from None
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
    """Our environment with Juju's proxy settings, under both spellings that programs look for.

    They are for what the command itself does. Snapd asks the store by its own: the model's `snap-http-proxy`.
    """
    proxies = {name: os.environ.get(f"JUJU_CHARM_{name.upper()}") for name in ("http_proxy", "https_proxy", "no_proxy")}
    given = {name: value for name, value in proxies.items() if value}
    return {**os.environ, **given, **{name.upper(): value for name, value in given.items()}}


def _passes(error: snap.Error) -> bool:
    unanswered = isinstance(error, snap.TimeoutError | snap.ConnectionError)
    return unanswered or is_busy(error) or bool(_SLOW_STORE.search(str(error)))
