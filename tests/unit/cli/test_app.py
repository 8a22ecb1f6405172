# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The command line as a whole: help, version, wrong use, and output that cannot be shown or written."""

from __future__ import annotations

import pytest
from typer.main import get_command

from epa_orchestrator import __version__
from epa_orchestrator.cli.app import application
from tests.unit.cli.builders import Command, Daemon


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["allocatee", "a"], "allocatee"),
        (["--no-such"], "--no-such"),
        (["status", "--no-such"], "--no-such"),
        (["status", "extra"], "extra"),
        (["list", "--pool"], "--pool"),
        (["allocate"], "service"),
        (["allocate", "a", "many"], "count"),
        (["allocate", "a", "1.5"], "count"),
        (["allocate", "a", "-1"], "-1"),
        (["allocate", "a"], "say how many cpus: give count, --percent or --default-size"),
        (["allocate", "a", "--numa-node", "0"], "say how many cpus"),
        (["allocate", "a", "--dry-run"], "say how many cpus"),
        (["allocate", "a", "0"], "count must be at least 1, not 0: --default-size gives the default size"),
        (["allocate", "a", "2", "--default-size"], "--default-size goes with neither count, --percent nor"),
        (["allocate", "a", "--percent", "10", "--default-size"], "--default-size goes with neither"),
        (["allocate", "a", "--numa-node", "0", "--default-size"], "--default-size goes with neither"),
        (["allocate", "a", "--", "-1"], "count"),
        (["allocate", "a", "1", "2"], "2"),
        (["allocate", "a", "--percent", "0"], "--percent"),
        (["allocate", "a", "--percent", "101"], "--percent"),
        (["allocate", "a", "--percent", "50%"], "--percent"),
        (["allocate", "a", "1", "--numa-node", "-1"], "--numa-node"),
        (["allocate", "a", "2", "--percent", "10"], "--percent goes with neither count nor --numa-node"),
        (["allocate", "a", "--percent", "10", "--numa-node", "0"], "--percent goes with neither"),
        (["allocate", "a", "2", "--near", "0", "--numa-node", "0"], "--near does not go with --numa-node"),
        (["allocate", "a", str(2**31)], "'count': must be from 0 to 2147483647, not '2147483648'"),
        (["allocate", "a", "9" * 400], "'count': must be from 0 to"),
        (["allocate", "a", "2", "--numa-node", str(2**31)], "'--numa-node': must be from 0 to"),
        (["allocate", "a", "2", "--pool", "foo"], "'--pool': 'foo' is not one of isolated, general"),
        (["allocate", "a", "2", "--cpu-thread-policy", "foo"], "'--cpu-thread-policy': 'foo' is not one of"),
        (["allocate", "a", "2", "--numa-policy", "foo"], "'--numa-policy': 'foo' is not one of"),
        (["allocate", "a", "2", "--uncore-cache-alignment", "foo"], "'--uncore-cache-alignment': 'foo' is not one"),
        (["allocate", "a", "2", "--preemption-policy", "foo"], "'--preemption-policy': 'foo' is not one of"),
        (["allocate", "a\nb", "2"], "'service': 'a\N{REPLACEMENT CHARACTER}b' holds characters that cannot"),
        (["allocate", "\u202eb", "2"], "'service': '\N{REPLACEMENT CHARACTER}b' holds characters that cannot"),
        (["list", "--pool", "foo"], "'--pool': 'foo' is not one of"),
        (["list", "--sort", "nodes"], "'--sort': 'nodes' is not one of name, cpus, count, node, pool; did you mean"),
        (["list", "-o", "yaml"], "'yaml' is not one of wide, json, name, csv"),
        (["list", "--json", "-o", "csv"], "--json does not go with -o csv"),
        (["list", "--cpu", "-1"], "'--cpu': must be from 0 to"),
        (["list", "--node", "x"], "--node"),
        (["explain"], "service"),
        (["explain", "a", "-1"], "-1"),
        (["explain", "a"], "say how many cpus"),
        (["explain", "a", "0"], "count must be at least 1"),
        (["explain", "a", "2", "--default-size"], "--default-size goes with neither"),
        (["explain", "a", "2", "--percent", "10"], "--percent goes with neither count nor --numa-node"),
        (["explain", "a", "2", "--dry-run"], "--dry-run"),
        (["release"], "service"),
        (["release", "a", "--numa-node", "x"], "--numa-node"),
        (["hugepages", "a"], "give service and --count"),
        (["hugepages", "--count", "1"], "give service and --count"),
        (["hugepages", "a", "--count", "-2"], "--count"),
        (["hugepages", "a", "--count", "1", "--size", "0"], "--size"),
        (["hugepages", "a", "--count", "1", "--node", "-1"], "--node"),
        (["hugepages", "a", "--count", "0"], "'--count': must be from 1 to 2147483647, or -1"),
        (["hugepages", "a", "--count", "1", "--size", "2Q"], "'--size': '2q' is not a size such as 2m or 1g"),
        (["hugepages", "a", "--count", "1", "--size", "9999G"], "'--size': 9999g is larger than any page"),
        (["hugepages", "--size", "x"], "'--size': 'x' is not a size"),
        (["completion", "tcsh"], "'shell': there is completion for bash, zsh, fish only"),
        (["history", "--limit", "0"], "--limit"),
        (["history", "--limit", str(2**64)], "--limit"),
        (["serve", "extra"], "extra"),
    ],
)
def test_exit_code_of_wrong_use_is_2(arguments: list[str], names: str, offline: Command) -> None:
    """Wrong use is found before a request is sent: no daemon runs here. Most of the sentences are Typer's."""
    sentence = offline.misuse(*arguments)
    assert names in " ".join(sentence.rpartition("rror")[2].lower().split())


COMMANDS: tuple[str, ...] = tuple(getattr(get_command(application()), "commands"))  # noqa: B009


@pytest.mark.parametrize(
    ("words", "names"), [(["why", "serve"], ["serve", "why"]), (["bogus"], list(COMMANDS)), ([], list(COMMANDS))]
)
def test_application_has_the_commands_that_are_named_or_all(words: list[str], names: list[str]) -> None:
    commands: dict[str, object] = getattr(get_command(application(words)), "commands")  # noqa: B009
    assert sorted(commands) == sorted(names)


def test_version(offline: Command) -> None:
    assert offline.text("--version") == f"{__version__}\n"


def test_help_lists_every_command(offline: Command) -> None:
    lines = offline.text("--help").partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines if line[2:3].strip()] == list(COMMANDS)


def test_help_explains_the_exit_codes(offline: Command) -> None:
    assert "3 no daemon answers" in " ".join(offline.text("--help").split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str, offline: Command) -> None:
    assert offline.text(command, "--help").startswith(f"Usage: epa-orchestrator {command} ")


def test_module_runs_the_command(offline: Command) -> None:
    result = offline.run_process("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("arguments", [["list"], ["allocate", "nova", "2", "--dry-run"], ["history"]])
def test_character_that_the_terminal_cannot_show_is_escaped(arguments: list[str], daemon: Daemon) -> None:
    daemon.run("allocate", "nov\u00e4", "2")
    result = daemon.run_process(*arguments, PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert arguments[0] == "allocate" or "nov\\xe4" in result.stdout


#: Names that the daemon accepts, and that Rich could read as markup or emoji codes.
MARKUP = ("[red]x[/red]", "[/]", "[link=file:///x]y[/link]", ":smile:", "\\[b]", "'; rm -rf / #")


@pytest.mark.parametrize("name", MARKUP)
def test_markup_in_a_service_name_is_shown_unchanged(name: str, daemon: Daemon) -> None:
    assert daemon.granted("allocate", name, "2")[0] == "2-3"
    daemon.run("hugepages", name, "--count", "1")
    for arguments in (["list"], ["hugepages"], ["history", name]):
        assert name in daemon.run(*arguments).stdout
    assert daemon.json("list")["allocations"][0]["service_name"] == name
    released, note = daemon.granted("release", name)
    assert released == "released (6 of 6 free)"
    assert name in note
