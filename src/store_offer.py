# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Which snap a channel of the store offers, found out before it is installed.

Sunbeam always sets a channel, and in it may lie the older snap of the same name. The older daemon must not run again
once ours holds claims: it would go by its old state file and grant the same CPUs. So the offered snap is downloaded and
read first, and only a revision that was read is installed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from charmlibs import snap

import snap_file
import snapd
import snapd_api
from errors import CharmError, TemporaryError
from snap_sources import StoreSource


class Offer(NamedTuple):
    """A revision in the store, and whether it is this project's snap. A revision never changes its content."""

    revision: int
    is_ours: bool


def look(source: StoreSource, known: Offer | None = None) -> Offer:
    """What the store offers now in the source's channel; `known` is what was found earlier.

    A revision that is known is not downloaded again.

    Raises CharmError when the operator has to change the channel or revision, TemporaryError when the store or snapd
    cannot be reached.
    """
    wanted = str(source.revision or "")
    try:
        revision = snapd_api.peek(snap_file.NAME, source.channel, wanted).revision
        if known is not None and revision == str(known.revision):
            return known
        return _download(source.channel, revision)
    except snap.SocketNotFoundError as error:
        raise CharmError(snapd.MISSING) from error
    except (snap.TimeoutError, snap.ConnectionError, snap.BadResponseError, snap.APIError) as error:
        raise explain(source, error) from error
    except OSError as error:
        raise TemporaryError(f"{source} cannot be looked at: {error}") from error


def explain(source: StoreSource, error: snap.Error) -> CharmError | TemporaryError:
    """What an error of snapd or the store means for the operator."""
    reason = " ".join(error.message.split())[:200]
    if snapd.says_not_in_store(error):
        return CharmError(f"reset snap-channel to use the snap in the charm: the store has no snap {snap_file.NAME}")
    if snapd.says_no_channel(error):
        return CharmError(f"set another channel or revision, or reset snap-channel: there is no {source} ({reason})")
    if snapd.is_busy(error):
        return TemporaryError(f"snapd is busy ({reason})")
    return TemporaryError(
        f"the store cannot be reached for {source} ({reason}): fix the machine's network or the model's"
        " snap-http-proxy, or reset snap-channel"
    )


def _download(channel: str, revision: str) -> Offer:
    with tempfile.TemporaryDirectory(prefix="epa-offer-") as directory:
        path = Path(directory, "offered.snap")
        try:
            downloaded = snapd_api.download(snap_file.NAME, channel, revision, path)
        except snapd_api.TooLargeError as error:
            return Offer(int(error.message), is_ours=False)
        described = snap_file.describe(path)
    return Offer(int(downloaded.revision), described is not None and described.is_ours)
