# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Replies: how an answer leaves, and is logged and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from epa_orchestrator.daemon import peer_log
from epa_orchestrator.daemon.kept_answers import TooMuchUnread
from epa_orchestrator.metrics.counts import Rule, counts
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.answers import ErrorAnswer
from epa_orchestrator.protocol.requests import Request

log = logging.getLogger(__name__)

INTERNAL_ERROR: Final = "Internal error: nothing was changed; please report it with the daemon's log"

#: Sends the bytes of an answer to the client; called once for each request. After TooMuchUnread it is called again.
Reply = Callable[[bytes], None]


def error_answer(sentence: str) -> bytes:
    """A refusal on the wire."""
    return ErrorAnswer(error=sentence).encode()


def send(
    reply: Reply,
    answer: bytes,
    peer: Peer,
    request: Request,
    outcome: str,
    rule: Rule | None = None,
    *,
    refuse: Reply | None = None,
) -> None:
    """Send an answer, log its outcome and count it; a bug in one connection must not stop the others.

    `rule` is the kind of refusal, None if the request was served. `refuse`, or else `reply`, sends the refusal if too
    much of the client's user is unread.
    """
    try:
        try:
            reply(answer)
        except TooMuchUnread as error:
            outcome, rule = str(error), "quota"
            (refuse or reply)(error_answer(outcome))
        if counts.on:
            counts.answered(request, rule)
        peer_log.note(*peer, "%s %r: %s", request.action, request.service_name or "", outcome)
    except Exception:
        log.exception("an answer to pid=%d could not be sent", peer.pid)


def send_error(reply: Reply, sentence: str, peer: Peer, request: Request, rule: Rule) -> None:
    """Send an error, log it and count it."""
    send(reply, error_answer(sentence), peer, request, sentence, rule)
