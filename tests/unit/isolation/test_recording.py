# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A host's facts become a JSON document, and the host in it is judged like the host itself."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from epa_orchestrator.hardware.sysfs import FORMAT, REPORT_FORMAT, load_recording
from epa_orchestrator.isolation.case import Case, Owner
from epa_orchestrator.isolation.facts import read_facts
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.judge import judge
from epa_orchestrator.isolation.recording import host_of, record_host
from tests.isolated_hosts import OWNERS, IsolatedHost
from tests.small_hosts import host, task

AT = 1_700_000_000.5

HOSTS = {
    "good": host(),
    "managed only": host("isolcpus=managed_irq,2-3", isolated=""),
    "two lists": host("isolcpus=2-3 x=1 isolcpus=1-3"),
    "nothing": host("quiet", isolated=""),
    "a stranger": host() | task(400, "stress", "0-3", cpu=2, state="R"),
    "a kernel thread": host() | task(401, "kworker/u8:1", "0-3", flags=0x00200000),
}


def recording(files: dict[str, str], **members: object) -> str:
    document = {"format": FORMAT, "name": "n", "description": "d", "files": {"devices/system/cpu/present": "0-3"}}
    return json.dumps(document | {"host": record_host(RecordedHost(files), AT)[1]} | members)


def judged(source: RecordedHost) -> tuple[Finding, ...]:
    owners = (Owner("nova", Case(read_facts(source, AT)).isolated),)
    return judge(Case(read_facts(source, AT), None, owners))


@pytest.mark.parametrize("name", HOSTS)
def test_recorded_host_is_judged_like_the_host(name: str) -> None:
    found = host_of(recording(HOSTS[name]))
    assert found.at == AT
    assert judged(found.files) == judged(RecordedHost(HOSTS[name]))


def test_rich_host_is_judged_as_it_was() -> None:
    files = IsolatedHost().files()
    found = host_of(recording(files))
    assert judge(Case(read_facts(found.files, AT), None, OWNERS)) == judge(
        Case(read_facts(RecordedHost(files), AT), None, OWNERS)
    )


def test_report_has_the_host_of_its_recording() -> None:
    report = {"format": REPORT_FORMAT, "recording": json.loads(recording(host()))}
    assert judged(host_of(json.dumps(report)).files) == judged(RecordedHost(host()))


def test_recording_with_a_host_is_still_one_of_a_machine() -> None:
    assert load_recording(recording(host())).read("devices/system/cpu/present") == "0-3"


def test_recording_of_an_older_version_has_the_machine_only() -> None:
    text = json.dumps({"format": FORMAT, "files": {"devices/system/cpu/present": "0-3"}})
    found = host_of(text)
    assert found.at == 0
    assert found.files.read("sys/devices/system/cpu/present") == "0-3"
    assert found.files.read("proc/cmdline") == Unread("proc/cmdline", "denied", "which was not recorded")


def paths_of_tasks(files: dict[str, str]) -> list[str]:
    document = record_host(RecordedHost(files), AT)[1]
    return sorted(
        {path.split("/")[1] for path in document["files"] if path.startswith("proc/") and path[5].isdecimal()}
    )


def test_only_tasks_that_may_run_on_isolated_cpus_are_recorded() -> None:
    files = host() | task(400, "stress", "0-3") | task(401, "kworker/u8:1", "1-2", flags=0x00200000)
    assert paths_of_tasks(files) == ["1", "2", "400", "401"]


def test_denied_files_and_empty_directories_are_recorded() -> None:
    source = RecordedHost(host(), ["proc/interrupts"], {"sys/class/net": []})
    document = record_host(source, AT)[1]
    assert document["denied"] == ["proc/interrupts"]
    assert document["entries"] == {"sys/class/net": []}


def test_secrets_of_the_kernel_line_are_not_recorded() -> None:
    document = json.dumps(record_host(RecordedHost(host("isolcpus=2-3 password=hunter2")), AT)[1])
    assert "hunter2" not in document
    assert "root=/dev/vda1" not in document


def test_file_without_room_counts_as_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    files = host() | task(400, "stress", "0-3")
    whole = record_host(RecordedHost(files), AT)[1]
    size = sum(len(text) for text in whole["files"].values() if isinstance(text, str))
    monkeypatch.setattr("epa_orchestrator.isolation.recording._MOST_CHARACTERS", size - 1)
    assert whole["denied"] == []
    (left_out,) = record_host(RecordedHost(files), AT)[1]["denied"]
    assert left_out.startswith("proc/400/")


def test_hostile_name_of_a_control_group_makes_no_huge_set() -> None:
    group = "sys/fs/cgroup/cpu99999999999999"
    more = {"sys/fs/cgroup/cgroup.subtree_control": "cpuset\n", f"{group}/cpuset.cpus.partition": "isolated\n"}
    document = record_host(RecordedHost(host() | more), AT)[1]
    assert document["files"][f"{group}/cpuset.cpus.partition"] == "isolated\n"


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"host": 1}, "its 'host' is not a JSON object"),
        ({"host": {"at": "now"}}, "'at' of its 'host' is not a time in seconds"),
        ({"host": {"files": []}}, "its 'files' is not a JSON object"),
        ({"host": {"files": {"a": 1}}}, "'a' holds neither text nor texts by CPU list"),
        ({"host": {"denied": [1]}}, "its 'denied' holds something else than names"),
        ({"host": {"entries": {"a": "b"}}}, "its 'entries' holds something else than names"),
    ],
)
def test_damaged_recording_is_refused_with_a_sentence(members: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        host_of(recording(host(), **members))
