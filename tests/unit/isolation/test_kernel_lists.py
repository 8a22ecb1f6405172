# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPU lists, masks, words and numbers in files of the kernel."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.kernel_lists import (
    kernel_number,
    read_cpu_list,
    read_cpu_mask,
    read_seconds,
    read_word,
    whole_number,
)


@pytest.mark.parametrize(
    ("text", "cpus"), [("2-3,7\n", CpuSet([2, 3, 7])), ("\n", EMPTY), ("(null)\n", EMPTY), ("2-", Unread("file"))]
)
def test_lists_have_ranges(text: str, cpus: CpuSet | Unread) -> None:
    assert read_cpu_list(RecordedHost({"file": text}), "file") == cpus


@pytest.mark.parametrize(
    ("text", "cpus"), [("c\n", CpuSet([2, 3])), ("1,00000001\n", CpuSet([0, 32])), ("", EMPTY), ("x", Unread("file"))]
)
def test_masks_have_hexadecimal_words(text: str, cpus: CpuSet | Unread) -> None:
    assert read_cpu_mask(RecordedHost({"file": text}), "file") == cpus


def test_file_that_may_not_be_read_stays_unread() -> None:
    hidden = RecordedHost({}, denied=["file"])
    for read in (read_cpu_list, read_cpu_mask, read_word):
        assert read(hidden, "file") == Unread("file", "denied")


def test_words_have_no_white_space_around_them() -> None:
    assert read_word(RecordedHost({"file": " tsc \n"}), "file") == "tsc"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("133", 133),
        ("18446744073709551615", 2**64 - 1),
        ("", None),
        ("-1", None),
        ("\u0663", None),  # a digit of another script
        ("9" * 5000, None),
    ],
)
def test_whole_numbers_have_digits_only(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_a_number_that_has_to_be_there_is_an_error_otherwise() -> None:
    assert kernel_number("133") == 133
    with pytest.raises(ValueError, match="number of the kernel"):
        kernel_number("-1")


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "-1.5", "1e308", "1e400", "9" * 30])
def test_a_text_that_is_no_time_counts_as_missing(text: str) -> None:
    assert read_seconds(RecordedHost({"proc/uptime": text}), "proc/uptime") == Unread("proc/uptime")
    assert read_seconds(RecordedHost({"proc/uptime": "12.5 3.0\n"}), "proc/uptime") == 12.5
