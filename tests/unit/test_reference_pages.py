# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The reference has what the code has: options, commands, exit codes, variables, events, and the parts of the snap."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import pytest
import typer
import yaml

from epa_orchestrator.allocation.option_values import as_written
from epa_orchestrator.allocation.settings import Settings, SettingsError, option_names, parse_settings
from epa_orchestrator.allocation.usable_settings import usable_settings
from epa_orchestrator.cli.app import application
from epa_orchestrator.daemon.peer_log import MAX_LINES, MAX_LINES_OF_A_USER
from epa_orchestrator.daemon.socket_file import SOCKET_MODE
from epa_orchestrator.protocol.requests import Mutation
from epa_orchestrator.protocol.watching import WatchEvent
from epa_orchestrator.state.database_files import FILE_NAME, INDEX, LOG, NOISE
from epa_orchestrator.state.history import MAX_EVENTS, MAX_HISTORY_BYTES
from tests.service import Service, short_directory

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = ROOT / "docs" / "reference"
SOURCES: Final = ROOT / "src" / "epa_orchestrator"
SNAPCRAFT: Final[dict[str, Any]] = yaml.safe_load((ROOT / "snap" / "snapcraft.yaml").read_text(encoding="utf-8"))


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the page's table below this row of headings, each as its cells."""
    _, rest = (REFERENCE / page).read_text(encoding="utf-8").split(f"| {heading} |\n", 1)
    rows = rest.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def options() -> dict[str, str]:
    """Each option of the table, with the text of its values: a row with several options is as many options."""
    found: dict[str, str] = {}
    for names, values, _ in table("options.md", "option | values (default first) | meaning"):
        options = re.findall(r"`([^`]+)`", names)
        alone = values.split(", ") if len(options) > 1 and re.fullmatch(r"\d+(, \d+)*", values) else []
        found |= dict(zip(options, alone, strict=True)) if alone else dict.fromkeys(options, values)
    return found


def choices(annotation: Any) -> set[str]:
    """The values of an option that has a fixed set of them; an empty set for any other."""
    if annotation is bool:
        return {"true", "false"}
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return {value for each in get_args(annotation) for value in choices(each)}
    return set()


def test_every_option_is_in_the_table() -> None:
    assert options().keys() == {field.alias for field in Settings.model_fields.values()}


def test_the_default_is_the_first_value() -> None:
    shown = {option: values.split(", ")[0].strip("`") for option, values in options().items()}
    # Unset, the log level is that of the environment, whose default is info.
    defaults = {
        option: "info" if option == "log-level" else str(as_written(Settings().value(option))).lower() or "empty"
        for option in option_names()
    }
    assert shown == defaults


def test_all_values_of_an_option_are_in_the_table() -> None:
    shown = options()
    for field in Settings.model_fields.values():
        assert field.alias is not None
        if expected := choices(field.annotation):
            assert set(re.findall(r"`([^`]+)`", shown[field.alias])) == expected, field.alias


def test_every_command_is_in_the_table() -> None:
    rows = table("command-line.md", "command | what it does")
    shown = {name for names, _ in rows for name in re.findall(r"`([^`]+)`", names)}
    commands = typer.main.get_command(application())
    assert shown == set(getattr(commands, "commands"))  # noqa: B009  # click's groups have it, Typer's type does not


# --- options ---


def test_contradictions_are_those_of_the_settings() -> None:
    choices_of = {
        field.alias: sorted(choices(field.annotation))
        for field in Settings.model_fields.values()
        if field.alias is not None and field.annotation is not bool
    }
    pairs = {
        frozenset((f"{one}={value}", f"{other}={other_value}"))
        for one, other in combinations(choices_of, 2)
        for value, other_value in product(choices_of[one], choices_of[other])
        if is_refused({one: value, other: other_value})
    }
    rows = table("options.md", "rule | contradicts")
    assert {frozenset(cell.strip("`") for cell in row) for row in rows} == pairs
    assert len(rows) == len(pairs) > 0


def is_refused(document: dict[str, Any]) -> bool:
    try:
        parse_settings(document)
    except SettingsError:
        return True
    return False


def test_first_of_two_that_contradict_each_other_is_used() -> None:
    for rule, other in table("options.md", "rule | contradicts"):
        given = dict(cell.strip("`").split("=") for cell in (other, rule))
        settings = usable_settings(given)
        assert settings.unusable.keys() == {other.strip("`").split("=")[0]}


def test_unusable_options_with_another_value_than_the_default_are_in_the_table() -> None:
    shown = {
        option.strip("`"): instead for option, instead in table("options.md", "unusable option | until it is corrected")
    }
    for option in option_names():
        settings = usable_settings({option: {}})
        (warning,) = settings.warnings
        value, default = settings.value(option), Settings().value(option)
        if value != default:
            assert shown.pop(option) == f"`{value}`"
        elif "granted" in warning or "grants" in warning:
            said = warning.rpartition("until this is corrected, ")[2]
            assert shown.pop(option).replace("`", "").replace("the pool", "pool").startswith(said)
    assert shown == {}


# --- the command line ---


def exit_codes() -> set[int]:
    """The constants of the command line, and what click has of its own: done, and wrong use."""
    found = {0, typer.BadParameter("").exit_code}
    for path in sorted((SOURCES / "cli").glob("*.py")):
        for name, code in re.findall(r"^(EXIT_\w+): Final = (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert name
            found.add(int(code))
    return found


def test_every_exit_code_is_in_the_table_and_in_the_help() -> None:
    codes = exit_codes()
    assert {int(code) for code, _ in table("command-line.md", "code | meaning")} == codes
    text = typer.main.get_command(application()).help or ""
    sentence = " ".join(text.partition("Exit codes: ")[2].partition("\n\n")[0].split())
    assert {int(code) for code in re.findall(r"(?:^|, )(\d+) ", sentence)} == codes


def test_all_commands_but_two_take_json_and_a_socket() -> None:
    commands: dict[str, Any] = getattr(typer.main.get_command(application()), "commands")  # noqa: B009
    for option in ("--json", "--socket"):
        without = {name for name, each in commands.items() if not any(option in one.opts for one in each.params)}
        assert without == {"serve", "completion"}


def variables() -> Iterator[str]:
    """The environment variables that the code reads."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCES.rglob("*.py"))}
    constants = {name: value for tree in trees.values() for name, value in named_texts(tree)}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"), args=[name, *_]):
                    pass
                case ast.Compare(left=name, ops=[ast.In()], comparators=[ast.Attribute(attr="environ")]):
                    pass
                case ast.keyword(arg="envvar", value=name):
                    pass
                case ast.Call(func=ast.Name(id="_number"), args=[name, *_]) if path.name == "systemd.py":
                    pass
                case _:
                    continue
            match name:
                case ast.Constant(value=str() as variable):
                    yield variable
                case ast.Name(id=constant) if constant in constants:
                    yield constants[constant]
                case _:
                    pass


def named_texts(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The constants of a module that are texts."""
    for node in tree.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str() as text)):
                yield name, text
            case _:
                pass


def test_every_variable_that_the_code_reads_is_in_a_table() -> None:
    rows = [
        *table("command-line.md", "variable | meaning | outside a snap, if unset"),
        *table("command-line.md", "variable | set by | meaning"),
    ]
    shown = [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]
    read = set(variables())
    assert {"EPA_SOCKET", "EPA_FOLD", "WATCHDOG_USEC", "_EPA_ORCHESTRATOR_COMPLETE"} < read
    assert set(shown) == read
    assert len(shown) == len(set(shown))


# --- events ---


def test_every_action_of_an_event_is_in_the_table() -> None:
    mutations = {get_args(model.model_fields["action"].annotation)[0] for model in get_args(Mutation)}
    assert {cell.strip("`") for cell, _ in table("events.md", "action | what has changed")} == mutations | {"import"}


def test_every_event_of_a_watching_client_is_in_the_table() -> None:
    events = {get_args(model.model_fields["event"].annotation)[0] for model in get_args(WatchEvent)}
    assert {re.findall(r"`(\w+)`", cell)[0] for cell, _ in table("events.md", "event | when")} == events


def test_events_has_the_bounds_of_history_and_log() -> None:
    page = (REFERENCE / "events.md").read_text(encoding="utf-8")
    assert f"{MAX_EVENTS:,} events" in page
    assert f"{MAX_HISTORY_BYTES // 2**20} MiB" in page
    assert f"at most {MAX_LINES_OF_A_USER} lines a second are written of each and {MAX_LINES} of all" in page


# --- the snap ---


@pytest.mark.parametrize(
    ("heading", "member"),
    [
        ("app | what it is", "apps"),
        ("plug | interface | what needs it", "plugs"),
        ("slot | interface | what it gives", "slots"),
        ("hook | what it does", "hooks"),
    ],
)
def test_parts_of_the_snap_are_in_a_table(heading: str, member: str) -> None:
    parts = set(SNAPCRAFT[member])
    if member == "plugs":  # those that have the name of their interface are only named where they are used
        parts |= {plug for app in SNAPCRAFT["apps"].values() for plug in app["plugs"]}
    assert {row[0].strip("`") for row in table("snap.md", heading)} == parts


def test_plugs_have_their_interface_in_the_table() -> None:
    for plug, interface, _ in table("snap.md", "plug | interface | what needs it"):
        declared = SNAPCRAFT["plugs"].get(plug.strip("`"), {"interface": plug.strip("`")})
        assert interface.strip("`") == declared["interface"]


def files() -> set[str]:
    """The files of the snap, by their names in the table."""
    return {name for row in table("snap.md", "file | what it is") for name in re.findall(r"`([^`]+)`", row[0])}


def test_files_have_the_names_of_the_code() -> None:
    for name in (FILE_NAME, FILE_NAME + LOG, FILE_NAME + INDEX, NOISE):
        assert f"$SNAP_COMMON/{name}" in files()
    assert SNAPCRAFT["environment"]["EPA_SETTINGS"] in files()
    assert SNAPCRAFT["apps"]["daemon"]["sockets"]["epa"]["listen-stream"] in files()
    assert f"mode {SOCKET_MODE:04o}" in (REFERENCE / "snap.md").read_text(encoding="utf-8")


def test_daemon_has_no_other_files() -> None:
    with short_directory() as directory:
        data, common = directory / "42", directory / "common"
        service = Service(data, common, "--machine", "vm-8").start()
        try:
            service.client.allocate("nova", 2)
            found = {f"$SNAP_DATA/{path.relative_to(data)}" for path in data.rglob("*") if not path.is_dir()}
            found |= {f"$SNAP_COMMON/{path.relative_to(common)}" for path in common.rglob("*") if not path.is_dir()}
        finally:
            service.stop()
        assert (common / "lock").exists(), "it stays"
    # The log is the test's, and the mark tells a recorded machine's state from that of a host.
    assert found - {"$SNAP_COMMON/log", "$SNAP_COMMON/recorded-machine"} <= files()
    assert {"$SNAP_DATA/data/epa.sock", "$SNAP_COMMON/state.db", "$SNAP_COMMON/lock"} <= found
