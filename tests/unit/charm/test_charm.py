# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Events: each reconciles the machine with the configuration, or does nothing."""

from __future__ import annotations

import inspect

import pytest
from charmlibs import snap
from ops import testing

import isolation
from epa_orchestrator.cpuset import CpuSet
from errors import CharmError, TemporaryError
from snap_sources import FileSource

from .unit import (
    HYPERVISOR,
    NO_RELATION,
    OK,
    REAL_FUNCTIONS,
    STEPS,
    Unit,
    Workload,
    info,
    public_functions,
    warnings_of,
)


def test_stand_in_has_the_functions_of_the_modules_with_their_signatures() -> None:
    stand_in = public_functions(inspect.getmembers(Workload(), inspect.ismethod), Workload.__module__)
    real = {name: function for functions in REAL_FUNCTIONS.values() for name, function in functions.items()}
    assert stand_in.keys() == real.keys()
    for name, function in real.items():
        assert inspect.signature(stand_in[name]) == inspect.signature(function), name


def test_stand_in_reads_the_isolation_as_the_module_does() -> None:
    assert inspect.signature(Unit.read_isolation).parameters.keys() - {"self"} == {"sysfs"}
    assert list(inspect.signature(isolation.read).parameters) == ["sysfs"]


RECONCILING = (
    "install",
    "start",
    "config_changed",
    "upgrade_charm",
    "update_status",
    "relation_created",
    "relation_changed",
)


@pytest.mark.parametrize("event", RECONCILING)
def test_event_installs_configures_and_connects_the_snap(event: str, unit: Unit) -> None:
    assert unit.status(event) == OK
    assert unit.workload.calls == ["install", "hold", *STEPS]
    assert unit.workload.source == FileSource(unit.bundled)
    assert unit.workload.plugs == [HYPERVISOR]
    assert unit.workload.isolated == [CpuSet.parse("2-3")]


@pytest.mark.parametrize("event", RECONCILING)
def test_event_does_not_install_an_installed_snap_again(event: str, settled: Unit) -> None:
    assert settled.status(event) == OK
    assert settled.workload.calls == ["hold", *STEPS]


@pytest.mark.parametrize("event", RECONCILING)
def test_event_retries_a_failed_install(event: str, unit: Unit) -> None:
    unit.workload.errors["install"] = CharmError("the store is on fire: pour water")
    assert unit.status(event) == testing.BlockedStatus("the store is on fire: pour water")
    unit.workload.errors.clear()
    assert unit.status(event) == OK


def test_broken_relation_blocks(settled: Unit) -> None:
    assert settled.status("relation_broken") == testing.BlockedStatus(NO_RELATION)


@pytest.mark.parametrize("event", ["stop", "leader_elected"])
def test_event_without_reconcile_keeps_the_status(event: str, settled: Unit) -> None:
    before = testing.BlockedStatus("as it was")
    after = settled.ctx.run(settled.event(event), settled.state(before))
    assert after.unit_status == before
    assert settled.workload.calls == []


def test_tracing_relations_change_nothing(unit: Unit) -> None:
    unit.relations += [
        testing.Relation("tracing", interface="tracing"),
        testing.Relation("receive-ca-cert", interface="certificate_transfer"),
    ]
    assert unit.status("install") == OK
    assert unit.workload.calls == ["install", "hold", *STEPS]


def test_workload_version_is_the_snaps_version(unit: Unit) -> None:
    assert unit.run("install").workload_version == "1.0.0"
    unit.workload.snap = info("x1", version="7.5")
    assert unit.run("update_status").workload_version == "7.5"


@pytest.mark.parametrize(
    ("event", "step"),
    [
        ("install", "install"),
        ("update_status", "hold"),
        ("update_status", "connect_host"),
        ("config_changed", "ensure_config"),
        ("update_status", "connect_consumers"),
        ("update_status", "check"),
    ],
)
@pytest.mark.parametrize("error", [snap.TimeoutError("slow"), snap.ConnectionError("gone")])
def test_temporary_error_is_waiting_until_the_next_event(event: str, step: str, error: snap.Error, unit: Unit) -> None:
    if event != "install":
        unit.run("install")
    unit.workload.errors[step] = error
    assert unit.status(event) == testing.WaitingStatus(f"snapd is busy or slow ({error}); the next event tries again")
    unit.workload.errors.clear()
    assert unit.status("update_status") == OK


def test_install_that_fails_for_now_is_waiting(unit: Unit) -> None:
    unit.workload.errors["install"] = TemporaryError("the store cannot be reached: fix the network")
    assert unit.status("install") == testing.WaitingStatus(
        "the store cannot be reached: fix the network; the next event tries again"
    )


@pytest.mark.parametrize("error", [snap.TimeoutError("slow"), snap.ConnectionError("gone")])
def test_temporary_error_fails_remove_so_that_juju_retries_it(error: snap.Error, settled: Unit) -> None:
    settled.workload.errors["remove"] = error
    with pytest.raises(testing.errors.UncaughtCharmError) as caught:
        settled.run("remove")
    assert caught.value.__cause__ is error


def test_remove_succeeds_where_snapd_is_not_installed(settled: Unit) -> None:
    settled.workload.errors["record"] = CharmError("snapd is not installed: run 'sudo apt install snapd'")
    settled.run("remove")
    assert warnings_of(settled) == [
        "the snap epa-orchestrator stays on the machine: snapd is not installed: run 'sudo apt install snapd'"
    ]


def test_answer_of_snapd_is_not_in_the_failure_of_an_action(settled: Unit) -> None:
    settled.workload.errors["installed"] = snap.BadResponseError("unreadable answer", response={"a": "x" * 99})
    assert settled.failure("get-status") == "unreadable answer"


def test_remove_removes_the_snap_without_a_warning(settled: Unit) -> None:
    before = testing.BlockedStatus("as it was")
    after = settled.ctx.run(settled.event("remove"), settled.state(before))
    assert settled.workload.calls == ["remove"]
    assert warnings_of(settled) == []
    assert after.unit_status == before


def test_remove_logs_why_the_snap_stays(settled: Unit) -> None:
    settled.workload.reason_to_stay = "CPUs or hugepages are still held by nova, ovs"
    settled.run("remove")
    assert warnings_of(settled) == [
        "the snap epa-orchestrator stays on the machine: CPUs or hugepages are still held by nova, ovs"
    ]
