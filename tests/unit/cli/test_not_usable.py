# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Each reason why a pool cannot use CPUs has a sentence with the CPUs and what to do."""

from __future__ import annotations

from epa_orchestrator.cli.holdings import holdings, totals
from epa_orchestrator.cli.not_usable import about_not_usable
from epa_orchestrator.protocol.answers import Listing
from epa_orchestrator.protocol.machine import MachineAnswer
from tests.unit.cli.test_holdings import claim, listing
from tests.unit.cli.test_places import machine


def sentences(found: Listing, *others: Listing, online: str = "0-15", answer: MachineAnswer | None = None) -> list[str]:
    """The sentences about the pool of the first listing, on a host with CPUs 0-15."""
    answer = answer or machine()
    answer.machine.online = online
    return [*about_not_usable(totals(found, holdings([found, *others])), answer)]


def test_a_pool_that_can_use_all_its_cpus_has_no_sentence() -> None:
    assert sentences(listing(claim("a", "2,8", "9"))) == []


def test_cpus_that_the_host_does_not_have() -> None:
    (sentence,) = sentences(listing(configured="2-19", eligible="2-15"))
    assert sentence == (
        "CPUs 16-19 of pool isolated are not usable, because this host does not have them: take them out of isolcpus="
        " (or nohz_full=) on the kernel command line"
    )


def test_cpus_that_are_offline() -> None:
    (sentence,) = sentences(listing(eligible="2-13"), online="0-13")
    assert sentence == (
        "CPUs 14-15 of pool isolated are not usable, because they are offline: bring them online, or take them out of"
        " isolcpus= (or nohz_full=) on the kernel command line"
    )


def test_one_cpu_is_not_several() -> None:
    general = listing(pool="general", configured="0-1", eligible="0")
    assert sentences(general, online="0,2-15") == [
        "CPU 1 of pool general is not usable, because it is offline: bring it online, or take it out of cpu-pool"
    ]


def test_cpus_of_a_claim_that_are_offline_are_left_to_the_warning_about_the_claim() -> None:
    assert sentences(listing(claim("a", "14-15"), eligible="2-13"), online="0-13") == []


def test_cpus_that_a_claim_of_the_other_pool_holds() -> None:
    general = listing(claim("b", "5", pool="general"), pool="general", configured="", eligible="")
    assert sentences(listing(claim("a", "2,8")), general) == [
        "CPU 5 of pool isolated is not usable, because claims of the other pool hold it: release these"
    ]


def test_a_pool_that_grants_nothing_refers_to_the_warnings() -> None:
    assert sentences(listing(eligible="")) == [
        "CPUs 2-15 of pool isolated are not usable, because the options let this pool grant none: see the warnings"
    ]


def test_an_older_daemon_does_not_tell_why() -> None:
    found = listing(configured="2-19", eligible="2-13")
    assert [*about_not_usable(totals(found, []), None)] == [
        "CPUs 14-19 of pool isolated are not usable: 'epa-orchestrator machine' shows which CPUs are online"
    ]
