# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Command why: it says in plain words who has which CPUs, since when, why, and what has changed since."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from epa_orchestrator.allocation.cpu_states import Absence
from epa_orchestrator.cli.why import _ABSENCES, _absent, _origins
from epa_orchestrator.protocol.answers import Allocation
from epa_orchestrator.protocol.history import ClaimAnswer, Origin
from tests.functional.harness import wait_until
from tests.unit.cli.builders import Command, Daemon


@pytest.fixture(scope="module")
def asked() -> Iterator[Daemon]:
    """A daemon on CPUs 2-7 of cores with two threads; CPU 7 is reserved."""
    daemon = Daemon(settings={"reserved-cpus": "7"})
    try:
        daemon.run("allocate", "nova", "3")
        daemon.run("allocate", "ovs", "1", "--numa-node", "0", "--take")
        daemon.run("hugepages", "pages", "--count", "4")
        daemon.run("allocate", "gone", "1")
        daemon.run("release", "gone")
        yield daemon
    finally:
        daemon.stop()


def test_why_a_service_has_its_cpus(asked: Daemon) -> None:
    lines = asked.text("why", "nova").splitlines()
    assert lines[0] == "'nova' holds 3 CPUs: 2-4 (pool isolated, legacy, NUMA node 0, 1 L3 domain)."
    assert "It has CPUs 2-4 since " in lines[3]
    assert lines[4].endswith(": nothing -> 2-4")
    assert lines[5].startswith("  request: allocate count=3")
    assert lines[6].endswith(f", pid {os.getpid()}, uid {os.geteuid()}")
    assert lines[7].startswith("  decided by: Only NUMA node 0 is possible")
    assert lines[8] == "  settings then: reserved-cpus=7; they are the same now"
    assert lines[9] == "Nothing has changed since then."


def test_why_names_who_else_is_on_the_cores(asked: Daemon) -> None:
    assert "On its cores: 'ovs' has CPU 5." in asked.text("why", "nova")
    assert "On its core 4-5: 'nova' has CPU 4." in asked.text("why", "--cpu", "5")


@pytest.mark.parametrize(
    ("cpu", "sentence"),
    [
        ("2", "CPU 2 belongs to 'nova'."),
        ("6", "CPU 6 is free: it is in a pool, and no service owns it."),
        ("7", "CPU 7 is reserved: the option reserved-cpus keeps it out of every pool."),
        ("0", "CPU 0 is in no pool: it is not isolated, and the option cpu-pool does not name it."),
    ],
)
def test_why_a_cpu_is_as_it_is(cpu: str, sentence: str, asked: Daemon) -> None:
    assert asked.text("why", "--cpu", cpu).splitlines()[0] == sentence


@pytest.mark.parametrize("name", ["plain", "$(touch /tmp/x)", "vm 1", "-x"])
def test_why_of_a_withheld_cpu_ends_with_a_command_that_can_be_pasted(name: str, daemon: Daemon) -> None:
    daemon.granted("allocate", "--cpu-thread-policy", "isolate", "--", name, "1")
    (claim,) = daemon.json("list")["allocations"]
    last = daemon.text("why", "--cpu", claim["withheld_cpus"]).splitlines()[-1]
    command = shlex.split(last.removeprefix("To see why, run: "))
    assert command[:2] == ["epa-orchestrator", "why"]
    assert daemon.text(*command[1:]).startswith(f"'{name}' holds 1 CPU: ")


def test_the_command_to_paste_stays_on_one_line(daemon: Daemon) -> None:
    """The second line of a folded one would run alone."""
    daemon.granted("allocate", "long " * 40 + "reboot", "1", "--cpu-thread-policy", "isolate")
    (claim,) = daemon.json("list")["allocations"]
    shown = daemon.drawn("why", "--cpu", claim["withheld_cpus"], environment={"TERM": "xterm"})
    assert shown.splitlines()[-1].startswith("  epa-orchestrator why 'long ")
    assert shown.splitlines()[-1].endswith(" reboot'")


def test_why_of_a_cpu_that_does_not_exist_is_refused(asked: Daemon) -> None:
    assert "This host has no CPU 99: its CPUs are 0-7" in asked.failure(1, "why", "--cpu", "99")
    result = asked.run("why", "--cpu", "99", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"error": "This host has no CPU 99: its CPUs are 0-7"})


def test_why_of_hugepages(asked: Daemon) -> None:
    text = asked.text("why", "pages")
    assert text.startswith("'pages' holds no CPUs.\nIt has 4 hugepages of 2M on NUMA node 0.\n")
    assert "decided by: 4 hugepages fit into the " in text


def test_why_tells_the_changes_of_hugepages(daemon: Daemon) -> None:
    daemon.run("allocate", "nova", "1")
    daemon.run("hugepages", "nova", "--count", "4")
    text = daemon.text("why", "nova")
    assert "  nova: nothing -> 4 x 2M on node 0  (hugepages by " in text
    assert "Nothing has changed" not in text


def test_why_of_a_misspelt_service_names_the_right_one(asked: Daemon) -> None:
    assert "did you mean 'nova'?" in asked.failure(1, "why", "novaa")


def test_why_of_a_service_that_gave_its_cpus_back(asked: Daemon) -> None:
    sentence = asked.failure(1, "why", "gone")
    assert "Service 'gone' holds nothing. It held 6 until " in sentence
    assert "and gave it back" in sentence


def test_why_of_a_service_that_lost_its_cpus_names_the_taker(asked: Daemon) -> None:
    asked.run("allocate", "victim", "1")
    asked.run("allocate", "taker", "1", "--numa-node", "0", "--take")
    asked.run("allocate", "ovs", "2", "--numa-node", "0", "--take")
    lost = [each for each in asked.json("history") if each.get("taken_by") and each["after"] is None]
    for each in lost:
        sentence = asked.failure(1, "why", each["service"])
        ((taker, cpus),) = each["taken_by"].items()
        assert f"when '{taker}' took CPUs {cpus}" in sentence
    asked.run("release", "victim")
    asked.run("release", "taker")


def test_why_json_is_the_daemons_answer(asked: Daemon) -> None:
    answer = asked.json("why", "nova")
    assert answer["claim"]["service_name"] == "nova"
    assert answer["granted"]["request"]["num_of_cores"] == 3


@pytest.mark.parametrize("arguments", [[], ["nova", "--cpu", "2"]])
def test_why_needs_a_service_or_a_cpu(arguments: list[str], asked: Daemon) -> None:
    assert "Give either SERVICE or --cpu" in asked.misuse("why", *arguments)


def test_why_without_a_daemon(offline: Command) -> None:
    assert "No daemon serves" in offline.failure(3, "why", "nova")


@pytest.fixture(scope="module")
def moved() -> Iterator[Daemon]:
    """A daemon whose pool general is gone, while a service holds CPU 0 of it and was promised the core 0-1 alone."""
    daemon = Daemon(settings={"cpu-pool": "0-1"})
    try:
        daemon.run("allocate", "iso", "1", "--pool", "general", "--cpu-thread-policy", "isolate")
        (daemon.base / "settings.json").write_text('{"cpu-pool": "isolated"}')
        daemon.process.signal(signal.SIGHUP)
        wait_until(lambda: "settings read again" in daemon.process.output(), "the settings are read")
        yield daemon
    finally:
        daemon.stop()


def test_why_of_a_service_names_its_unavailable_cpus(moved: Daemon) -> None:
    sentence = "CPU 0 is unavailable: the option cpu-pool does not name it any longer."
    assert sentence in moved.text("why", "iso").splitlines()


def test_why_of_a_service_names_what_is_no_longer_withheld(moved: Daemon) -> None:
    assert (
        "CPU 1 is no longer withheld for it, so others may run on this core too: the option cpu-pool does not name it"
        " any longer."
    ) in moved.text("why", "iso").splitlines()


def test_why_of_an_unavailable_cpu_has_the_reason(moved: Daemon) -> None:
    assert moved.text("why", "--cpu", "0").splitlines()[0] == (
        "CPU 0 belongs to 'iso', but it is unavailable: the option cpu-pool does not name it any longer."
    )


def test_why_does_not_say_that_nothing_has_changed_when_the_settings_have(moved: Daemon) -> None:
    assert moved.text("why", "iso").splitlines()[-1] == "What it holds has not changed since then."


def absent(**fields: Any) -> list[str]:
    """The sentences about CPUs that are unavailable or no longer withheld."""
    allocation = Allocation(
        service_name="a",
        pool="isolated",
        allocated_cores="2-3",
        cores_count=2,
        is_explicit=False,
        preemption_policy="legacy",
    )
    return [*_absent(ClaimAnswer.model_construct(None, claim=allocation, **fields))]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("unknown", "the machine cannot be read"),
        ("missing", "this host no longer has them"),
        ("offline", "they are offline"),
        ("reserved", "the option reserved-cpus names them now"),
        ("not-isolated", "they are no longer isolated"),
        ("pool", "pool isolated grants nothing now, and 'epa-orchestrator status' says why"),
        ("eaten", "eaten"),
    ],
)
def test_each_reason_has_its_words(reason: str, words: str) -> None:
    assert absent(unavailable={reason: "2-3"}) == [f"CPUs 2-3 are unavailable: {words}."]


def test_every_reason_has_words() -> None:
    assert set(_ABSENCES) == set(get_args(Absence))


def test_several_cores_are_no_longer_its_own() -> None:
    assert absent(no_longer_withheld={"reserved": "4-5"}) == [
        (
            "CPUs 4-5 are no longer withheld for it, so others may run on these cores too: the option reserved-cpus"
            " names them now."
        )
    ]


def test_a_damaged_time_is_named() -> None:
    origins = [Origin(cpus="4-5", id=3, at=None)]
    (line,) = _origins(ClaimAnswer.model_construct(origins=origins))
    assert line == "It has CPUs 4-5 since a time that is damaged (event 3)."
