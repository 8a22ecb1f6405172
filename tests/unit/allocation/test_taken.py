# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Which services lose CPUs in a change, and how that is told in a bounded form."""

from __future__ import annotations

import json

import pytest

from epa_orchestrator.allocation.claims import Change, Claim, ClaimChange, PagesChange
from epa_orchestrator.allocation.taken import NOTHING_TAKEN, gainer, losses, taken_by
from epa_orchestrator.cpuset import EMPTY, CpuSet

LONGEST_NAME = "\N{GRINNING FACE}" * 255


def claim(service: str, cpus: str) -> Claim | None:
    return Claim(service, "isolated", CpuSet.parse(cpus), EMPTY, "legacy") if cpus else None


def change(**cpus: tuple[str, str]) -> Change:
    """By service, its CPUs before and after."""
    return Change(
        tuple(ClaimChange(claim(service, before), claim(service, after)) for service, (before, after) in cpus.items())
    )


@pytest.mark.parametrize(
    ("made", "services"),
    [
        (change(), {}),
        (change(ovs=("", "2-3")), {}),
        (change(ovs=("2-3", "")), {}),
        (Change(pages=PagesChange("ovs", (0, 2048), 0, 4)), {}),
        (change(ovs=("", "2-3"), nova=("2-5", "4-5")), {"nova": "2-3"}),
        (change(ovs=("6-7", "2,6-7"), nova=("2", "")), {"nova": "2"}),
        (change(ovs=("", "2-4"), nova=("2", ""), ceph=("3-5", "5")), {"ceph": "3-4", "nova": "2"}),
        (change(ovs=("2", "3"), nova=("3", "2")), {"nova": "3", "ovs": "2"}),
    ],
    ids=["nothing", "new", "release", "pages", "a part", "all", "two", "exchange"],
)
def test_services_that_lose_cpus_are_named(made: Change, services: dict[str, str]) -> None:
    assert taken_by(made).services == services


def test_a_loss_that_nobody_gains_is_not_taken() -> None:
    assert losses(change(ovs=("", "2"), nova=("2-5", "3"))) == {"nova": CpuSet([2])}


def test_the_gainer_is_named() -> None:
    assert gainer(change(nova=("2-5", "4-5"), ovs=("", "2-3"))) == "ovs"


def test_no_gain_has_no_gainer() -> None:
    assert gainer(change(nova=("2-5", "4-5"))) is None


def test_nothing_taken_is_false() -> None:
    assert not NOTHING_TAKEN


def test_words_name_each_service_with_its_cpus() -> None:
    taken = taken_by(change(ovs=("", "2-4"), nova=("2", ""), ceph=("3-5", "5")))
    assert str(taken) == "CPUs 3-4 from 'ceph', CPU 2 from 'nova'"


def test_words_are_printable() -> None:
    assert str(taken_by(change(ovs=("", "2"), **{"a\n\x1b": ("2", "")}))) == "CPU 2 from 'a\ufffd\ufffd'"


def test_one_service_with_the_longest_name_is_named() -> None:
    taken = taken_by(change(ovs=("", "2"), **{LONGEST_NAME: ("2", "")}))
    assert (taken.services, taken.others) == ({LONGEST_NAME: "2"}, 0)


def test_services_beyond_the_bound_are_counted_with_their_cpus() -> None:
    lost = {f"service-{number:04}": (str(number), "") for number in range(2048)}
    taken = taken_by(change(ovs=("", "0-2047"), **lost))
    named = len(taken.services)
    assert list(taken.services) == [f"service-{number:04}" for number in range(named)]
    assert 40 < named < 100
    assert (taken.others, taken.other_cpus) == (2048 - named, CpuSet(range(named, 2048)))
    assert str(taken).endswith(f", CPUs {named}-2047 from {2048 - named} other services")
    assert len(json.dumps(taken.services)) <= 1200


def test_one_service_beyond_the_bound_is_counted() -> None:
    taken = taken_by(change(ovs=("", "2-3"), **{LONGEST_NAME[1:] + "a": ("2", ""), LONGEST_NAME[1:] + "b": ("3", "")}))
    assert taken.words_about_others() == "CPU 3 from 1 other service"
