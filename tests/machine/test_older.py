# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""From the older snap to ours, back to the older one, and to ours again: with the real snapd and the packed charm.

The tests run in order: each continues from the machine as the test before left it.
"""

from __future__ import annotations

import json
from typing import Any

from tests.machine.host import (
    CONSUMER,
    CONSUMER_APP,
    SNAP,
    active,
    ask,
    claims,
    connection,
    from_inside,
    purge,
    snap_row,
)
from tests.machine.machine import Machine
from tests.machine.unit import Unit

PLUG = "sys-devices-system-node"


def state(machine: Machine) -> dict[str, Any]:
    """The CPUs of each service in the older daemon's state."""
    content = machine.get(f"/var/snap/{SNAP}/current/data/state.json")
    return json.loads(content)["allocations_db"]["allocations"]


def test_older_daemon_grants_cpus(machine: Machine) -> None:
    for name in (SNAP, CONSUMER):
        purge(machine, name)
    for name in ("older", "consumer"):
        machine.run("snap", "install", "--dangerous", f"/job/{name}.snap", timeout=900)
    machine.run("snap", "connect", f"{SNAP}:{PLUG}", timeout=600)
    machine.run("snap", "connect", f"{CONSUMER}:epa-info", f"{SNAP}:epa-info", timeout=600)
    assert from_inside(machine, "claim", "hypervisor", "4") == ["4-7"]
    assert state(machine) == {"hypervisor": "4,5,6,7"}


def test_older_daemon_gets_no_request_that_it_would_misread(machine: Machine) -> None:
    refused = machine.run(f"/snap/bin/{CONSUMER}.{CONSUMER_APP}", "claim", "ovs", "2", "--dry-run", check=False)
    assert refused.rc == 1
    assert "lacks the feature dry-run, and would ignore dry_run: install a newer one" in refused.err
    assert state(machine) == {"hypervisor": "4,5,6,7"}


def test_charm_upgrade_ends_active_with_our_snap(machine: Machine, unit: Unit) -> None:
    outcome = unit.hook("upgrade-charm")
    assert outcome.status == active(machine)
    assert outcome.version == snap_row(machine)[1]
    assert "held" in snap_row(machine)[-1]


def test_claims_of_the_older_daemon_are_kept(machine: Machine) -> None:
    assert claims(machine) == {"hypervisor": "4-7"}


def test_connection_of_the_older_plug_survives(machine: Machine) -> None:
    assert connection(machine, f"{SNAP}:{PLUG}") == ":system-files"
    changes = machine.run("snap", "changes", SNAP).out
    _, later = changes.rsplit('from file "/job/charm/', 1)
    assert "Connect " in later, "the charm connects what is missing"
    assert PLUG not in later


def test_consumer_of_the_older_daemon_reaches_ours(machine: Machine) -> None:
    assert from_inside(machine, "claim", "ovs", "2", "--near", "1") == ["12-13"]
    assert claims(machine) == {"hypervisor": "4-7", "ovs": "12-13"}


def test_reverted_daemon_grants_cpus_twice(machine: Machine) -> None:
    machine.run("snap", "revert", SNAP, timeout=900)
    assert snap_row(machine)[1] == "1.0"
    answer = ask(machine, action="allocate_cores", service_name="ceph-osd", num_of_cores=2)
    assert answer["allocated_cores"] == "12,13"
    assert state(machine) == {"hypervisor": "4,5,6,7", "ceph-osd": "12,13"}


def test_charm_brings_ours_back_and_asks_which_claims_count(machine: Machine, unit: Unit) -> None:
    outcome = unit.hook("update-status")
    status, sentence = outcome.status
    assert status == "blocked"
    assert "settle-claims keep=ours" in sentence
    assert "settle-claims keep=older" in sentence
    assert outcome.version != "1.0"


def test_database_counts_after_the_older_daemon_ran(machine: Machine) -> None:
    assert claims(machine) == {"hypervisor": "4-7", "ovs": "12-13"}


def test_status_warns_about_the_newer_state(machine: Machine) -> None:
    warnings = ask(machine, action="list_allocations")["warnings"]
    assert any("state.json was written after this daemon took over" in warning for warning in warnings)
    shown = machine.run(f"/snap/bin/{SNAP}", "status", timeout=600).out
    assert "state.json" in shown.replace("\n", "")


def test_older_claims_replace_ours_when_chosen(machine: Machine, unit: Unit) -> None:
    outcome = unit.action("settle-claims", keep="older")
    assert outcome.failure is None
    assert claims(machine) == {"hypervisor": "4-7", "ceph-osd": "12-13"}
    assert unit.hook("update-status").status == active(machine)


def test_consumer_reaches_ours_again(machine: Machine) -> None:
    assert from_inside(machine, "list") == ["ceph-osd 12-13", "hypervisor 4-7"]
