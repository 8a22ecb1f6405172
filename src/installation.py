# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Installs the snap: chooses what to install, never the older snap, and holds what is installed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final, NamedTuple

from charmlibs import snap

import snap_file
import snapd
import store_offer
from errors import CharmError, TemporaryError
from snap_file import NAME
from snap_sources import FileSource, Source, StoreSource
from snapd import with_retries
from store_offer import Offer

#: The base snap. Installing from a file works only if the base is installed or the store can be reached.
BASE: Final = "core24"

_STORE_DOWN: Final = re.compile(
    r"unable to contact snap store|persistent network error|no such host|dial tcp|store unavail|net/http|deadline"
)


class Plan(NamedTuple):
    """What to install."""

    #: None: the installed snap stays.
    source: Source | None
    #: For the status, if something else runs than the configuration asks for: what to do, and why.
    note: str = ""
    #: What the store offers, if it was asked.
    offer: Offer | None = None
    #: Why the store could not be asked, although it should have been; empty if it was asked.
    unreachable: str = ""


def plan(wanted: Source, bundled: FileSource, known: Offer | None, *, refresh: bool) -> Plan:
    """Choose what to install; `bundled` is the snap in the charm, `known` what was found in the store earlier.

    With `refresh`, a snap from the wanted channel gives way to the channel's newest revision. A channel that offers the
    older snap leaves an installed snap of ours, and an update of the one in the charm is still installed.

    While the store cannot be reached, an installed snap of ours stays, or else the one in the charm is installed.

    Raises CharmError when a file is not our snap or the store has no such channel.
    """
    if isinstance(wanted, FileSource):
        return Plan(_if_not_installed(wanted))
    here = snapd.installed(NAME)
    is_ours = here is not None and snap_file.is_ours(here.revision)
    if is_ours and not refresh and is_installed_from(wanted):
        return Plan(None)
    try:
        offer = store_offer.look(wanted, known)
    except TemporaryError as error:
        source = None if is_ours else _if_not_installed(bundled)
        return Plan(source, note=str(error), unreachable=str(error))
    if offer.is_ours:
        offered = StoreSource(wanted.channel, offer.revision)
        return Plan(None if is_installed_from(offered) else offered, offer=offer)
    note = (
        f"set snap-channel to '' (with Sunbeam, in its manifest): revision {offer.revision} in {wanted.channel} is the"
        " older snap, which this charm does not run"
    )
    stays = is_ours and here is not None and here.revision.isdecimal()
    return Plan(None if stays else _if_not_installed(bundled), note, offer)


def is_installed_from(source: Source) -> bool:
    """Whether the installed snap comes from this source; a newer revision in the same channel makes no difference."""
    info = snapd.installed(NAME)
    if info is None:
        return False
    if isinstance(source, FileSource):
        return _have_same_content(source.path, snap_file.installed_file(info.revision))
    # snapd keeps the channel of a store snap that a file has replaced: only a store revision is a number.
    from_channel = info.revision.isdecimal() and info.tracking == source.channel
    return from_channel and source.revision in (0, int(info.revision))


def install(source: Source) -> None:
    """Install the snap from the source, in place of the installed one if there is one.

    Raises CharmError, TemporaryError.
    """
    try:
        _install(source)
    except snap.APIError as error:
        if snapd.is_busy(error):
            raise
        raise _explain(source, error) from error


def hold() -> None:
    """Keep snapd from refreshing this snap, and no other, by itself."""
    if (info := snapd.installed(NAME)) is not None and info.hold is None:
        with_retries(lambda: snap.hold(NAME))


def _if_not_installed(source: FileSource) -> FileSource | None:
    """The file, unless the installed snap is the same.

    Raises CharmError when the file is missing or is the older snap.
    """
    if not source.path.is_file() or snap_file.is_blank(source.path):
        raise CharmError(
            f"attach the resource {NAME}-snap, or set snap-channel: the charm contains no snap ({source.path.name})"
        )
    described = snap_file.describe(source.path)
    if described is not None and not described.is_ours:
        raise CharmError(
            f"attach another snap as the resource {NAME}-snap, or an empty file: {source} is the older snap (version"
            f" {described.version}), which this charm does not run"
        )
    return None if is_installed_from(source) else source


def _install(source: Source) -> None:
    info = snapd.installed(NAME)
    if isinstance(source, FileSource):
        snapd.run("install", "--dangerous", str(source.path))
    elif info is not None and info.revision.startswith("x"):
        pin = ["--revision", str(source.revision)] if source.revision else []
        snapd.run("refresh", "--amend", "--channel", source.channel, *pin, NAME)
    else:
        revision = source.revision or None
        with_retries(lambda: snap.ensure_installed(NAME, source.channel, revision=revision, update=False))


def _explain(source: Source, error: snap.APIError) -> CharmError | TemporaryError:
    reason = " ".join(error.message.split())
    unreachable = _STORE_DOWN.search(reason)
    if isinstance(source, StoreSource):
        if unreachable or snapd.says_not_in_store(error) or snapd.says_no_channel(error):
            return store_offer.explain(source, error)
    elif snapd.installed(BASE) is None:
        return CharmError(
            f"run 'sudo snap install {BASE}', or without a network 'sudo snap ack' and 'sudo snap install' with its"
            f" files: this base snap is not installed and cannot be downloaded ({reason[:200]})"
        )
    return CharmError(f"see 'snap changes' on the machine: failed to install the snap from {source}: {reason[:400]}")


def _have_same_content(path: Path, other: Path) -> bool:
    try:
        return path.stat().st_size == other.stat().st_size and _digest(path) == _digest(other)
    except FileNotFoundError:
        return False


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
