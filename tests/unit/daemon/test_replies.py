# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Replies: an answer leaves and its outcome is logged; a failing connection stops nobody else."""

from __future__ import annotations

import json
import logging

import pytest

from epa_orchestrator.daemon import replies
from epa_orchestrator.daemon.kept_answers import TooMuchUnread
from epa_orchestrator.daemon.replies import send, send_error
from epa_orchestrator.metrics.counts import Counts
from epa_orchestrator.peer import Peer
from epa_orchestrator.protocol.parsing import validate

REQUEST = validate({"action": "allocate_cores", "service_name": "nova", "num_of_cores": 2})
PEER = Peer(pid=7, uid=0, gid=0)


def test_an_error_is_sent_as_the_protocol_has_it(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[bytes] = []
    with caplog.at_level(logging.INFO):
        send_error(sent.append, "No.", PEER, REQUEST, "other")
    assert json.loads(sent[0]) == {"version": "1.0", "error": "No."}
    assert "pid=7 uid=0 gid=0 allocate_cores 'nova': No." in caplog.text


def test_a_reply_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    send(fail, b"{}", PEER, REQUEST, "served")
    assert "an answer to pid=7 could not be sent" in caplog.text


def test_too_much_that_is_unread_is_a_refusal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Counts()
    fresh.on = True
    monkeypatch.setattr(replies, "counts", fresh)
    refused: list[bytes] = []

    def reply(_: bytes) -> None:
        raise TooMuchUnread("Too much.")

    with caplog.at_level(logging.INFO):
        send(reply, b"{}", PEER, REQUEST, "served", refuse=refused.append)
    assert [json.loads(answer)["error"] for answer in refused] == ["Too much."]
    assert "allocate_cores 'nova': Too much." in caplog.text
    assert (fresh.requests, fresh.refusals) == ({("allocate_cores", "denied"): 1}, {"quota": 1})


def test_answer_is_counted_while_metrics_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Counts()
    monkeypatch.setattr(replies, "counts", fresh)
    send(lambda _: None, b"{}", PEER, REQUEST, "served")
    assert fresh.requests == {}
    fresh.on = True
    send(lambda _: None, b"{}", PEER, REQUEST, "served")
    send_error(lambda _: None, "No.", PEER, REQUEST, "limit")
    assert fresh.requests == {("allocate_cores", "served"): 1, ("allocate_cores", "refused"): 1}
    assert fresh.refusals == {"limit": 1}
