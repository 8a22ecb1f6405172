# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The name that was probably meant is found, in bounded time."""

from __future__ import annotations

import random
import time

import pytest

from epa_orchestrator.nearest import did_you_mean, nearest_name


def test_question_ends_a_sentence() -> None:
    assert did_you_mean("isolatd", ("isolated", "general")) == "; did you mean 'isolated'?"
    assert did_you_mean("zzz", ("isolated", "general")) is None


def test_nearest_name_ignores_case() -> None:
    assert nearest_name("NOVA", ["ovs", "nova"]) == "nova"


@pytest.mark.parametrize("others", [[], ["ceph"], ["", "x"]])
def test_no_name_is_near(others: list[str]) -> None:
    assert nearest_name("nova", others) is None


def test_nearest_of_many_names_is_found() -> None:
    assert nearest_name("vm-0420x", [f"vm-{number:04}" for number in range(10_000)]) == "vm-0420"


@pytest.mark.parametrize("letters", ["a", "ab"])
def test_nearest_of_hostile_names_is_found_in_time(letters: str) -> None:
    """The comparison of two long names takes time that grows with the square of their length, or faster."""
    draw = random.Random(1)
    names = ["".join(draw.choices(letters, k=255)) for _ in range(20_000)]
    begin = time.process_time()
    nearest_name(letters * 127, names)
    assert time.process_time() - begin < 2


NUMA_POLICIES = ("none", "best-effort", "restricted", "single-numa-node")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("sinle", "single-numa-node"), ("single", "single-numa-node"), ("bst-e", "best-effort"), ("zzzzz", None)],
)
def test_beginning_of_a_long_name_is_enough(name: str, nearest: str | None) -> None:
    assert nearest_name(name, NUMA_POLICIES) == nearest


def test_whole_name_wins_over_a_beginning() -> None:
    assert nearest_name("nova1", ["nova-compute-host", "nova"]) == "nova"
