# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Actions: the results of those that succeed, and the sentence of those that fail."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from ops import testing

import orchestrator_snap
from daemon_health import Holdings
from epa_orchestrator.cpuset import CpuSet
from errors import CharmError
from isolation import Isolation
from tests.machines import made_up
from tools.synthetic import Shape

from .unit import (
    NO_ISOLATION,
    NO_RELATION,
    STEPS,
    TOPOLOGY,
    UNREADABLE,
    Unit,
    info,
    listing,
    memory,
)


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("list-allocations", {}),
        ("show-machine", {}),
        ("get-status", {}),
        ("release", {"service": "nova", "confirm": True}),
    ],
)
def test_action_keeps_the_status(action: str, params: dict[str, Any], settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2")], memory())
    before = testing.BlockedStatus("as it was")
    after = settled.ctx.run(settled.ctx.on.action(action, params=params), settled.state(before))
    assert after.unit_status == before
    assert settled.workload.calls == (["release"] if action == "release" else [])


def test_list_allocations_shows_pools_and_hugepages(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2"), listing("general", ceph="0-1")], memory(nova=2))
    text, document = settled.act("list-allocations")
    words = text.split()
    assert [word for word in ("isolated", "general", "nova", "ceph", "Hugepages", "node0") if word not in words] == []
    assert "nova: 2" in text
    assert document["pools"].keys() == {"isolated", "general"}
    assert [claim["allocated_cores"] for claim in document["pools"]["isolated"]["allocations"]] == ["2"]
    assert [claim["service_name"] for claim in document["pools"]["general"]["allocations"]] == ["ceph"]
    assert document["hugepages"] == {
        "node0": {"capacity": [{"total": 8, "free": 6, "size": 2048}], "allocations": {"nova": {"2048": 2}}}
    }


def test_list_allocations_fails_without_a_daemon(settled: Unit) -> None:
    settled.workload.errors["holdings"] = CharmError("the daemon does not answer: No daemon serves")
    assert settled.failure("list-allocations") == "the daemon does not answer: No daemon serves"


def test_show_machine_shows_nodes_cores_and_hugepages(settled: Unit) -> None:
    text, document = settled.act("show-machine")
    assert "4 of 4: 0-3" in text
    assert "8 x 2M (6 free)" in text
    assert (document["online"], document["isolated"]) == ("0-3", "2-3")
    assert document["nodes"][0]["hugepages"] == [{"size_kb": 2048, "total": 8, "free": 6}]
    assert document["remarks"] == []


@pytest.mark.parametrize(
    ("shape", "remark"),
    [
        (Shape(), NO_ISOLATION),
        (Shape(isolated="0-3"), "all CPUs are isolated: none is left for the kernel and for other processes"),
        (Shape(isolated="2-3", offline="3"), "CPU 3 is isolated but offline"),
    ],
)
def test_show_machine_remarks_on_the_isolation(shape: Shape, remark: str, settled: Unit) -> None:
    settled.host = Isolation(made_up(shape), container=False)
    text, document = settled.act("show-machine")
    assert remark in " ".join(text.split())
    assert document["remarks"] == [remark]


def test_show_machine_fails_on_an_unreadable_host(settled: Unit) -> None:
    settled.host = Isolation(None, container=False, unreadable="sysfs shows no CPUs")
    assert settled.failure("show-machine") == UNREADABLE


def test_release_reports_what_it_released(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2-3")], memory())
    text, document = settled.act("release", {"service": "nova", "confirm": True})
    assert text == "released CPUs 2-3 of pool isolated"
    assert document == {"service": "nova", "released": ["CPUs 2-3 of pool isolated"]}


@pytest.mark.parametrize("params", [{"service": "nova"}, {"service": "nova", "confirm": False}])
def test_release_requires_confirmation(params: dict[str, Any], settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2-3")], memory())
    assert settled.failure("release", params) == (
        "nothing was released: stop all that uses the CPUs of 'nova', then pass confirm=true"
    )
    assert settled.workload.calls == []


def test_release_fails_for_a_service_without_claims(settled: Unit) -> None:
    assert settled.failure("release", {"service": "nova", "confirm": True}) == (
        "the service 'nova' holds no CPUs or hugepages: see list-allocations"
    )


def test_release_fails_with_the_daemons_error(settled: Unit) -> None:
    settled.workload.errors["release"] = CharmError("released nothing, then failed: the disk is full")
    assert settled.failure("release", {"service": "nova", "confirm": True}) == (
        "released nothing, then failed: the disk is full"
    )


@pytest.mark.parametrize("service", ["", "x" * 256])
def test_release_fails_for_an_invalid_name(service: str, settled: Unit) -> None:
    assert "service" in settled.failure("release", {"service": service, "confirm": True})
    assert settled.workload.calls == []


def test_refresh_snap_refreshes_from_the_channel_and_reconnects(settled: Unit) -> None:
    settled.config = {"snap-channel": "latest/edge"}
    settled.run("config_changed")
    settled.workload.calls.clear()
    text, document = settled.act("refresh-snap")
    assert settled.workload.calls == ["install", "hold", *STEPS]
    assert text == "revision 2 before, 3 now, version 1.0.0"
    assert document == {"before": "2", "after": "3", "problems": []}


def test_refresh_snap_keeps_the_charms_own_snap(settled: Unit) -> None:
    text, document = settled.act("refresh-snap")
    assert settled.workload.calls == ["hold", *STEPS]
    assert text == "revision x1 before, x1 now, version 1.0.0"
    assert document == {"before": "x1", "after": "x1", "problems": []}


def test_refresh_snap_installs_a_missing_snap(unit: Unit) -> None:
    text, document = unit.act("refresh-snap")
    assert text == "revision none before, x1 now, version 1.0.0"
    assert document == {"before": "none", "after": "x1", "problems": []}


def test_refresh_snap_updates_the_status(settled: Unit) -> None:
    settled.relations.clear()
    after = settled.ctx.run(settled.ctx.on.action("refresh-snap"), settled.state())
    assert after.unit_status == testing.BlockedStatus(NO_RELATION)


def test_refresh_snap_fails_with_the_reason_and_blocks(settled: Unit) -> None:
    settled.config = {"snap-channel": "latest/edge"}
    settled.workload.errors["install"] = CharmError("the store cannot be reached: fix the network")
    with pytest.raises(testing.ActionFailed) as caught:
        settled.ctx.run(settled.ctx.on.action("refresh-snap"), settled.state())
    assert caught.value.message == "the store cannot be reached: fix the network"
    assert isinstance(caught.value.state, testing.State)
    assert caught.value.state.unit_status == testing.BlockedStatus("the store cannot be reached: fix the network")


def test_get_status_shows_snap_options_connections_and_health(settled: Unit) -> None:
    settled.workload.config = {"cpu-pool": "0", "resize-policy": "in-place"}
    settled.workload.found_warnings = ("cpu-pool names CPUs 9, which this machine does not have", "another")
    text, document = settled.act("get-status")
    assert document == {
        "health": "the daemon answers",
        "warnings": ["cpu-pool names CPUs 9, which this machine does not have", "another"],
        "version": "1.0.0",
        "revision": "x1",
        "channel": "none (installed from a file)",
        "held": True,
        "isolated-cpus": "2-3",
        "options": {"cpu-pool": "0", "resize-policy": "in-place"},
        "connections": {
            "epa-orchestrator:topology": ":system-files",
            "openstack-hypervisor:epa-info": "epa-orchestrator:epa-info",
        },
    }
    assert text.splitlines() == [
        "health: the daemon answers",
        "warnings: cpu-pool names CPUs 9, which this machine does not have; another",
        "version: 1.0.0",
        "revision: x1",
        "channel: none (installed from a file)",
        "held: True",
        "isolated-cpus: 2-3",
        "options: cpu-pool=0, resize-policy=in-place",
        "connections: epa-orchestrator:topology=:system-files, openstack-hypervisor:epa-info=epa-orchestrator:epa-info",
    ]
    assert settled.workload.isolated == [CpuSet.parse("2-3")]


def test_get_status_shows_problems(settled: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    settled.workload.snap = info("7", "latest/edge", held=False)
    settled.workload.errors["check"] = CharmError("the daemon does not answer: start it")
    settled.host = Isolation(made_up(Shape()), container=False)
    monkeypatch.setattr(orchestrator_snap, "connections", lambda: [TOPOLOGY._replace(slot=None)])
    _, document = settled.act("get-status")
    assert document["health"] == "the daemon does not answer: start it"
    assert (document["held"], document["channel"], document["isolated-cpus"]) == (False, "latest/edge", "none")
    assert document["connections"] == {"epa-orchestrator:topology": "not connected"}


def test_get_status_shows_no_channel_for_a_snap_from_a_file(settled: Unit) -> None:
    """snapd keeps the channel that an earlier revision came from."""
    settled.workload.snap = info("x1", "2026.1/stable", held=True)
    text, document = settled.act("get-status")
    assert document["channel"] == "none (installed from a file)"
    assert "warnings: none" in text.splitlines()


def test_get_status_fails_without_a_snap(unit: Unit) -> None:
    assert unit.failure("get-status") == "the snap is not installed: see 'juju debug-log'"


def check_juju_accepts(*texts: str) -> None:
    """Pass the texts to a program: Linux limits one argument to 128 KiB, and Juju's tools get texts as arguments."""
    subprocess.run(["true", *texts], check=True)


def many_claims() -> Holdings:
    return Holdings([listing(**{f"service-é{number}": str(number) for number in range(3000)})], memory())


def test_list_allocations_cuts_a_listing_that_is_too_long_for_juju(settled: Unit) -> None:
    settled.workload.held = many_claims()
    settled.ctx.run(settled.ctx.on.action("list-allocations"), settled.state())
    results = settled.ctx.action_results
    assert results is not None
    assert results.keys() == {"text"}
    check_juju_accepts(f"text={results['text']}")
    assert "sudo epa-orchestrator list --json" in results["text"]
    assert "service-é100 " in results["text"]


def test_list_allocations_keeps_a_long_document_that_juju_accepts(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(**{f"s{number}": str(number) for number in range(500)})], memory())
    _, document = settled.act("list-allocations")
    assert len(document["pools"]["isolated"]["allocations"]) == 500


def test_overlong_error_of_the_daemon_is_cut(settled: Unit) -> None:
    settled.workload.errors["holdings"] = CharmError("é" * 200_000)
    settled.workload.errors["check"] = CharmError("é" * 200_000)
    check_juju_accepts(settled.failure("list-allocations"))
    status = settled.run("update_status").unit_status
    assert isinstance(status, testing.BlockedStatus)
    check_juju_accepts(status.message)
