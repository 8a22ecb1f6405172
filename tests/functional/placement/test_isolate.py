"""`cpu-thread-policy=isolate`: withheld siblings."""

from __future__ import annotations

import itertools

import pytest

from tests.functional.harness import Daemon, parse_cpus

from .asking import ask, begin, cores, numa, outcome
from .hosts import EIGHT


def test_withheld_siblings_are_never_granted() -> None:
    """They are in nobody's answer, whatever happens to the daemon and its settings, until the claim goes."""
    with Daemon(EIGHT, {"cpu-thread-policy": "isolate"}) as daemon:
        daemon.start()
        answer = ask(daemon, cores(3))
        assert outcome(answer) == "0-2 beside 8-10"
        assert answer["shared_cpus"] == "3-7,11-15"
        assert (answer["total_available_cpus"], answer["remaining_available_cpus"]) == (16, 10)

        def check() -> None:
            entry, listing = daemon.entry("svc"), daemon.ok("list_allocations")
            assert (entry["allocated_cores"], entry["withheld_cpus"], entry["cores_count"]) == ("0-2", "8-10", 3)
            assert listing["total_allocated_cpus"] == 3
            assert listing["remaining_available_cpus"] == 10
            assert daemon.claims() == {"svc": {0, 1, 2}}

        check()
        daemon.kill()
        daemon.start()
        check()
        daemon.reload({"cpu-thread-policy": "prefer"})
        check()
        assert outcome(ask(daemon, cores(3))) == "0-2 beside 8-10", "the same request keeps what it has"
        daemon.reload({"cpu-thread-policy": "share"})
        daemon.refused("allocate_cores", service_name="other", num_of_cores=11)
        assert outcome(ask(daemon, cores(10, service_name="other"))) == "3-7,11-15"
        # Not even a legacy request for the node may have them: nobody owns them.
        assert "held by" in daemon.refused("allocate_numa_cores", service_name="taker", numa_node=0, num_of_cores=6)
        check_again = daemon.ok("allocate_numa_cores", service_name="taker", numa_node=1, num_of_cores=-1)
        assert check_again["remaining_available_cpus"] == 0
        released = ask(daemon, cores(-1))
        assert (released["shared_cpus"], released["remaining_available_cpus"]) == ("0-2,8-10", 6)
        assert outcome(ask(daemon, cores(6, service_name="third"))) == "0-2,8-10"


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
        assert outcome(ask(daemon, numa(0, 2))) == "0-1 beside 8-9"
        assert outcome(ask(daemon, numa(1, 1))) == "4 beside 8-9,12"
        answer = ask(daemon, numa(0, -1))
        assert answer["remaining_available_cpus"] == 14
        assert daemon.entry("svc")["withheld_cpus"] == "12"
        assert outcome(ask(daemon, cores(0))).count("beside") == 1
        assert len(daemon.claims()["svc"]) == 6, "80 % of eight cores"


@pytest.mark.parametrize("reclaim", ["if-needed", "always", "never"])
def test_owned_siblings_are_never_withheld(reclaim: str) -> None:
    """A thread that another service keeps is never withheld from it, and the daemon reads what it has stored."""
    with Daemon(EIGHT, {"numa-reclaim": reclaim}) as daemon:
        daemon.start()
        for held, count in itertools.product(("0-3", "0-3,8", "0-3,8-10", "8-11", "0-3,8-11"), (1, 2, 4)):
            begin(daemon, {"other": held})
            answer = ask(daemon, numa(0, count, cpu_thread_policy="isolate"))
            kept = parse_cpus(answer.get("placement", {}).get("withheld_cpus", ""))
            assert not kept & set().union(*daemon.claims().values())
        daemon.kill()
        daemon.start()
        assert "state_error" not in daemon.ok("list_allocations")
