# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Noise text: sentences and short lines about the noise of claims, with numbers that people can read."""

from __future__ import annotations

from typing import Any

import pytest

from epa_orchestrator.cli.noise_text import number, sentences, short_lines
from epa_orchestrator.cli.times import format_time
from epa_orchestrator.protocol.isolation import ClaimIsolation, ClaimOwner, IsolationAnswer, NoiseCounts, NoisyThread

OWNER = ClaimOwner(snap=None, unit=None, comm=None, pid=None, asked_at=None, cgroups=[])
NOTHING = NoiseCounts(
    seconds=60.0, ticks=0, interrupts={}, ipis=0, other=0, waited_seconds=None, involuntary_switches=None
)
LOUD = NoiseCounts(
    seconds=60.0,
    ticks=15000,
    interrupts={"(other)": 9, "eth0 (IRQ 45)": 6, "nvme0q1 (IRQ 46)": 1, "a (IRQ 1)": 0},
    ipis=1,
    other=30,
    waited_seconds=0.6,
    involuntary_switches=1,
)


def thread(pid: int, name: str = "worker") -> NoisyThread:
    return NoisyThread(pid=pid, tid=pid, name=name, cpu=2, cgroup=None)


def claim(service: str = "ovs", **more: Any) -> ClaimIsolation:
    fields: dict[str, Any] = {
        "owner": OWNER,
        "since": 0.0,
        "noise": NOTHING,
        "now": NOTHING,
        "strangers": [],
        "outside": [],
        "stacked": [],
        "culprit": None,
        "remedy": None,
        "problem": None,
        **more,
    }
    return ClaimIsolation(service_name=service, pool="isolated", allocated_cores="2-3", **fields)


def short(*claims: ClaimIsolation) -> list[str]:
    answer = IsolationAnswer(read_at=5.0, checks=[], claims=list(claims))
    return list(short_lines(answer, {"ovs": "A", "nova": "B", "ceph": "C"}))


def test_a_quiet_claim_is_called_quiet() -> None:
    assert list(sentences(claim())) == [
        f"Its CPUs had no interrupts since {format_time(0.0)}.",
        "Per second now: nothing.",
        "Its CPUs are quiet.",
    ]


def test_noise_is_told_in_all_and_a_second_with_culprit_and_remedy() -> None:
    told = claim(noise=LOUD, now=LOUD, culprit="timer ticks: 250 a second on CPU 2", remedy="add nohz_full=2-3")
    assert list(sentences(told)) == [
        (
            "Its CPUs had 15,000 timer ticks, 16 device interrupts (eth0 (IRQ 45): 6, nvme0q1 (IRQ 46): 1, (other): 9),"
            " 1 interrupt of other CPUs, 30 other interrupts, 0.6 s of waiting for a CPU, 1 involuntary switch since"
            f" {format_time(0.0)}."
        ),
        (
            "Per second now: 250 timer ticks, 0.27 device interrupts, 0.017 interrupts of other CPUs,"
            " 0.5 other interrupts, 0.01 s of waiting, 0.017 involuntary switches."
        ),
        "Most of the noise: timer ticks: 250 a second on CPU 2.",
        "To stop it: add nohz_full=2-3.",
        "To see all that disturbs it, and what to do: sudo epa-orchestrator audit --service ovs",
    ]


def test_a_command_that_stops_the_noise_has_no_full_stop() -> None:
    told = claim(culprit="stress (PID 9) works on CPU 2", remedy="sudo taskset -apc 0-1 9")
    assert "To stop it: sudo taskset -apc 0-1 9" in list(sentences(told))


def test_threads_are_named_in_quotes_and_the_others_counted() -> None:
    told = claim(strangers=[thread(number) for number in range(10, 14)], more_threads={"strangers": 5})
    assert list(sentences(told))[2] == (
        "Threads of others work on its CPUs: 'worker' (PID 10) on CPU 2, 'worker' (PID 11) on CPU 2, 'worker' (PID 12)"
        " on CPU 2, and 6 more."
    )
    assert list(sentences(claim(outside=[thread(7)])))[2] == (
        "Threads of its own work elsewhere: 'worker' (PID 7) on CPU 2."
    )
    assert "share a CPU while another of its CPUs idles" in list(sentences(claim(stacked=[thread(7)])))[2]


def test_what_is_not_known_is_not_told() -> None:
    told = claim(since=None, noise=None, now=None, problem="The noise is not known: it needs /proc/interrupts")
    assert list(sentences(told)) == ["The noise is not known: it needs /proc/interrupts."]


def test_noise_without_time_has_no_rate() -> None:
    none = NOTHING.model_copy(update={"seconds": 0.0, "ticks": 5})
    assert list(sentences(claim(now=none)))[1] == "Per second now: nothing."


def test_the_map_has_a_line_for_each_noisy_service_and_one_for_the_quiet_ones() -> None:
    assert short(
        claim(noise=LOUD, now=LOUD, culprit="x"),
        claim("nova"),
        claim("ceph", strangers=[thread(7), thread(8)], stacked=[thread(9)], more_threads={"stacked": 3}),
    ) == [
        "",
        "noise a second:",
        "A 250 ticks, 0.27 irqs, 0.017 ipis, 10 ms waited, 0.017 switches",
        "C 2 strangers!, 4 stacked!",
        "B quiet",
    ]


def test_the_map_says_nothing_where_no_noise_is_known() -> None:
    assert short(claim(noise=None, now=None)) == []
    assert short(claim("gone")) == []
    assert short(claim("gone"), claim("nova", noise=None, now=None), claim())[-1] == "A quiet"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.009, "0"), (0.01, "0.01"), (0.256, "0.26"), (9.96, "10"), (250.4, "250"), (1234567.0, "1,234,567")],
)
def test_numbers_have_two_digits_or_more(value: float, text: str) -> None:
    assert number(value) == text
