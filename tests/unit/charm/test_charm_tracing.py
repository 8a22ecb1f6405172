# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The endpoints tracing and receive-ca-cert decide where the charm's traces go, and change nothing else."""

from __future__ import annotations

import dataclasses
import json

import ops
import pytest
from ops import testing

from .unit import Unit

# The libraries inside ops-tracing use old names of pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
CA = testing.Relation(
    "receive-ca-cert",
    interface="certificate_transfer",
    remote_app_name="self-signed-certificates",
    remote_app_data={"certificates": json.dumps([CERTIFICATE]), "version": "1"},
)

Destinations = list[tuple[str | None, str | None]]


@pytest.fixture
def destinations(monkeypatch: pytest.MonkeyPatch) -> Destinations:
    """The URL and the certificates of each destination of traces that the charm sets."""
    found: Destinations = []

    def set_destination(url: str | None, ca: str | None) -> None:
        found.append((url, ca))

    monkeypatch.setattr(ops.tracing, "set_destination", set_destination)
    return found


def backend(url: str) -> testing.Relation:
    """The relation to a backend that receives traces there."""
    receivers = [{"protocol": {"name": "otlp_http", "type": "http"}, "url": url}]
    data = {"receivers": json.dumps(receivers)}
    return testing.Relation("tracing", interface="tracing", remote_app_name="tempo", remote_app_data=data)


def change(unit: Unit, relation: testing.RelationBase, event: str = "relation_changed") -> testing.State:
    """Juju's state after an event of the relation, in the unit that is the leader."""
    before = dataclasses.replace(unit.state(testing.BlockedStatus("as it was")), leader=True)
    return unit.ctx.run(getattr(unit.ctx.on, event)(relation), before)


def test_leader_asks_for_the_protocol(settled: Unit) -> None:
    relation = testing.Relation("tracing", interface="tracing")
    settled.relations.append(relation)
    state = change(settled, relation, "relation_created")
    assert state.get_relation(relation.id).local_app_data == {"receivers": '["otlp_http"]'}


def test_traces_go_to_the_backend(settled: Unit, destinations: Destinations) -> None:
    settled.relations.append(backend("http://10.0.0.7:4318"))
    state = change(settled, settled.relations[-1])
    assert destinations == [("http://10.0.0.7:4318/v1/traces", None)]
    assert state.unit_status == testing.BlockedStatus("as it was")
    assert settled.workload.calls == []


def test_encrypted_backend_is_trusted_by_the_received_certificate(settled: Unit, destinations: Destinations) -> None:
    settled.relations += [backend("https://tempo.test:4318"), CA]
    state = change(settled, CA)
    assert destinations == [("https://tempo.test:4318/v1/traces", CERTIFICATE)]
    assert state.unit_status == testing.BlockedStatus("as it was")
    assert settled.workload.calls == []


def test_encrypted_backend_without_a_certificate_gets_nothing(settled: Unit, destinations: Destinations) -> None:
    settled.relations.append(backend("https://tempo.test:4318"))
    change(settled, settled.relations[-1])
    assert destinations == [(None, None)]


@pytest.mark.parametrize("removed", [0, 1])
def test_removed_relation_ends_the_traces(removed: int, settled: Unit, destinations: Destinations) -> None:
    relations = [backend("https://tempo.test:4318"), CA]
    settled.relations += relations
    change(settled, relations[removed], "relation_broken")
    assert destinations == [(None, None)]
