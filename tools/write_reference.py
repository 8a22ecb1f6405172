# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Writes the parts of the reference that other files have: `python tools/write_reference.py [--check]`.

It writes what the pages of docs/reference have between `<!-- from SOURCE: PART -->` and `<!-- end -->`: actions and
options from charmcraft.yaml, commands from the command line, alerts from the alert rules.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import typer  # noqa: E402  (importable only now, when run as a script)
import yaml  # noqa: E402
from typer.main import get_command  # noqa: E402

from epa_orchestrator.allocation.settings import option_names  # noqa: E402
from epa_orchestrator.cli.app import application  # noqa: E402
from epa_orchestrator.units import count_of  # noqa: E402
from tools.generated import write_or_check  # noqa: E402

REFERENCE: Final = ROOT / "docs" / "reference"
RULES: Final = ROOT / "src" / "prometheus_alert_rules" / "epa-orchestrator.rules"
CHARMCRAFT: Final[dict[str, Any]] = yaml.safe_load((ROOT / "charmcraft.yaml").read_text(encoding="utf-8"))

_PART: Final = re.compile(r"(<!-- from ([^:\n]+): ([a-z -]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
#: An option in running text, such as --json.
_OPTION: Final = re.compile(r"(?<![\w`-])(--?[a-z][a-z-]*(?: (?:json|wide))?)(?![\w`])")
#: Where a long expression of Prometheus continues on the next line.
_AND: Final = re.compile(r" (?=and |> 0\.)")
#: A command in quotes, and the path of a page.
_COMMAND: Final = re.compile(r"'((?:sudo |snap |juju )?(?:epa-orchestrator|snap|juju) [^']+)'")
_PAGE: Final = re.compile(r"docs/([a-z-]+)/([a-z-]+)\.md")
#: A label or value that Prometheus fills in, and what a reader sees in its place.
_LABELS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r" of \{\{ \$labels\.job \}\}"), " of the daemon"),
    (re.compile(r"(?:the EPA orchestrator|The EPA orchestrator) on \{\{ \$labels\.instance \}\}"), "The daemon"),
    (re.compile(r"\{\{ \$labels\.instance \}\}(?: \{\{ \$labels\.juju_unit \}\})?"), "the machine"),
    (re.compile(r"\{\{ \$labels\.pool \}\}"), "POOL"),
    (re.compile(r"\{\{ \$labels\.check \}\}"), "CHECK"),
    (re.compile(r"\{\{ \$value[^}]*\}\}"), "N"),
)


def parts() -> dict[tuple[str, str], Callable[[], Iterator[str]]]:
    """What writes each part, by its source and name; lines of Markdown."""
    found: dict[tuple[str, str], Callable[[], Iterator[str]]] = {
        ("charmcraft.yaml", f"action {name}"): lambda action=action: _action(action)
        for name, action in CHARMCRAFT["actions"].items()
    }
    return found | {
        ("charmcraft.yaml", "options of the charm"): _options,
        ("the command line", "commands"): _commands,
        ("the alert rules", "alerts"): _alerts,
    }


def fill_in(page: str) -> str:
    """The page with all parts as they are now; a part that nothing writes ends the program."""
    known = parts()

    def write(match: re.Match[str]) -> str:
        start, source, name, end = match.groups()
        if (source, name) not in known:
            raise SystemExit(f"nothing writes '{name}' from {source}: see parts() in tools/write_reference.py")
        lines = "\n".join(known[source, name]()).rstrip("\n")
        return f"{start}\n{lines}\n\n{end}"

    return _PART.sub(write, page)


def _action(action: dict[str, Any]) -> Iterator[str]:
    """An action's description, and its parameters."""
    yield _paragraph(action["description"])
    if parameters := action.get("params"):
        required = action.get("required", ())
        yield ""
        yield from _table(
            ("parameter", "values", "default", "meaning"),
            [
                (
                    f"`{name}`",
                    _values(each),
                    "required" if name in required else _default(each),
                    _text(each["description"]),
                )
                for name, each in parameters.items()
            ],
        )


def _values(parameter: dict[str, Any]) -> str:
    """The values that a parameter may have."""
    match parameter:
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "boolean"}:
            return "`true`, `false`"
        case {"minimum": least, "maximum": most}:
            return f"{parameter['type']} from {least} to {most}"
        case {"minimum": least}:
            return f"{parameter['type']} from {least}"
        case _:
            return parameter["type"]


def _default(each: dict[str, Any]) -> str:
    """The default of a parameter or option; nothing if there is none."""
    value = each.get("default")
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else "empty"


def _options() -> Iterator[str]:
    """The options that only the charm has."""
    options = CHARMCRAFT["config"]["options"]
    rows = [
        (f"`{name}`", each["type"], _default(each), _text(each["description"]))
        for name, each in options.items()
        if name not in option_names()
    ]
    yield from _table(("option", "type", "default", "meaning"), rows)


def _commands() -> Iterator[str]:
    """The help of every command."""
    root: Any = get_command(application())
    for name, command in root.commands.items():
        if command.hidden:
            continue
        context = typer.Context(command, info_name=name, help_option_names=["--help", "-h"])
        yield f"## {name}"
        yield ""
        yield "```"
        yield f"epa-orchestrator {name} {' '.join(command.collect_usage_pieces(context))}"
        yield "```"
        for paragraph in command.help.split("\n\n"):
            yield ""
            yield _paragraph(paragraph)
        rows = [row for parameter in command.params if (row := _parameter(parameter, context)) is not None]
        yield ""
        yield from _table(("argument or option", "meaning"), rows)
        if command.examples:
            yield ""
            yield "Examples:"
            yield ""
            yield "```"
            yield from command.examples
            yield "```"
        yield ""


def _parameter(parameter: Any, context: Any) -> tuple[str, str] | None:
    """The row of an argument or option; None for one that the help does not show."""
    record = parameter.get_help_record(context)
    if record is None:
        return None
    meaning = [_text(parameter.help)]
    if parameter.required:
        meaning.append("Required.")
    elif isinstance(parameter.default, str | int) and not isinstance(parameter.default, bool):
        meaning.append(f"By default `{parameter.default}`.")
    if parameter.envvar:
        meaning.append(f"The variable `{parameter.envvar}` does the same.")
    return ", ".join(f"`{name}`" for name in record[0].split(", ")), " ".join(meaning)


def _alerts() -> Iterator[str]:
    """Each alert with its severity, its condition and what to do."""
    for rule in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]:
        yield f"## {rule['alert']}"
        yield ""
        summary = _text(_without_labels(rule["annotations"]["summary"]))
        yield f"**{summary}** Severity: {rule['labels']['severity']}."
        yield ""
        yield _paragraph(_without_labels(rule["annotations"]["description"]))
        yield ""
        yield f"It fires when this holds for {count_of(int(rule['for'].removesuffix('m')), 'minute')}:"
        yield ""
        yield "```promql"
        yield _AND.sub("\n", rule["expr"])
        yield "```"
        yield ""


def _without_labels(text: str) -> str:
    """An annotation as a reader sees it without a machine at hand."""
    for pattern, instead in _LABELS:
        text = pattern.sub(instead, text)
    return text


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (heading, ("---",) * len(heading), *rows):
        cells = [cell.replace("|", "\\|") for cell in row]
        yield f"| {' | '.join(cells)} |"


def _paragraph(text: str) -> str:
    """A paragraph of a page, in lines."""
    return textwrap.fill(_text(text), 119, break_long_words=False, break_on_hyphens=False)


def _text(paragraph: str) -> str:
    """A paragraph on one line, with options as code and without a meaning for Markdown that it does not want."""
    line = _PAGE.sub(r"the page [\2](../\1/\2.md)", _COMMAND.sub(r"`\1`", " ".join(paragraph.split())))
    pieces = line.split("`")
    pieces[::2] = [_OPTION.sub(r"`\1`", re.sub(r"([*<])", r"\\\1", piece)) for piece in pieces[::2]]
    return "`".join(pieces)


def main() -> int:
    """Write the pages, or with --check compare them; the exit code is 1 if one is out of date."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md"))}
    return write_or_check("write_reference.py", __doc__, {path: fill_in(text) for path, text in pages.items()})


if __name__ == "__main__":
    sys.exit(main())
