# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Shell assignments are read as a shell would, and nothing is executed."""

from __future__ import annotations

import subprocess

import pytest

from epa_orchestrator.isolation.shell_settings import Uncertain, read_settings

#: Ubuntu 24.04's own file, shortened.
UBUNTU = """# If you change this file, run 'update-grub' afterwards to update
GRUB_DEFAULT=0
GRUB_TIMEOUT_STYLE=hidden
GRUB_DISTRIBUTOR=`( . /etc/os-release; echo ${NAME:-Ubuntu} ) 2>/dev/null || echo Ubuntu`
A="quiet splash"
B=""
#GRUB_BADRAM="0x01234567,0xfefefefe"
"""

#: Files that a shell and this reader understand alike, one after the other, and the values of A and B then.
READABLE = [
    ([UBUNTU], "quiet splash", ""),
    ([UBUNTU, 'A="$A isolcpus=2-3"\n'], "quiet splash isolcpus=2-3", ""),
    ([UBUNTU, "A='$A isolcpus=2-3'\n"], "$A isolcpus=2-3", ""),
    (['A="x"\nB="${A}y$A z"\n'], "x", "xyx z"),
    (["A=x'y z'\"w v\"\\ u\n"], "xy zw v u", ""),
    (["A=1; B=2 # a comment\n"], "1", "2"),
    (["export A=1\nexport B\n"], "1", ""),
    (["A=1\nunset A GRUB_TERMINAL\n"], "", ""),
    (['A="one \\\ntwo"\n'], "one two", ""),
    (['A="a\nb"\n'], "a\nb", ""),
    (['A="\\$tuned_params \\"q\\" \\x"\n'], '$tuned_params "q" \\x', ""),
    (["A=a#b\n"], "a#b", ""),
    (["C=1\nA=$C$UNSET_ANYWHERE\n"], "1", ""),
    (["if true; then C=1; fi\n", "A=2\n"], "2", ""),
    (['A="5 $ each"\n'], "5 $ each", ""),
]


@pytest.mark.parametrize(("texts", "a", "b"), READABLE)
def test_values_are_those_that_a_shell_finds(texts: list[str], a: str, b: str) -> None:
    assert read_settings({str(number): text for number, text in enumerate(texts)}, ["A", "B"]) == [a, b]
    script = "\n".join(texts) + '\nprintf "%s|%s" "$A" "$B"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=30, env={})
    assert shell.stdout == f"{a}|{b}"


@pytest.mark.parametrize(
    "text",
    [
        "A=$(cat /etc/hostname)\n",
        "A=`hostname`\n",
        'A="x $(hostname)"\n',
        'A="x `hostname`"\n',
        'A="${A:+$A }isolcpus=2"\n',
        "if [ -e /x ]; then A=1; fi\n",
        "if [ -e /x ]; then\n  A=1\nfi\n",
        ". /etc/default/more\n",
        "eval x\n",
        "A=$1\n",
        "A='never closed\n",
        'A="never closed\n',
        "A=1 command\n",
        "C=`x`\nA=$C\n",
        "f() { A=1; }\nf\n",
        "A=(1 2)\n",
    ],
)
def test_what_only_a_shell_can_evaluate_is_uncertain(text: str) -> None:
    assert read_settings({"etc/default/grub": text}, ["A", "B"]) == Uncertain("etc/default/grub")


def test_a_later_file_makes_an_uncertain_value_certain() -> None:
    files = {"a": "C=`x`\n", "b": "C=1\nA=$C\n"}
    assert read_settings(files, ["A"]) == ["1"]


def test_append_adds_to_the_value() -> None:
    assert read_settings({"a": 'A=x\nA+=" y"\n'}, ["A"]) == ["x y"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\0", [""]),
        ("=", [""]),
        ("A", Uncertain("a")),
        ("A=A=A=", ["A=A="]),
        ("A=\\", [""]),
        ("'", [""]),
        ('"', [""]),
        ("$", [""]),
        ("A=$", ["$"]),
        ("A=${", Uncertain("a")),
        ('A="$', Uncertain("a")),
        ("\\\n", [""]),
        ("#", [""]),
        (";;;", [""]),
        ("'\"`" * 50_000, [""]),
    ],
)
def test_nonsense_has_no_traceback(text: str, expected: list[str] | Uncertain) -> None:
    assert read_settings({"a": text}, ["A"]) == expected


def test_uncertain_says_what_is_needed() -> None:
    assert Uncertain("etc/default/grub").needs == "a shell to evaluate /etc/default/grub"
