# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Shells complete commands, options, values and services, and no name of a service does harm there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from epa_orchestrator.cli.completion import SHELLS, VARIABLE
from tests.unit.cli.builders import Command, Daemon
from tools.synthetic import Device, Shape, build, write_tree

#: For each shell, a program that prints what can follow on the command line $1, one word per line.
PROGRAMS = {
    "bash": """
        source <(epa-orchestrator completion bash)
        read -ra COMP_WORDS <<< "$1"; [[ $1 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _epa_orchestrator_completion epa-orchestrator
        printf '%s\\n' "${COMPREPLY[@]}"
        """,
    "zsh": """
        compdef() { }
        _files() { }
        _arguments() { print -rl -- ${${(f)1//[^A-Za-z0-9_.:@%+ -]/$'\\n'}} }
        source <(epa-orchestrator completion zsh)
        words=(${(s: :)1}); [[ $1 == *' ' ]] && words+=('')
        CURRENT=$#words
        _epa_orchestrator_completion
        """,
    "fish": "epa-orchestrator completion fish | source; complete -C $argv[1] | string replace -r '\\t.*' ''",
}

HOSTILE = (
    "vm-$(touch pwned)",
    "vm-`touch pwned`",
    "vm-';touch pwned;'",
    'vm-";touch pwned;"',
    "vm-\\$(touch pwned)",
    "vm-*",
    "vm- b",
    "vm-a;touch pwned",
    "vm-)) touch pwned",
)


class Shell:
    """A shell in a directory of its own, with the command on the PATH."""

    def __init__(self, name: str, command: Command, home: Path) -> None:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        program = home / "epa-orchestrator"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m epa_orchestrator "$@"\n')
        program.chmod(0o755)
        self.home = home
        self._name = name
        self._environment = command.process_environment(PATH=f"{home}:{os.environ['PATH']}", HOME=str(home))

    def complete(self, line: str) -> list[str]:
        options = ["--norc"] if self._name == "bash" else ["-f"] if self._name == "zsh" else ["--no-config"]
        argument = [line] if self._name == "fish" else [self._name, line]
        done = subprocess.run(
            [self._name, *options, "-c", PROGRAMS[self._name], *argument],
            env=self._environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        return [word for word in done.stdout.split() if word.strip("*: ")]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, daemon: Daemon, tmp_path: Path) -> Shell:
    return Shell(request.param, daemon, tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("epa-orchestrator al", {"allocate"}),
        ("epa-orchestrator release vm-", {"vm-1", "vm-2", "vm-10"}),
        ("epa-orchestrator allocate nova 2 --pool ", {"isolated", "general"}),
        ("epa-orchestrator explain nova 2 --cpu-thread-policy is", {"isolate"}),
        ("epa-orchestrator list --sort ", {"name", "cpus", "count", "node", "pool"}),
        ("epa-orchestrator completion z", {"zsh"}),
        ("epa-orchestrator serve --machine vm", {"vm-8"}),
        ("epa-orchestrator hugepages nova --size ", {"2M"}),
    ],
)
def test_words_that_can_follow(line: str, words: set[str], shell: Shell, daemon: Daemon) -> None:
    for service in ("vm-10", "vm-2", "vm-1"):
        daemon.client.allocate(service, 1)
    found = set(shell.complete(line))
    assert words <= found
    assert not {word for word in found if word.startswith("vm-")} - words


@pytest.mark.parametrize("name", SHELLS)
def test_near_is_completed_with_the_interfaces_of_the_host(name: str, offline: Command, tmp_path: Path) -> None:
    devices = [Device("0000:17:00.0", 1, "eth0"), Device("0000:18:00.0", 1, "enp2s0"), Device("0000:19:00.0", 1)]
    write_tree(build(Shape(devices=devices)), offline.base / "sys")
    (offline.base / "sys" / "class" / "net" / "lo").mkdir()
    offline.environment["EPA_SYSFS"] = str(offline.base / "sys")
    home = tmp_path / "home"
    home.mkdir()
    found = {*Shell(name, offline, home).complete("epa-orchestrator allocate nova 2 --near ")}
    assert {"eth0", "enp2s0"} <= found
    assert "lo" not in found


def test_hostile_names_are_not_completed(shell: Shell, daemon: Daemon) -> None:
    for name in HOSTILE[:5]:
        daemon.client.allocate(name, 1)
    for name in HOSTILE[5:]:
        daemon.client.set_hugepages(name, 0, 2048, 1)
    daemon.client.set_hugepages("vm-good", 0, 2048, 1)
    found = shell.complete("epa-orchestrator release vm-")
    assert [word for word in found if word.startswith("vm-")] == ["vm-good"]
    assert not (shell.home / "pwned").exists()


@pytest.mark.parametrize("name", SHELLS)
def test_completion_is_silent_without_a_daemon(name: str, offline: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert not {word for word in Shell(name, offline, home).complete("epa-orchestrator release vm-") if "vm" in word}


def test_services_are_in_natural_order(daemon: Daemon) -> None:
    for service in ("vm-10", "vm-2", "vm-1"):
        daemon.client.allocate(service, 1)
    words = "epa-orchestrator release vm"
    done = daemon.run_process(**{VARIABLE: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"})
    assert done.stdout.split() == ["vm-1", "vm-2", "vm-10"]


def test_options_of_typer_are_not_completed(daemon: Daemon) -> None:
    done = daemon.run_process(**{VARIABLE: "complete_bash", "COMP_WORDS": "epa-orchestrator --", "COMP_CWORD": "1"})
    assert done.stdout.split() == ["--version", "--help"]


@pytest.mark.parametrize("shell", ["powershell", "", "Bash"])
def test_other_shell_is_wrong_use(shell: str, offline: Command) -> None:
    assert "bash, zsh, fish" in offline.misuse("completion", shell)
