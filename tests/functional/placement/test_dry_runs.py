# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A dry run has the answer of the real request, and changes nothing."""

from __future__ import annotations

import json
import os
from typing import Final

import pytest

from tests.functional.harness import Daemon, error_of
from tests.functional.other_user import UID, ask_as

from .asking import Request, ask, begin, cores, history, numa, percent, tables

DRY_RUNS: Final = [
    cores(3), cores(0), cores(5, preemption_policy="non-preemptive"), percent(20), numa(1, 2), numa(0, 6),
    cores(4, cpu_thread_policy="isolate"), cores(2, near=1), numa(1, 2, uncore_cache_alignment="none"),
    cores(-1), percent(0), numa(0, -1), cores(-1, service_name="nobody"),
]  # fmt: skip


@pytest.mark.parametrize("request_", DRY_RUNS, ids=[json.dumps(fields) for _, fields in DRY_RUNS])
def test_dry_run_gives_the_real_answer(daemon: Daemon, request_: Request) -> None:
    begin(daemon, {"other": "0-1", "svc": "2"})
    before = daemon.snapshot(), tables(daemon)
    dry = ask(daemon, request_, dry_run=True)
    assert dry["dry_run"] is True
    assert (daemon.snapshot(), tables(daemon)) == before
    real = ask(daemon, request_)
    assert dry == real | {"dry_run": True}
    assert "dry_run" not in ask(daemon, request_, dry_run=False)


def test_dry_runs_leave_no_history(daemon: Daemon) -> None:
    daemon.cores("svc", 2)
    before = history(daemon)
    for request in DRY_RUNS:
        ask(daemon, request, dry_run=True)
    assert history(daemon) == before
    daemon.cores("svc", 3)
    assert len(history(daemon)) == len(before) + 1


REFUSED: Final = [
    cores(17), cores(-2), cores(2, pool="general"), percent(101), numa(9, 1), numa(0, 9), numa(0, 0),
    cores(9, numa_policy="single-numa-node"), cores(2, near=9), cores(1, cpu_thread_policy="require"),
    cores(2, dry_run="yes"), cores(2, dry_run=1), cores(2, explain="no"),
]  # fmt: skip


@pytest.mark.parametrize("request_", REFUSED, ids=[json.dumps(fields) for _, fields in REFUSED])
def test_dry_run_gives_the_real_refusal(daemon: Daemon, request_: Request) -> None:
    begin(daemon, {"other": "0"})
    action, fields = request_
    real = daemon.refused(action, service_name="svc", **fields)
    assert daemon.refused(action, service_name="svc", **({"dry_run": True} | fields)) == real


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("request_", [cores(2), percent(10), numa(0, 1), cores(-1)], ids=str)
def test_dry_run_of_another_user_is_refused(daemon: Daemon, request_: Request) -> None:
    daemon.base.chmod(0o755)
    daemon.data.chmod(0o755)
    action, fields = request_
    sentences = [
        error_of(ask_as(daemon, action, {"service_name": "svc", **fields, **more})[1])
        for more in ({}, {"dry_run": True}, {"dry_run": True, "explain": True})
    ]
    assert len(set(sentences)) == 1
    assert str(UID) in sentences[0]
