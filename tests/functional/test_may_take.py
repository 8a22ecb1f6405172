# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`may_take`: a request takes no other CPUs from other services than it names."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import Daemon, Json, format_cpus

#: Takes two CPUs of node 0 from services there: they hold all of it.
REQUEST: Json = {"service_name": "ovs", "numa_node": 0, "num_of_cores": 2}


@pytest.fixture
def full(daemon: Daemon) -> Daemon:
    """The daemon, whose CPUs in node 0 are all held, by nova."""
    count = len(daemon.host.isolated_in(0))
    daemon.hold("nova", format_cpus(daemon.host.isolated_in(0)))
    assert len(daemon.claims()["nova"]) == count
    return daemon


def taken_by_dry_run(daemon: Daemon, **fields: Any) -> Json:
    return daemon.ok("allocate_numa_cores", **REQUEST, dry_run=True, **fields)["taken"]


def test_request_takes_what_a_dry_run_took(full: Daemon) -> None:
    taken = taken_by_dry_run(full)
    assert full.ok("allocate_numa_cores", **REQUEST, may_take=taken)["taken"] == taken
    assert format_cpus(full.claims()["ovs"]) == taken["nova"]


def test_request_without_the_field_takes_what_the_rules_allow(full: Daemon) -> None:
    for fields in ({}, {"may_take": None}):
        assert taken_by_dry_run(full, **fields).keys() == {"nova"}


@pytest.mark.parametrize("dry_run", [False, True])
def test_request_that_may_take_nothing_is_refused(dry_run: bool, full: Daemon) -> None:
    taken = taken_by_dry_run(full)["nova"]
    assert full.refused("allocate_numa_cores", **REQUEST, may_take={}, dry_run=dry_run) == (
        f"The request would take CPUs {taken} from 'nova', which its may_take does not allow: repeat it with what a dry"
        " run takes now, or without may_take"
    )


@pytest.mark.parametrize(
    "may_take", [{"nova": ""}, {"nova": "0"}, {"other": "1-2"}, {"Nova": "1-2"}, {"nova": "0-99x"}]
)
def test_request_that_would_take_others_is_refused(may_take: Json, full: Daemon) -> None:
    assert "which its may_take does not allow" in full.refused("allocate_numa_cores", **REQUEST, may_take=may_take)


def test_request_may_take_less_than_it_names(full: Daemon) -> None:
    taken = taken_by_dry_run(full)
    full.ok("allocate_numa_cores", **REQUEST, may_take=taken | {"ceph": "40-41"})


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("allocate_cores", {"num_of_cores": 2}),
        ("allocate_cores_percent", {"percent": 10}),
        ("allocate_numa_cores", {"num_of_cores": 2, "numa_node": 1}),
        ("allocate_cores", {"num_of_cores": -1}),
    ],
)
def test_request_that_takes_nothing_is_granted(action: str, fields: Json, full: Daemon) -> None:
    assert "taken" not in full.ok(action, service_name="ovs", may_take={}, **fields)


@pytest.mark.parametrize("value", [True, "nova", ["nova"], {"nova": 1}, {"nova": None}, {"nova": ["1"]}])
def test_value_of_another_type_is_an_error(value: object, full: Daemon) -> None:
    assert full.refused("allocate_numa_cores", **REQUEST, may_take=value).startswith("Field 'may_take' must be ")
