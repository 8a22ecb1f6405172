# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The machine as JSON: the same as `describe` makes it, encoded in parts, with the hugepages of the moment."""

from __future__ import annotations

import json

import pytest

from epa_orchestrator.daemon.encoded_machine import EncodedMachine
from epa_orchestrator.hardware.describe import describe
from epa_orchestrator.hardware.hugepages import Hugepages
from tests.machines import SYNTHETIC, synthetic


@pytest.mark.parametrize("name", SYNTHETIC)
def test_machine_is_encoded_as_it_is_described(name: str) -> None:
    machine = synthetic(name)
    pages = {node_id: (Hugepages(2048, 10 + node_id, 3),) for node_id in machine.node_ids}
    encoded = EncodedMachine()
    assert encoded.use(machine)
    assert json.loads(encoded.with_pages(pages)) == describe(machine, pages)


def test_cores_are_written_some_at_a_time() -> None:
    machine = synthetic("epyc-nps4")
    encoded = EncodedMachine()
    steps = [encoded.use(machine, 100) for _ in range(4)]
    assert len(machine.cores) == 192
    assert steps == [False, False, True, True]


def test_another_machine_replaces_the_first() -> None:
    encoded = EncodedMachine()
    for name in ("two-cpus", "ryzen"):
        machine = synthetic(name)
        pages: dict[int, tuple[Hugepages, ...]] = dict.fromkeys(machine.node_ids, ())
        assert encoded.use(machine)
        assert json.loads(encoded.with_pages(pages)) == describe(machine, pages)


def test_hugepages_are_those_of_the_moment() -> None:
    machine = synthetic("two-cpus")
    encoded = EncodedMachine()
    encoded.use(machine)
    for free in (7, 0):
        (node,) = json.loads(encoded.with_pages({0: (Hugepages(2048, 7, free),)}))["nodes"]
        assert node["hugepages"] == [{"size_kb": 2048, "total": 7, "free": free}]
