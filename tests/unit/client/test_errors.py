# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Errors: one sentence for each way in which a daemon does not answer, and for its refusals."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from epa_orchestrator.client.errors import RefusedByDaemon, Unreachable, WatchEnded
from epa_orchestrator.protocol.answers import ErrorAnswer


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TimeoutError(), "The daemon at /s did not answer within 2.5 seconds"),
        (OSError(errno.ENOENT, "gone"), "No daemon serves /s: start it with"),
        (OSError(errno.EACCES, "Permission denied"), "The daemon at /s cannot be reached: Permission denied"),
    ],
)
def test_says_why_no_daemon_answers(error: OSError, sentence: str) -> None:
    assert str(Unreachable.because(error, Path("/s"), 2.5)).startswith(sentence)


def test_a_file_that_is_no_socket_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    refused = OSError(errno.ECONNREFUSED, "Connection refused")
    assert "which is no socket" in str(Unreachable.because(refused, file, 1))


def test_an_ended_watch_counts_as_a_daemon_that_does_not_answer() -> None:
    assert issubclass(WatchEnded, Unreachable)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [("no", "no"), (" ", "The daemon refused the request without a reason"), ("x" * 20_000, "x" * 16_384 + "…")],
)
def test_a_refusal_is_cut_to_a_length_that_a_person_can_read(error: str, sentence: str) -> None:
    assert str(RefusedByDaemon.of(ErrorAnswer(error=error))) == sentence
