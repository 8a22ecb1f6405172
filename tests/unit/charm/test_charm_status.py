# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The unit's status names the most important problem and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from ops import testing

from daemon_health import Holdings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.machine import Machine
from errors import CharmError
from isolation import Isolation
from tests.machines import made_up
from tools.synthetic import Shape

from .unit import (
    CONTAINER,
    NO_ISOLATION,
    NO_ISOLATION_IN_CONTAINER,
    NO_RELATION,
    OK,
    SHAPE,
    STEPS,
    UNREADABLE,
    Unit,
    listing,
    memory,
)


def test_failed_first_install_ends_the_reconcile(unit: Unit) -> None:
    unit.workload.errors["install"] = CharmError("the base snap core24 is not installed: install it")
    after = unit.run("install")
    assert after.unit_status == testing.BlockedStatus("the base snap core24 is not installed: install it")
    assert unit.workload.calls == ["install", "hold"]
    assert unit.workload.isolated == []
    assert after.workload_version == ""


def test_failed_replacement_blocks_and_keeps_the_old_snap_working(settled: Unit) -> None:
    settled.config = {"snap-channel": "latest/edge"}
    settled.workload.errors["install"] = CharmError("the store cannot be reached: fix the network")
    after = settled.run()
    assert after.unit_status == testing.BlockedStatus("the store cannot be reached: fix the network")
    assert after.workload_version == "1.0.0"
    assert settled.workload.calls == ["install", "hold", *STEPS]


def test_refused_options_block_and_do_not_stop_connecting(settled: Unit) -> None:
    settled.workload.errors["ensure_config"] = CharmError("reserved-cpus=2 would take CPUs from nova: release them")
    settled.config = {"reserved-cpus": "2"}
    blocked = testing.BlockedStatus("reserved-cpus=2 would take CPUs from nova: release them")
    assert settled.status() == blocked
    assert settled.workload.calls == ["hold", *STEPS]
    assert settled.workload.config == {}


@pytest.mark.parametrize("step", ["hold", "connect_host", "connect_consumers"])
def test_failed_step_blocks_and_does_not_stop_later_steps(step: str, settled: Unit) -> None:
    settled.workload.errors[step] = CharmError("failed to connect a:b: correct connect-plugs")
    assert settled.status() == testing.BlockedStatus("failed to connect a:b: correct connect-plugs")
    assert settled.workload.calls == ["hold", *STEPS]
    assert settled.workload.isolated == [], "the daemon is not asked while something is known to be wrong"


def test_first_of_several_problems_is_shown_and_all_are_logged(settled: Unit) -> None:
    settled.workload.errors |= {step: CharmError(f"{step} failed: fix it") for step in STEPS}
    assert settled.status() == testing.BlockedStatus("connect_host failed: fix it")
    logged = [line.message for line in settled.ctx.juju_log if line.level == "ERROR"]
    assert logged == [f"{step} failed: fix it" for step in STEPS]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"numa-policy": "sideways"},
            "numa-policy='sideways' is not valid: set it to 'best-effort', 'none', 'restricted' or 'single-numa-node'",
        ),
        ({"log-level": "loud"}, "log-level='loud' is not valid: set it to 'debug', 'info', 'warning' or 'error'"),
        (
            {"default-allocation-percent": 101},
            "default-allocation-percent='101' is not valid: input should be less than or equal to 100",
        ),
        (
            {"reserved-hugepages": "0:2048"},
            "reserved-hugepages='0:2048' is not valid: '0:2048' is not node:size:count, such as 0:2M:16",
        ),
        (
            {"connect-plugs": "nova"},
            "connect-plugs='nova' is not valid: 'nova' is not snap:plug; separate such pairs by commas",
        ),
        (
            {"snap-channel": "!"},
            "snap-channel='!' is not valid: give a channel such as latest/stable, or reset it to use the charm's snap",
        ),
        ({"snap-revision": 3}, "snap-revision=3 needs a snap-channel: set both, or reset snap-revision"),
        (
            {"cpu-thread-policy": "require", "cpu-distribution": "cores"},
            "cpu-thread-policy=require contradicts cpu-distribution=cores: change one of the two",
        ),
    ],
)
def test_invalid_option_blocks_and_stops_neither_hold_nor_connections(
    config: dict[str, Any], message: str, settled: Unit
) -> None:
    settled.config = config
    before = settled.workload.source
    assert settled.status() == testing.BlockedStatus(message)
    assert set(settled.workload.calls) >= {"hold", "connect_host", "connect_consumers"}
    assert settled.workload.source == before


@pytest.mark.parametrize("config", [{"numa-policy": "sideways"}, {"reserved-cpus": "x", "cpu-pool": "0"}])
def test_invalid_daemon_option_keeps_all_options_as_they_are(config: dict[str, Any], settled: Unit) -> None:
    settled.config = config
    settled.run()
    assert "ensure_config" not in settled.workload.calls


def test_other_snap_name_blocks(settled: Unit) -> None:
    settled.config = {"snap-name": "epa-orchestrator-next"}
    assert settled.status() == testing.BlockedStatus(
        "snap-name='epa-orchestrator-next' is not valid: the snap is always epa-orchestrator: reset this option"
    )


def test_corrected_option_unblocks(settled: Unit) -> None:
    settled.config = {"numa-policy": "sideways"}
    settled.run()
    settled.config = {"numa-policy": "restricted"}
    assert settled.status() == OK
    assert settled.workload.config["numa-policy"] == "restricted"


def test_only_options_of_the_daemon_that_were_changed_are_passed_on(settled: Unit) -> None:
    settled.config = {"snap-channel": "edge", "cpu-pool": "0", "allowed-gids": "64060", "log-level": "info"}
    settled.run()
    assert settled.workload.config == {"cpu-pool": "0", "allowed-gids": "64060"}


def test_configured_plugs_are_connected(settled: Unit) -> None:
    settled.config = {"connect-plugs": "a:epa-info, b_2:cpus"}
    assert settled.status() == OK
    assert settled.workload.plugs == [("a", "epa-info"), ("b_2", "cpus")]


def test_missing_relation_blocks(settled: Unit) -> None:
    settled.relations.clear()
    assert settled.status() == testing.BlockedStatus(NO_RELATION)


def test_failed_install_is_shown_before_a_missing_relation(unit: Unit) -> None:
    unit.relations.clear()
    unit.workload.errors["install"] = CharmError("no snap: attach one")
    assert unit.status() == testing.BlockedStatus("no snap: attach one")


@pytest.mark.parametrize(
    "problem",
    [
        "the daemon does not answer (refused): see 'snap logs epa-orchestrator'",
        "the daemon answers read requests only: the state database is empty",
        "the daemon does not see the isolated CPUs 2-3: run 'sudo snap connect epa-orchestrator:topology'",
    ],
)
def test_daemon_problem_blocks(problem: str, settled: Unit) -> None:
    settled.workload.errors["check"] = CharmError(problem)
    assert settled.status("update_status") == testing.BlockedStatus(problem)
    assert settled.workload.calls == ["hold", *STEPS]


NONE_ISOLATED = made_up(Shape())


@pytest.mark.parametrize(
    ("machine", "container", "message"),
    [
        (NONE_ISOLATED, False, NO_ISOLATION),
        (NONE_ISOLATED, True, NO_ISOLATION_IN_CONTAINER),
    ],
)
@pytest.mark.parametrize("required", [False, True])
def test_missing_isolation_is_shown_and_blocks_only_if_required(
    machine: Machine, container: bool, message: str, required: bool, settled: Unit
) -> None:
    settled.host = Isolation(machine, container)
    settled.config = {"require-isolated-cpus": required}
    active = f"{message}; {CONTAINER}" if container else message
    expected = testing.BlockedStatus(message) if required else testing.ActiveStatus(active)
    assert settled.status() == expected
    assert settled.workload.isolated == [CpuSet()]


def test_unreadable_host_blocks(settled: Unit) -> None:
    settled.host = Isolation(None, container=False, unreadable="sysfs shows no CPUs")
    assert settled.status() == testing.BlockedStatus(UNREADABLE)


def test_container_is_active_and_its_limits_are_shown(settled: Unit) -> None:
    settled.host = Isolation(made_up(SHAPE), container=True)
    settled.config = {"require-isolated-cpus": True}
    assert settled.status() == testing.ActiveStatus(CONTAINER)


def test_daemon_problem_is_shown_before_a_host_problem(settled: Unit) -> None:
    settled.host = Isolation(NONE_ISOLATED, container=False)
    settled.config = {"require-isolated-cpus": True}
    settled.workload.errors["check"] = CharmError("the daemon does not answer: start it")
    assert settled.status() == testing.BlockedStatus("the daemon does not answer: start it")


def test_usage_is_shown_when_nothing_is_wrong(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2"), listing("general", ceph="0", nova="1")], memory())
    assert settled.status() == testing.ActiveStatus("1 of 4 CPUs free, 2 services")


def test_one_service_is_singular(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2")], memory())
    assert settled.status() == testing.ActiveStatus("1 of 2 CPUs free, 1 service")


def test_status_is_empty_without_claims(settled: Unit) -> None:
    settled.workload.held = Holdings([listing()], memory(nova=2))
    assert settled.status() == testing.ActiveStatus("")


def test_broken_isolation_is_shown_and_blocks_nothing(settled: Unit) -> None:
    settled.broken = "isolation is broken: A3 (x); run the action audit-isolation"
    settled.workload.held = Holdings([listing(nova="2")], memory())
    assert settled.status() == testing.ActiveStatus(settled.broken)


def test_host_without_isolated_cpus_or_in_a_container_is_not_audited(settled: Unit) -> None:
    settled.broken = "isolation is broken"
    settled.host = Isolation(settled.host.machine, container=True)
    assert settled.status() == testing.ActiveStatus(CONTAINER)
    settled.host = Isolation(made_up(Shape(cores_per_l3=4)), container=False)
    assert settled.status() == testing.ActiveStatus(NO_ISOLATION)


def test_remark_is_shown_instead_of_the_usage(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2")], memory())
    settled.host = Isolation(made_up(SHAPE), container=True)
    assert settled.status() == testing.ActiveStatus(CONTAINER)


def test_listing_that_fails_leaves_the_status_empty(settled: Unit) -> None:
    settled.workload.errors["holdings"] = CharmError("the daemon does not answer")
    assert settled.status() == testing.ActiveStatus("")


def test_usage_is_no_problem_of_a_refresh(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2")], memory())
    _, document = settled.act("refresh-snap")
    assert document["problems"] == []
