# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The kernel line is split, and isolcpus= and nohz_full= are read, as the kernel does it."""

from __future__ import annotations

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.kernel_line import KernelLine


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  quiet\tro\n", [("quiet", None), ("ro", None)]),
        ("nohz-full=2-3", [("nohz_full", "2-3")]),
        ('isolcpus="2-3" ro', [("isolcpus", "2-3"), ("ro", None)]),
        ('"isolcpus=2 3" ro', [("isolcpus", "2 3"), ("ro", None)]),
        ('a="b c"d e', [("a", 'b c"d'), ("e", None)]),
        ("a==b", [("a", "=b")]),
        ("=a", [("=a", None)]),
        ("isolcpus=", [("isolcpus", "")]),
        ("ro -- isolcpus=2", [("ro", None)]),
        ("ro --x isolcpus=2", [("ro", None), ("__x", None), ("isolcpus", "2")]),
        ('x="never closed isolcpus=2', [("x", "never closed isolcpus=2")]),
    ],
)
def test_words_of_the_line(line: str, words: list[tuple[str, str | None]]) -> None:
    assert [(word.name, word.value) for word in KernelLine(line).parameters] == words


@pytest.mark.parametrize(
    ("value", "flags", "listed", "skipped", "invalid"),
    [
        ("2-3", {"domain"}, "2-3", (), ""),
        ("domain,2-3", {"domain"}, "2-3", (), ""),
        ("managed_irq,2-3", {"managed_irq"}, "2-3", (), ""),
        ("nohz,domain,managed_irq,2-3", {"nohz", "domain", "managed_irq"}, "2-3", (), ""),
        ("domain,domain,2", {"domain"}, "2", (), ""),
        ("foo,2-3", {"domain"}, "2-3", ("foo",), ""),
        ("foo,managed_irq,2-3", {"managed_irq"}, "2-3", ("foo",), ""),
        ("all", {"domain"}, "", ("all",), ""),
        ("domain", {"domain"}, "", ("domain",), ""),
        ("foo_bar9,2-3", {"domain"}, "2-3", (), "foo_bar9"),
        ("N-3", {"domain"}, "", (), "N-3"),
        ("Domain,2", {"domain"}, "2", ("Domain",), ""),
        ("2-3,domain", {"domain"}, "2-3,domain", (), ""),
        ("", {"domain"}, "", (), ""),
    ],
)
def test_flags_of_isolcpus(value: str, flags: set[str], listed: str, skipped: tuple[str, ...], invalid: str) -> None:
    (request,) = KernelLine(f"isolcpus={value}").requests
    assert (set(request.flags), request.listed, request.skipped, request.invalid) == (flags, listed, skipped, invalid)


def test_requests_keep_their_places() -> None:
    line = KernelLine("ro isolcpus=2-3 quiet nohz-full=4 isolcpus=5 isolcpus nohz_full")
    assert [(request.position, request.text) for request in line.requests] == [
        (2, "isolcpus=2-3"),
        (4, "nohz-full=4"),
        (5, "isolcpus=5"),
    ]


@pytest.mark.parametrize(
    ("line", "cpus"),
    [
        ("quiet", ""),
        ("isolcpus=2-3 nohz_full=5", "2-3,5"),
        ("isolcpus=managed_irq,2-3", "2-3"),
        ("isolcpus=2,x-y,99", "2,99"),
        ("isolcpus=2,4-N", "2"),
        ("isolcpus=9-8", "8-9"),
        ("rcu_nocbs=2 irqaffinity=0 foo.isolcpus=3 isolcpu=4", ""),
        ("isolcpus=bad9,2-3", "2-3"),
    ],
)
def test_named_cpus_also_where_the_kernel_ignores_them(line: str, cpus: str) -> None:
    assert str(KernelLine(line).named_cpus) == cpus


def test_values_of_other_parameters() -> None:
    line = KernelLine("rcu_nocbs=2-3 irqaffinity=0 rcu-nocbs=5 rcu_nocbs")
    assert (line.values("rcu_nocbs"), line.values("irqaffinity")) == (("2-3", "5"), ("0",))


@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        ("isolcpus=2-99", "isolcpus=2-3"),
        ("isolcpus=managed_irq,domain,2-99", "isolcpus=domain,managed_irq,2-3"),
        ("isolcpus=foo,nohz,2-99", "isolcpus=nohz,2-3"),
        ("nohz-full=2-99", "nohz_full=2-3"),
    ],
)
def test_corrected_parameter_keeps_the_known_flags(text: str, corrected: str) -> None:
    (request,) = KernelLine(text).requests
    assert request.with_cpus(CpuSet([2, 3])) == corrected


def test_huge_nonsense_is_read_quickly() -> None:
    line = KernelLine("isolcpus=" + "0-65535:1/2," * 5_000 + '"' * 9_000_000)
    assert len(line.named_cpus) == 32768
