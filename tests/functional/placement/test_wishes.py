# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Wishes: placement options that a request sets for itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest

from tests.functional.harness import Daemon, Json
from tools.synthetic import Shape

from .asking import CACHES_REFUSE, NUMA_REFUSES, THREADS_REFUSE, Request, ask, begin, cores, numa, outcome, percent
from .hosts import CACHES, CLUSTERS, CORES, EIGHT, NODES, write


class Wish(NamedTuple):
    """A request with a wish, while services hold CPUs under the operator's settings, and its outcome."""

    shape: Shape
    held: dict[str, str]
    operator: Json
    request: Request
    expected: str


WISHES: Final = [
    Wish(CLUSTERS, {"other": "0"}, {}, cores(4, numa_policy="none"), "1-4"),
    Wish(CLUSTERS, {"other": "0"}, {}, cores(4, numa_policy=None), "4-7"),
    Wish(CLUSTERS, {"other": "0"}, {"numa-policy": "none"}, cores(4, numa_policy="best-effort"), "4-7"),
    Wish(CLUSTERS, {"other": "0"}, {}, cores(5, numa_policy="restricted"), "1-5"),
    Wish(CLUSTERS, {"other": "0"}, {}, cores(5, numa_policy="single-numa-node"), NUMA_REFUSES),
    Wish(CLUSTERS, {"other": "0,4"}, {}, cores(4, numa_policy="restricted"), NUMA_REFUSES),
    Wish(CACHES, {"other": "0"}, {}, cores(4, uncore_cache_alignment="none"), "1-4"),
    Wish(CACHES, {"other": "0"}, {"uncore-cache-alignment": "none"}, cores(4, uncore_cache_alignment="prefer"), "4-7"),
    Wish(CACHES, {"other": "0,4"}, {}, cores(4, uncore_cache_alignment="require"), CACHES_REFUSE),
    Wish(CORES, {"other": "0"}, {}, cores(1, cpu_thread_policy="share"), "4"),
    Wish(CORES, {"other": "0"}, {}, cores(1, cpu_thread_policy="isolate"), "1 + 5"),
    Wish(CORES, {"other": "0"}, {}, numa(0, 2, cpu_thread_policy="isolate"), "1-2 + 5-6"),
    Wish(CORES, {"other": "0"}, {}, percent(13, cpu_thread_policy="share"), "1,4"),
    Wish(CORES, {"other": "0"}, {}, cores(3, cpu_thread_policy="require"), THREADS_REFUSE),
    # A request may be stricter than the operator's settings, never less strict.
    Wish(CORES, {}, {"cpu-thread-policy": "require"}, cores(1, cpu_thread_policy="prefer"), THREADS_REFUSE),
    Wish(CORES, {}, {"cpu-thread-policy": "require"}, cores(1, cpu_thread_policy="share"), THREADS_REFUSE),
    Wish(CORES, {}, {"cpu-thread-policy": "isolate"}, cores(2, cpu_thread_policy="share"), "0-1 + 4-5"),
    Wish(CORES, {}, {"cpu-thread-policy": "isolate"}, cores(2, cpu_thread_policy="require"), "0-1 + 4-5"),
    Wish(CLUSTERS, {}, {"numa-policy": "single-numa-node"}, cores(5, numa_policy="none"), NUMA_REFUSES),
    Wish(CLUSTERS, {}, {"numa-policy": "single-numa-node"}, cores(5, numa_policy="restricted"), NUMA_REFUSES),
    Wish(CLUSTERS, {}, {"numa-policy": "restricted"}, cores(5, numa_policy="single-numa-node"), NUMA_REFUSES),
    Wish(CLUSTERS, {"other": "0,4"}, {"numa-policy": "restricted"}, cores(4, numa_policy="best-effort"), NUMA_REFUSES),
    Wish(CACHES, {"other": "0,4"}, {"uncore-cache-alignment": "require"}, cores(4, uncore_cache_alignment="none"),
         CACHES_REFUSE),
    # A wish that contradicts the operator's value of another option.
    Wish(CORES, {}, {"cpu-distribution": "cores"}, cores(2, cpu_thread_policy="require"), THREADS_REFUSE),
    Wish(CACHES, {}, {"cpu-distribution": "caches"}, cores(2, uncore_cache_alignment="require"), CACHES_REFUSE),
    # Near a node.
    Wish(EIGHT, {}, {}, cores(2), "0,8"),
    Wish(EIGHT, {}, {}, cores(2, near=None), "0,8"),
    Wish(EIGHT, {}, {}, cores(2, near=1), "4,12"),
    Wish(EIGHT, {}, {}, percent(10, near=1), "4,12"),
    Wish(EIGHT, {"other": "4-7,12-15"}, {}, cores(2, near=1), "0,8"),
    Wish(NODES, {}, {"numa-policy": "none"}, cores(2, near=1), "4-5"),
]  # fmt: skip


@pytest.mark.parametrize("shape", [CLUSTERS, CACHES, CORES, EIGHT, NODES], ids=range(5))
def test_wishes_change_the_placement(shape: Shape) -> None:
    with Daemon(shape) as daemon:
        daemon.start()
        wishes = [wish for wish in WISHES if wish.shape is shape]
        assert wishes
        for wish in wishes:
            daemon.reload({})
            begin(daemon, wish.held)
            daemon.reload(wish.operator)
            assert outcome(ask(daemon, wish.request, dry_run=True)) == wish.expected, wish
            assert outcome(ask(daemon, wish.request)) == wish.expected, wish


@pytest.mark.parametrize("field", ["numa_policy", "cpu_thread_policy", "uncore_cache_alignment", "near"])
@pytest.mark.parametrize("value", ["", "Prefer", "../../etc", "a b", -1, 2**31, 1.0, True, [], {}, "x" * 65, "bést"])
def test_refuses_unknown_wishes(daemon: Daemon, field: str, value: Any) -> None:
    if field == "near" and value == "Prefer":
        value = "."
    daemon.cores("svc", 2)
    for action, fields in (cores(3), percent(30), numa(0, 3), cores(-1)):
        assert field in daemon.refused(action, service_name="svc", **fields, **{field: value})


@pytest.fixture
def devices(daemon: Daemon) -> Iterator[Daemon]:
    """A daemon on a host with devices."""
    write(daemon, "bus/pci/devices/0000:3b:00.0/numa_node", "1")
    write(daemon, "bus/pci/devices/0001:af:00.1/numa_node", "0")
    write(daemon, "class/net/ens1f0np0/device/numa_node", "1")
    write(daemon, "class/net/br-ex/ifindex", "3")
    write(daemon, "class/net/virt0/device/numa_node", "-1")
    write(daemon, "bus/pci/devices/0000:00:01.0/numa_node", "-1")
    yield daemon
    for path in ("bus", "class"):
        shutil.rmtree(daemon.host.root / path, ignore_errors=True)


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ("0000:3b:00.0", "4,12"), ("3b:00.0", "4,12"), ("0000:3B:00.0", "4,12"), ("0001:af:00.1", "0,8"),
        ("ens1f0np0", "4,12"), (0, "0,8"), (1, "4,12"),
    ],
)  # fmt: skip
def test_near_a_device_chooses_its_node(devices: Daemon, near: str | int, expected: str) -> None:
    assert outcome(ask(devices, cores(2, near=near))) == expected


@pytest.mark.parametrize(
    ("near", "reason"),
    [
        ("0000:3c:00.0", "no PCI device 0000:3c:00.0"), ("af:00.1", "no PCI device 0000:af:00.1"),
        ("eth9", "does not exist"), ("br-ex", "physical"), ("virt0", "name the node"),
        ("0000:00:01.0", "name the node"), (2, "NUMA node 2 does not exist"),
    ],
)  # fmt: skip
def test_refuses_to_be_near_an_unknown_place(devices: Daemon, near: str | int, reason: str) -> None:
    for action, fields in (cores(2), percent(20)):
        sentence = devices.refused(action, service_name="svc", near=near, **fields)
        assert f"near={near}" in sentence
        assert reason in sentence


def test_numa_refuses_near(daemon: Daemon) -> None:
    assert "near" in daemon.refused("allocate_numa_cores", service_name="svc", numa_node=0, num_of_cores=1, near=0)


def test_claim_near_a_device_outlives_the_device(devices: Daemon) -> None:
    assert outcome(ask(devices, cores(2, near="ens1f0np0"))) == "4,12"
    for path in ("bus", "class"):
        shutil.rmtree(devices.host.root / path)
    assert outcome(ask(devices, cores(2))) == "4,12"


def test_device_without_node_is_near_the_only_node() -> None:
    with Daemon(CACHES) as daemon:
        daemon.start()
        write(daemon, "class/net/eth0/device/numa_node", "-1")
        assert outcome(ask(daemon, cores(2, near="eth0"))) == "0-1"
