# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The terms of a request: its wishes, the NUMA node of a device, and which devices a refusal names."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.allocation.allocate import Terms
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.terms import terms_of, with_remedy
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.placement.policy import NO_WISHES, Wishes
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.requests import AllocateCores
from tools.synthetic import Shape, build

SHAPE = Shape(packages=2, cores_per_l3=4, isolated="2-7")
HOST = Host(RecordedSysfs(build(SHAPE) | {"class/net/eth0/device/numa_node": "1"}), parse_settings({}))
UNKNOWN = "near=eth1: the network interface does not exist"


def request(**fields: Any) -> AllocateCores:
    asked = validate({"action": "allocate_cores", "service_name": "a", "num_of_cores": 2, **fields})
    assert isinstance(asked, AllocateCores)
    return asked


def terms(ledger: Ledger | None = None, **fields: Any) -> Terms:
    return terms_of(ledger or Ledger(), HOST, HOST.pools(), request(**fields))


def test_release_has_no_wishes() -> None:
    assert terms(num_of_cores=-1, near="eth1") == Terms("a")


def test_device_becomes_its_numa_node() -> None:
    assert terms(near="eth0").wishes == Wishes(near=1)


def test_unknown_device_is_named_without_a_search_for_others() -> None:
    assert terms(near="eth1") == Terms("a", None, NO_WISHES, 1, UNKNOWN)


def test_missing_device_keeps_the_node_of_the_claim() -> None:
    claim = Claim("a", "isolated", CpuSet([2, 3]), EMPTY, "legacy", wishes=Wishes(near=1))
    assert terms(Ledger.of([claim], {}), near="eth1").wishes.near == 1


def test_refusal_because_of_the_device_names_others() -> None:
    asked = request(near="eth1")
    refused = with_remedy(Refused(UNKNOWN, rule="not-found"), terms(near="eth1"), HOST, asked)
    assert str(refused) == f"{UNKNOWN}; this host has eth0; did you mean 'eth0'?"
    assert refused.rule == "not-found"


@pytest.mark.parametrize("near", ["eth0", "eth1"])
def test_other_refusal_stays_as_it_is(near: str) -> None:
    refused = Refused("Insufficient CPUs available", rule="insufficient")
    assert with_remedy(refused, terms(near=near), HOST, request(near=near)) is refused
