# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.kernel_lists import (
    is_number,
    read_cpu_list,
    read_cpu_mask,
    read_seconds,
    read_word,
    whole_number,
)

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


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("18446744073709551615", 2**64 - 1), ("-1", None), ("9" * 21, None), ("1e3", None)]
)
def test_a_number_of_the_kernel_has_64_bits(text: str, number: int | None) -> None:
    if number is None:
        with pytest.raises(ValueError, match="number of the kernel"):
            whole_number(text)
    else:
        assert whole_number(text) == number


@pytest.mark.parametrize(("text", "is_one"), [("07", True), ("-1", False), ("\u0663", False), ("9" * 21, False)])
def test_texts_that_are_numbers(text: str, is_one: bool) -> None:
    assert is_number(text) is is_one


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "1e400", "9" * 30])
def test_a_text_that_is_no_time_counts_as_missing(text: str) -> None:
    assert read_seconds(RecordedHost({"proc/uptime": text}), "proc/uptime") == Unread("proc/uptime")
    assert read_seconds(RecordedHost({"proc/uptime": "12.5 3.0\n"}), "proc/uptime") == 12.5
