# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`cpu-thread-policy=isolate`: withheld siblings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import pytest

from tests.functional.harness import Daemon, parse_cpus

from .asking import THREADS_REFUSE, ask, begin, cores, numa, outcome
from .hosts import EIGHT


@pytest.fixture
def isolating() -> Iterator[Daemon]:
    """A daemon that lets service `svc` have three cores to itself."""
    with Daemon(EIGHT, {"cpu-thread-policy": "isolate"}) as daemon:
        daemon.start()
        assert outcome(ask(daemon, cores(3))) == "0-2 + 8-10"
        yield daemon


def test_answer_counts_withheld_siblings_as_taken() -> None:
    with Daemon(EIGHT, {"cpu-thread-policy": "isolate"}) as daemon:
        daemon.start()
        answer = ask(daemon, cores(3))
        assert answer["shared_cpus"] == "3-7,11-15"
        assert (answer["total_available_cpus"], answer["remaining_available_cpus"]) == (16, 10)


def check_withheld(daemon: Daemon) -> None:
    """Check that the listing shows the claim and its withheld siblings."""
    entry, listing = daemon.entry("svc"), daemon.ok("list_allocations")
    assert (entry["allocated_cores"], entry["withheld_cpus"], entry["cores_count"]) == ("0-2", "8-10", 3)
    assert listing["total_allocated_cpus"] == 3
    assert listing["remaining_available_cpus"] == 10
    assert daemon.claims() == {"svc": {0, 1, 2}}


def test_listing_shows_withheld_siblings(isolating: Daemon) -> None:
    check_withheld(isolating)


def test_kill_keeps_siblings_withheld(isolating: Daemon) -> None:
    isolating.kill()
    isolating.start()
    check_withheld(isolating)


def test_changed_thread_policy_keeps_siblings_withheld(isolating: Daemon) -> None:
    isolating.reload({"cpu-thread-policy": "prefer"})
    check_withheld(isolating)
    assert outcome(ask(isolating, cores(3))) == "0-2 + 8-10"


def test_withheld_siblings_are_never_granted(isolating: Daemon) -> None:
    isolating.reload({"cpu-thread-policy": "share"})
    assert isolating.refused("allocate_cores", service_name="other", num_of_cores=11) == (
        "Insufficient CPUs available. Requested: 11, Available: 10"
    )
    assert outcome(ask(isolating, cores(10, service_name="other"))) == "3-7,11-15"
    assert isolating.ok("list_allocations")["remaining_available_cpus"] == 0


def test_withheld_siblings_are_never_reclaimed(isolating: Daemon) -> None:
    isolating.reload({"cpu-thread-policy": "share"})
    assert "CPUs 8-10 are held by other services" in isolating.refused(
        "allocate_numa_cores", service_name="taker", numa_node=0, num_of_cores=6
    )


def test_release_frees_withheld_siblings(isolating: Daemon) -> None:
    isolating.reload({"cpu-thread-policy": "share"})
    assert outcome(ask(isolating, cores(10, service_name="other"))) == "3-7,11-15"
    released = ask(isolating, cores(-1))
    assert (released["shared_cpus"], released["remaining_available_cpus"]) == ("0-2,8-10", 6)
    assert outcome(ask(isolating, cores(6, service_name="third"))) == "0-2,8-10"


def test_reclaimed_core_is_no_longer_withheld() -> None:
    with Daemon(EIGHT, {"cpu-thread-policy": "isolate"}) as daemon:
        daemon.start()
        ask(daemon, cores(4, service_name="first"))
        daemon.reload({})
        # Nothing is free in node 0: four CPUs are claimed, their siblings withheld.
        answer = ask(daemon, numa(0, 2))
        assert outcome(answer) == "0-1"
        entry = daemon.entry("first")
        assert (entry["allocated_cores"], entry["withheld_cpus"]) == ("2-3", "10-11")
        assert answer["remaining_available_cpus"] == 10
        daemon.claims()
        assert outcome(ask(daemon, cores(4))) == "0-1,8-9"


def test_partial_release_frees_withheld_siblings() -> None:
    with Daemon(EIGHT, {"cpu-thread-policy": "isolate"}) as daemon:
        daemon.start()
        assert outcome(ask(daemon, numa(0, 2))) == "0-1 + 8-9"
        assert outcome(ask(daemon, numa(1, 1))) == "4 + 8-9,12"
        answer = ask(daemon, numa(0, -1))
        assert answer["remaining_available_cpus"] == 14
        assert daemon.entry("svc")["withheld_cpus"] == "12"
        assert outcome(ask(daemon, cores(0))).count("+") == 1
        assert len(daemon.claims()["svc"]) == 6, "80 % of eight cores"


#: The CPUs of node 0 that another service holds and may lose -> the outcomes of requests for 1, 2 and 4 CPUs there,
#: each alone on its core. Such a core may have no thread that the other service keeps.
RECLAIMING: Final = {
    "0-3": ("0 + 8", "0-1 + 8-9", "0-3 + 8-11"),
    "0-3,8": ("1 + 9", "2-3 + 10-11", THREADS_REFUSE),
    "0-3,8-10": ("3 + 11", THREADS_REFUSE, THREADS_REFUSE),
    "8-11": ("8 + 0", "8-9 + 0-1", "8-11 + 0-3"),
    "0-3,8-11": (THREADS_REFUSE, THREADS_REFUSE, THREADS_REFUSE),
}


@pytest.mark.parametrize("reclaim", ["if-needed", "always"])
def test_owned_siblings_are_never_withheld(reclaim: str) -> None:
    with Daemon(EIGHT, {"numa-reclaim": reclaim}) as daemon:
        daemon.start()
        for held, expected in RECLAIMING.items():
            for count, outcome_ in zip((1, 2, 4), expected, strict=True):
                begin(daemon, {"other": held})
                answer = ask(daemon, numa(0, count, cpu_thread_policy="isolate"))
                assert outcome(answer) == outcome_, (held, count)
                kept = parse_cpus(answer.get("placement", {}).get("withheld_cpus", ""))
                assert not kept & set().union(*daemon.claims().values())
        daemon.kill()
        daemon.start()
        assert "state_error" not in daemon.ok("list_allocations")


def test_no_core_is_isolated_when_another_service_keeps_its_threads() -> None:
    with Daemon(EIGHT, {"numa-reclaim": "never"}) as daemon:
        daemon.start()
        for held, count in itertools.product(RECLAIMING, (1, 2, 4)):
            begin(daemon, {"other": held})
            assert "error" in ask(daemon, numa(0, count, cpu_thread_policy="isolate")), (held, count)
            assert daemon.claims().keys() == {"other"}
