# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.kernel_lists import read_cpu_list, read_cpu_mask, read_word

_PATH = "sys/devices/system/cpu/isolated"


def _host(text: str) -> RecordedHost:
    return RecordedHost({_PATH: text})


@pytest.mark.parametrize(
    ("text", "cpus"), [("2-3\n", "2-3"), ("\n", ""), ("", ""), ("(null)\n", ""), ("0,4-5,64\n", "0,4-5,64")]
)
def test_a_list_gives_its_cpus(text: str, cpus: str) -> None:
    found = read_cpu_list(_host(text), _PATH)
    assert found == CpuSet.parse(cpus)


@pytest.mark.parametrize(
    ("text", "cpus"), [("f\n", "0-3"), ("0\n", ""), ("00000001,00000000\n", "32"), ("(null)\n", "")]
)
def test_a_mask_gives_its_cpus(text: str, cpus: str) -> None:
    assert read_cpu_mask(_host(text), _PATH) == CpuSet.parse(cpus)


@pytest.mark.parametrize("text", ["3-2\n", "2-\n", "x\n", "-1\n", "2 3\n", "9" * 5000])
def test_a_text_that_is_no_list_counts_as_missing(text: str) -> None:
    assert read_cpu_list(_host(text), _PATH) == Unread(_PATH)


@pytest.mark.parametrize("text", ["g\n", "1,000000001\n", "0x3\n", "-1\n"])
def test_a_text_that_is_no_mask_counts_as_missing(text: str) -> None:
    assert read_cpu_mask(_host(text), _PATH) == Unread(_PATH)


def test_a_file_that_may_not_be_read_stays_denied() -> None:
    denied = RecordedHost({}, denied={_PATH})
    found = read_cpu_list(denied, _PATH), read_cpu_mask(denied, _PATH), read_word(denied, _PATH)
    assert found == (Unread(_PATH, "denied"),) * 3


def test_a_word_has_no_white_space_around_it() -> None:
    assert read_word(_host(" tsc\n"), _PATH) == "tsc"
