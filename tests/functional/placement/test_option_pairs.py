# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Pairs of option values: those that contradict each other are not used, all others serve requests."""

from __future__ import annotations

import itertools
import signal

import pytest

from tests.functional.harness import Daemon, Json, parse_cpus, wait_until
from tools.synthetic import Shape

from .asking import NUMA_REFUSES, ask, cores, numa, outcome, percent
from .option_values import ALL_VALUES, CONTRADICTIONS, contradict


def covering() -> list[Json]:
    """Settings of all options: each pair of values that do not contradict each other is in one of them."""
    items = [(option, value) for option, values in ALL_VALUES.items() for value in values]
    missing = {
        frozenset((one, other))
        for one, other in itertools.combinations(items, 2)
        if one[0] != other[0] and not contradict(dict((one, other)))
    }
    found: list[Json] = []
    while missing:
        chosen = dict(sorted(min(missing, key=lambda pair: sorted(map(str, pair)))))
        for option, values in ALL_VALUES.items():
            if option not in chosen:
                fitting = [value for value in values if not contradict(chosen | {option: value})]
                chosen[option] = max(
                    fitting,
                    key=lambda value: sum(frozenset(((option, value), item)) in missing for item in chosen.items()),
                )
        missing -= {frozenset(pair) for pair in itertools.combinations(chosen.items(), 2)}
        found.append(chosen)
    return found


def test_every_pair_of_values_serves_requests() -> None:
    with Daemon(Shape(2, 1, 2, 2, 2, isolated="1-7,9-15")) as daemon:
        daemon.start()
        every = covering()
        assert len(every) < 60
        refused = 0
        for settings in every:
            daemon.reload(settings)
            answer = ask(daemon, cores(0))
            if settings["numa-policy"] == "single-numa-node" and "error" in answer:
                assert outcome(answer) == NUMA_REFUSES, (settings, answer)
                refused += 1
            else:
                assert "error" not in answer, (settings, answer)
            ask(daemon, cores(-1))
            # Two or four CPUs are whole cores, or threads with a sibling to withhold, so every policy has room.
            requests = [cores(2), numa(0, 2), percent(14), numa(1, 4), percent(10), cores(4)]
            if settings["cpu-pool"]:
                requests.append(cores(1 if settings["cpu-thread-policy"] == "isolate" else 2, pool="general"))
            for request in requests:
                answer = ask(daemon, request)
                assert "error" not in answer, (settings, request, answer)
                held = parse_cpus(outcome(answer).partition(" ")[0])
                assert daemon.claims(request[1].get("pool", "isolated")) == {"svc": held}
                assert outcome(ask(daemon, request)) == outcome(answer)
                daemon.release_everything()
        # The default size of 10 CPUs or more, or of 5 whole cores, fits no NUMA node.
        assert refused == 4


@pytest.mark.parametrize("pair", CONTRADICTIONS, ids=[" ".join(pair.values()) for pair in CONTRADICTIONS])
def test_reload_ignores_contradictory_pairs(daemon: Daemon, pair: Json) -> None:
    before = outcome(ask(daemon, cores(5), dry_run=True))
    said = len(daemon.log())
    daemon.configure(pair)
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "stay as they are" in daemon.log()[said:], "the contradiction is logged")
    assert outcome(ask(daemon, cores(5), dry_run=True)) == before
    check_contradiction(daemon.log()[said:], pair)


@pytest.mark.parametrize("pair", CONTRADICTIONS, ids=[" ".join(pair.values()) for pair in CONTRADICTIONS])
def test_start_warns_about_contradictory_pairs(daemon: Daemon, pair: Json) -> None:
    daemon.stop()
    daemon.configure(pair)
    daemon.start()
    (warning,) = daemon.ok("list_allocations")["warnings"]
    check_contradiction(warning, pair)


def check_contradiction(log: str, pair: Json) -> None:
    """Check that one line names both options with their values."""
    (line,) = [line for line in log.splitlines() if "contradict" in line]
    for option, value in pair.items():
        assert f"{option}={value}" in line
