# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Commands that a text suggests can be copied into a shell, whatever the service is called."""

from __future__ import annotations

import shlex

import pytest

from epa_orchestrator.cli.suggestions import command_line, removal_of_record
from tests.unit.cli.builders import Daemon

NAMES = ("nova", "a b", "$(reboot)", "-rf", "--help", "'")


def test_options_follow_the_service() -> None:
    assert command_line("allocate", "nova", 2, options=("--near", 0)) == "epa-orchestrator allocate nova 2 --near 0"


def test_service_that_looks_like_an_option_is_none() -> None:
    assert command_line("allocate", "-rf", 2, options=("--near", 0)) == "epa-orchestrator allocate --near 0 -- -rf 2"


@pytest.mark.parametrize("name", NAMES)
def test_shell_reads_the_service_as_one_word(name: str) -> None:
    assert name in shlex.split(command_line("release", name))


@pytest.mark.parametrize("name", NAMES)
def test_removal_of_a_record_removes_it(name: str, daemon: Daemon) -> None:
    daemon.client.set_hugepages(name, 0, 2048, 1)
    assert daemon.run(*shlex.split(removal_of_record(name, 0, "2M"))[1:]).exit_code == 0
    assert daemon.client.memory_info().numa_hugepages["node0"].allocations == {}
