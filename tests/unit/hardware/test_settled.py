# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A machine counts when two readings in a row agree, and its signs show each later change of its lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from epa_orchestrator.hardware import settled
from epa_orchestrator.hardware.settled import Reading, UnsettledError, read_settled
from epa_orchestrator.hardware.sysfs import CUT, RecordedSysfs
from tools.synthetic import Shape, build

CPU, NODE = "devices/system/cpu", "devices/system/node"
SHAPE = Shape(packages=2, cores_per_l3=2, threads_per_core=2, isolated="1-3", memory_only_nodes=1)
FILES, ONE_OFFLINE = build(SHAPE), build(dataclasses.replace(SHAPE, offline="7"))


class Changing(RecordedSysfs):
    """A host that is another one in each reading; the last one stays. A reading begins with the present CPUs."""

    def __init__(self, hosts: Sequence[dict[str, str]]) -> None:
        super().__init__(hosts[0])
        self._hosts = [hosts[0], *hosts]
        self.readings = 0

    def read_list(self, path: str) -> str | None:
        if path == f"{CPU}/present":
            self.readings += 1
            if len(self._hosts) > 1:
                del self._hosts[0]
            super().__init__(self._hosts[0])
        return super().read_list(path)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "_PAUSE", 0.0)


def online(reading: Reading) -> str:
    assert reading.machine is not None
    return str(reading.machine.online)


def test_host_at_rest_is_read_twice() -> None:
    sysfs = Changing([FILES])
    assert online(read_settled(sysfs)) == "0-7"
    assert sysfs.readings == 2


def test_known_machine_is_confirmed_by_one_reading() -> None:
    known = read_settled(RecordedSysfs(FILES))
    sysfs = Changing([FILES])
    assert read_settled(sysfs, known) is known
    assert sysfs.readings == 1


def test_reading_while_a_cpu_goes_is_not_kept() -> None:
    sysfs = Changing([FILES, ONE_OFFLINE])
    assert online(read_settled(sysfs)) == "0-6"
    assert sysfs.readings == 3


def test_reading_that_differs_in_a_cache_only_is_not_kept() -> None:
    half = FILES | {f"{CPU}/cpu0/cache/index3/shared_cpu_list": "0"}
    sysfs = Changing([half, FILES])
    machine = read_settled(sysfs).machine
    assert machine is not None
    assert str(machine.l3_domains[0]) == "0-1,4-5"
    assert sysfs.readings == 3


def test_passing_error_is_not_kept() -> None:
    sysfs = Changing([FILES | {f"{CPU}/online": f"0-{CUT}"}, FILES])
    assert online(read_settled(sysfs)) == "0-7"


def test_lasting_error_is_the_problem() -> None:
    reading = read_settled(RecordedSysfs(FILES | {f"{CPU}/online": f"0-{CUT}"}))
    assert reading.machine is None
    assert "online is cut short" in str(reading.problem)


def test_host_that_never_settles_is_given_up() -> None:
    sysfs = Changing([FILES, ONE_OFFLINE] * 10)
    with pytest.raises(UnsettledError, match="change all the time: try again"):
        read_settled(sysfs)
    assert sysfs.readings == 6


@pytest.mark.parametrize(
    "change",
    [
        {f"{CPU}/online": "0-6"},
        {f"{CPU}/isolated": "1-2"},
        {f"{NODE}/online": "0-1"},
        {f"{NODE}/online": "0-3"},
        {f"{NODE}/node0/cpulist": "0-1,4"},
        {f"{NODE}/node1/cpulist": "2-3,5-7"},
        {f"{NODE}/node2/cpulist": "8"},
    ],
    ids=lambda change: " ".join(f"{path.removeprefix('devices/system/')}={text}" for path, text in change.items()),
)
def test_signs_show_a_changed_list(change: dict[str, str]) -> None:
    signs = read_settled(RecordedSysfs(FILES)).signs
    assert signs.hold(RecordedSysfs(FILES))
    assert not signs.hold(RecordedSysfs(FILES | change))


@pytest.mark.parametrize("path", [f"{CPU}/online", f"{CPU}/isolated", f"{NODE}/online", f"{NODE}/node2/cpulist"])
def test_signs_show_a_missing_file(path: str) -> None:
    signs = read_settled(RecordedSysfs(FILES)).signs
    assert not signs.hold(RecordedSysfs({name: text for name, text in FILES.items() if name != path}))


def test_signs_show_the_directory_of_a_node_that_was_listed_before() -> None:
    """The kernel lists a new node first."""
    listed = FILES | {f"{NODE}/online": "0-3"}
    signs = read_settled(RecordedSysfs(listed)).signs
    assert signs.hold(RecordedSysfs(listed))
    assert not signs.hold(RecordedSysfs(listed | {f"{NODE}/node3/cpulist": ""}))


def test_signs_show_a_new_directory_where_there_is_no_list_of_nodes() -> None:
    unlisted = {path: text for path, text in FILES.items() if path != f"{NODE}/online"}
    signs = read_settled(RecordedSysfs(unlisted)).signs
    assert signs.hold(RecordedSysfs(unlisted))
    assert not signs.hold(RecordedSysfs(unlisted | {f"{NODE}/node3/cpulist": ""}))


def test_signs_do_not_show_a_change_of_the_memory() -> None:
    reading = read_settled(RecordedSysfs(FILES))
    more = FILES | {f"{NODE}/node0/meminfo": "Node 0 MemTotal: 12345 kB"}
    assert read_settled(Changing([more]), reading) is reading
