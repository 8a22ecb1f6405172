# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Audit: what clients get of a reading: checks with their times, noise and threads of each claim, all of it bounded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon.audit import Audit, Audits, Subjects
from epa_orchestrator.isolation.facts import go_on
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.protocol.isolation import IsolationAnswer, NoisyThread
from epa_orchestrator.state.database_files import NOISE
from tests.unit.daemon.audited import BOOTED_AT, Thread, claim, files_of

#: The operator says where the service ovs runs.
OVS_GROUP = Settings.model_validate({"owner-cgroups": "ovs=system.slice/ovs.service"})


class Host:
    """A host that goes on: each audit reads it 60 seconds later than the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *claims: Claim, directory: Path | None = None) -> None:
        self.uptime = 40.0
        self.files: dict[str, str] = {}
        self.claims: dict[str, Claim] | None = {each.service: each for each in claims}
        self.settings = Settings()
        self.writable = True
        self.audits = Audits(self, self._look, directory, go_on)
        monkeypatch.setattr(time, "time", lambda: BOOTED_AT + self.uptime)

    def audit(self, *threads: Thread, ticks: int = 0) -> Audit:
        """Audit the host, 60 seconds later, with these threads and so many ticks on CPU 2."""
        self.uptime += 60
        self.files = files_of(self.uptime, (0, 0, ticks, 0), threads=threads)
        return self.audits.make()

    def read(self, path: str) -> str | Unread:
        return RecordedHost(self.files).read(path)

    def names(self, directory: str) -> list[str] | Unread:
        return RecordedHost(self.files).names(directory)

    def _look(self) -> Subjects:
        return Subjects(self.claims, self.settings, None, self.writable)


def results(audit: Audit) -> dict[str, str]:
    return {check.id: check.result for check in audit.checks}


def test_a_check_keeps_its_time_as_long_as_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    times: list[tuple[str, str]] = []
    for threads in ((), (), (Thread(9, cpus="0-3", cpu=2),)):
        audit = host.audit(*threads)
        (check,) = (each for each in audit.checks if each.id == "B3")
        times.append((check.result, check.since))
    assert audit.read_at == BOOTED_AT + 220
    assert times == [
        ("pass", "1970-01-12T13:48:20Z"),
        ("pass", "1970-01-12T13:48:20Z"),
        ("fail", "1970-01-12T13:50:20Z"),
    ]


def test_the_noise_of_a_claim_is_told_in_all_and_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"))
    assert host.audit(ticks=1000).claims["ovs"].noise is None
    host.audit(ticks=16000)
    found = host.audit(ticks=31000).claims["ovs"]
    assert (found.since, found.allocated_cores) == (BOOTED_AT + 100, "2-3")
    assert found.noise is not None
    assert found.now is not None
    assert (found.noise.seconds, found.noise.ticks, found.now.seconds, found.now.ticks) == (120, 30000, 60, 15000)
    assert found.culprit == "timer ticks: 250 a second on CPU 2"
    assert found.remedy is not None
    assert "nohz_full=2-3" in found.remedy


def test_strangers_are_named_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"))
    host.settings = OVS_GROUP
    strangers = [Thread(number, cpus="0-3", cpu=2) for number in range(10, 20)]
    found = host.audit(*strangers).claims["ovs"]
    assert [thread.pid for thread in found.strangers] == list(range(10, 18))
    assert found.more_threads == {"strangers": 2}
    assert found.strangers[0] == NoisyThread(pid=10, tid=10, name="worker", cpu=2, cgroup="/system.slice/other.service")


def test_stacked_threads_are_blamed_where_no_counter_is(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"))
    host.settings = OVS_GROUP
    own = Thread(10, cpus="2-3", cpu=2, cgroup="/system.slice/ovs.service")
    host.audit(own, own._replace(tid=11))
    found = host.audit(own._replace(ticks=3000), own._replace(tid=11, ticks=3000)).claims["ovs"]
    assert sorted(thread.tid for thread in found.stacked) == [10, 11]
    assert found.culprit is not None
    assert "shares CPU 2" in found.culprit
    assert found.remedy == "pin each thread to a CPU of its own: sudo taskset -pc 3 11"


def test_a_stranger_is_blamed_with_the_command_that_moves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"))
    host.settings = OVS_GROUP
    found = host.audit(Thread(10, cpus="0-3", cpu=2)).claims["ovs"]
    assert (found.culprit, found.remedy) == (
        "worker (PID 10) works on CPU 2",
        "sudo systemctl set-property other.service AllowedCPUs=0-1",
    )


def test_names_that_users_choose_are_printable_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"))
    host.settings = OVS_GROUP
    stranger = Thread(10, name=") R \x1b[2J\u202e" + "x" * 100, cpus="0-3", cpu=2, cgroup="/\x1b" + "y/" * 5000)
    found = host.audit(stranger)
    (thread,) = found.claims["ovs"].strangers
    assert thread.name.startswith(") R \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}x")
    assert thread.cgroup is not None
    assert (len(thread.name), len(thread.cgroup)) == (64, 256)
    answer = IsolationAnswer(read_at=found.read_at, checks=list(found.checks), claims=list(found.claims.values()))
    assert answer.encode().decode().isprintable()


def test_the_owner_is_found_by_its_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"))
    host.settings = OVS_GROUP
    own = Thread(10, cpus="2-3", cpu=2, cgroup="/system.slice/ovs.service", involuntary=5)
    host.audit(own)
    found = host.audit(own._replace(involuntary=9), Thread(11)).claims["ovs"]
    assert found.owner.cgroups == ["system.slice/ovs.service"]
    assert (found.strangers, found.problem) == ([], None)
    assert found.now is not None
    assert found.now.involuntary_switches == 4


def test_an_unknown_owner_is_a_problem_and_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"))
    own_or_not = Thread(10, cpus="2-3", cpu=2)
    host.audit(own_or_not)
    found = host.audit(own_or_not).claims["ovs"]
    assert found.now is not None
    assert (found.now.involuntary_switches, found.strangers) == (None, [])
    assert found.problem is not None
    assert "owner-cgroups" in found.problem


def test_unknown_claims_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    host.claims = None
    audit = host.audit(Thread(10, cpus="0-3", cpu=2))
    assert audit.claims == {}
    assert results(audit)["E1"] == "not-checked"


def test_a_released_claim_is_not_in_the_next_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"))
    assert host.audit().claims
    host.claims = {}
    assert host.audit().claims == {}


def test_baselines_outlive_the_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Host(monkeypatch, claim("ovs", "2-3"), directory=tmp_path).audit(ticks=1000)
    assert os.listdir(tmp_path) == [NOISE]
    later = Host(monkeypatch, claim("ovs", "2-3"), directory=tmp_path)
    later.uptime = 400.0
    found = later.audit(ticks=1100).claims["ovs"]
    assert found.since == BOOTED_AT + 100
    assert found.noise is not None
    assert found.noise.ticks == 100


def test_baselines_are_written_when_claims_change_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"), directory=tmp_path)
    host.audit()
    (tmp_path / NOISE).unlink()
    host.audit()
    assert os.listdir(tmp_path) == []
    host.claims = {"ovs": claim("ovs", "2")}
    host.audit()
    assert os.listdir(tmp_path) == [NOISE]


def test_a_state_of_another_daemon_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"), directory=tmp_path)
    host.writable = False
    host.audit()
    assert os.listdir(tmp_path) == []


def test_baselines_that_cannot_be_written_are_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(monkeypatch, claim("ovs", "2-3"), directory=tmp_path / "missing")
    assert host.audit().claims
    for cpus in ("2", "3", "2-3"):
        host.claims = {"ovs": claim("ovs", cpus)}
        host.audit()
    assert caplog.text.count("could not be stored") == 1  # a full disk does not fill the log, too
    (tmp_path / "missing").mkdir()
    host.claims = {"ovs": claim("ovs", "2")}
    host.audit()
    assert os.listdir(tmp_path / "missing") == [NOISE]
