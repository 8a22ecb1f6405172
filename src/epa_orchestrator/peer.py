# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Peer: the process at the other end of a connection."""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """The process that connected, with its effective user and group at that moment (`SO_PEERCRED`, unix(7))."""

    pid: int
    uid: int
    gid: int
