# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Withheld threads: the siblings that a claim keeps from all other services under `cpu-thread-policy=isolate`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epa_orchestrator.allocation.allocate import (
    Terms,
    allocate,
    release,
    release_in_node,
)
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.pools import NodeCpus
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.cpuset import EMPTY
from tests.builders import NODE, claim, cores, cpus, holding, node_cores, owned_and_withheld, pools


class TestWithheld:
    """Under `cpu-thread-policy=isolate` a claim keeps the siblings of its CPUs from everybody else.

    Node 0 has the cores 2,10 and 3,11 in the pool, node 1 the cores 4,12 to 7,15.
    """

    AT = pools(cpu_thread_policy="isolate")

    def isolated(self, count: int = 2, ledger: Ledger | None = None) -> Ledger:
        """After `a` got so many CPUs, each on a core of its own."""
        return cores(ledger or Ledger(), "a", count, at=self.AT)[0]

    def test_siblings_are_not_free_for_others(self) -> None:
        ledger = self.isolated()
        assert owned_and_withheld(ledger) == {"a": ("2-3", "10-11")}
        assert str(ledger.free(pools().isolated)) == "4-7,12-15"
        assert str(ledger.withheld) == "10-11"
        with pytest.raises(Refused, match=r"^Insufficient CPUs available\. Requested: 9, Available: 8$"):
            cores(ledger, "b", 9)
        with pytest.raises(Refused, match="CPUs 10-11 are held by other services"):
            node_cores(ledger, "b", 0, 3)

    def test_siblings_are_free_for_the_owner(self) -> None:
        assert cores(self.isolated(), "a", 4)[1] == "2-3,10-11"
        assert node_cores(self.isolated(), "a", 0, 4)[1] == "2-3,10-11"
        assert cores(self.isolated(), "a", 12)[1] == "2-7,10-15"

    @pytest.mark.parametrize(
        ("count", "after"), [(1, ("2", "10")), (2, ("2-3", "10-11")), (3, ("2-4", "10-12")), (6, ("2-7", "10-15"))]
    )
    def test_follow_the_claim_when_it_changes_its_size(self, count: int, after: tuple[str, str]) -> None:
        assert owned_and_withheld(self.isolated(count, self.isolated())) == {"a": after}

    def test_are_given_back_on_release(self) -> None:
        ledger = self.isolated(3)
        released = release(ledger, "isolated", "a").ledger
        assert (released.withheld, len(released.free(pools().isolated))) == (EMPTY, 12)

    def test_are_given_back_on_release_in_a_node(self) -> None:
        ledger = node_cores(self.isolated(), "a", 1, 1, at=self.AT)[0]
        assert owned_and_withheld(ledger) == {"a": ("2-4", "10-12")}
        ledger = release_in_node(ledger, "isolated", Terms("a"), NodeCpus(0, NODE[0])).ledger
        assert owned_and_withheld(ledger) == {"a": ("4", "12")}
        assert str(ledger.free(pools().isolated)) == "2-3,5-7,10-11,13-15"

    def test_are_given_back_when_their_core_is_taken(self) -> None:
        ledger, granted = node_cores(self.isolated(), "b", 0, 1)
        assert granted == "2"
        assert owned_and_withheld(ledger) == {"a": ("3", "11"), "b": ("2", "")}
        assert "10" in str(ledger.free(pools().isolated)).split(",")
        ledger, granted = node_cores(self.isolated(), "b", 0, 2)
        assert granted == "2-3"
        assert owned_and_withheld(ledger) == {"b": ("2-3", "")}

    @pytest.mark.parametrize("count", [2, 0])
    @pytest.mark.parametrize("threads", ["prefer", "share", "isolate"])
    def test_stay_when_the_request_is_repeated_under_another_setting(self, threads: str, count: int) -> None:
        at = pools(cpu_thread_policy=threads, default_allocation_percent=34)  # of 6 cores
        ledger = self.isolated()
        assert cores(ledger, "a", count, at=at) == (ledger, "2-3")
        assert node_cores(ledger, "a", 0, 2, at=at)[0].withheld == ledger.withheld

    def test_are_not_withheld_by_a_claim_that_is_older_than_the_setting(self) -> None:
        ledger = holding(claim("a", "2-3"))
        assert cores(ledger, "a", 2, at=self.AT) == (ledger, "2-3")
        assert owned_and_withheld(self.isolated(3, ledger)) == {"a": ("2-4", "10-12")}

    def test_are_given_back_when_the_claim_changes_under_another_setting(self) -> None:
        ledger, granted = cores(self.isolated(), "a", 1)
        assert granted == "2"
        assert owned_and_withheld(ledger) == {"a": ("2", "")}

    def test_those_of_other_nodes_are_left_alone(self) -> None:
        ledger = node_cores(self.isolated(), "a", 1, 1, at=self.AT)[0]
        assert owned_and_withheld(ledger) == {"a": ("2-4", "10-12")}
        ledger = node_cores(ledger, "a", 1, 2, at=self.AT)[0]
        assert owned_and_withheld(ledger) == {"a": ("2-5", "10-13")}
        ledger = node_cores(ledger, "a", 1, 3)[0]  # another setting
        assert owned_and_withheld(ledger) == {"a": ("2-5,12", "10-11")}

    @pytest.mark.parametrize("reclaim", ["if-needed", "always"])
    @pytest.mark.parametrize(
        ("held", "count"),
        [
            ("2,10", 1),  # one free core is left
            ("2,10", 2),
            ("2-3,10-11", 1),
            ("2-3,10-11", 2),
            ("10-11", 2),
        ],
    )
    def test_the_cpus_of_another_service_are_never_withheld(self, held: str, count: int, reclaim: str) -> None:
        """Whether the other one loses the siblings, too, or the request is refused."""
        at = pools(cpu_thread_policy="isolate", numa_reclaim=reclaim)
        try:
            ledger = node_cores(holding(claim("b", held)), "a", 0, count, at=at)[0]
        except Refused:
            return
        assert not ledger.withheld & ledger.claimed
        rebuilt = Ledger.of(ledger.claims.values(), {}, ledger.cores)
        assert (rebuilt.claimed, rebuilt.withheld) == (ledger.claimed, ledger.withheld)

    def test_isolate_takes_no_core_of_which_another_service_has_a_part(self) -> None:
        ledger = holding(claim("b", "2,7"))
        with pytest.raises(Refused, match="cpu-thread-policy=isolate allows one thread per core and no shared core"):
            self.isolated(5, ledger)
        assert owned_and_withheld(self.isolated(4, ledger))["a"] == ("3-6", "11-14")


def test_an_offline_withheld_thread_stays_withheld_when_the_claim_grows() -> None:
    at = pools(cpu_thread_policy="isolate")
    ledger, known = allocate(Ledger(), at.isolated, Terms("a"), 2).ledger, at.cores
    pool = replace(pools(offline="10", cpu_thread_policy="isolate").isolated, cores=known)
    grown = allocate(ledger, pool, Terms("a"), 3).claim
    assert grown is not None
    assert "10" in str(grown.withheld)


def test_an_offline_withheld_thread_of_an_older_database_stays_withheld() -> None:
    old = [claim("a", "2-3", withheld="10-11")]
    ledger = Ledger.of(old, {}).on(pools(offline="10").cores)
    assert owned_and_withheld(ledger) == {"a": ("2-3", "10-11")}
    ledger = ledger.on(pools().cores)
    assert owned_and_withheld(ledger) == {"a": ("2-3", "10-11")}
    assert str(ledger.claims["a"].alone) == "2-3"


def test_a_thread_of_an_unknown_core_is_neither_withheld_nor_free() -> None:
    ledger = holding(replace(claim("a", "2"), alone=cpus("2")))
    assert owned_and_withheld(ledger) == {"a": ("2", "10")}
    alone = pools(offline="10", isolated="2-3,10")
    ledger = Ledger.of([*ledger.on({}).claims.values(), claim("b", "10")], {})
    assert owned_and_withheld(ledger) == {"a": ("2", ""), "b": ("10", "")}
    unknown = replace(alone, isolated=replace(alone.isolated, cores={}))
    grown, chosen = cores(ledger, "a", 2, at=unknown)
    assert (chosen, str(grown.claims["b"].cpus)) == ("2-3", "10")
