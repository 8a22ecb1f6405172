# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Writes what ships next to the command, from the command itself: `python tools/write_manual.py [--check]`.

snap/local/epa-orchestrator.1 is the manual page, with the text of every `--help`. snap/local/completion.bash is the
script that snapd runs to complete the command in bash.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import typer  # noqa: E402  (importable only now, when run as a script)
from typer.main import get_command  # noqa: E402

from epa_orchestrator import __version__  # noqa: E402
from epa_orchestrator.cli.app import application  # noqa: E402
from epa_orchestrator.cli.completion import script  # noqa: E402
from tools.generated import write_or_check  # noqa: E402

MANUAL: Final = ROOT / "snap" / "local" / "epa-orchestrator.1"
COMPLETION: Final = ROOT / "snap" / "local" / "completion.bash"

_ENVIRONMENT: Final = {
    "EPA_SOCKET": "The path of the daemon's socket, as --socket.",
    "NO_COLOR": "If set, a terminal gets no colours and no bold letters.",
    "COLUMNS": "The width of tables on a terminal.",
}
_SEE_ALSO: Final = ("taskset", "lscpu", "lstopo", "numactl")


def manual() -> str:
    """The manual page, in the macros of man(7)."""
    return "\n".join([*_head(), *_commands(), *_tail()]) + "\n"


def completion() -> str:
    """The script for bash inside the snap, where the command is not on the PATH."""
    text = script("bash")
    if text.count(" $1 ) )") != 1:
        raise SystemExit("The script for bash has another form: adapt tools/write_manual.py")
    return (
        "# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors\n# SPDX-License-Identifier: Apache-2.0\n"
        "# Written by tools/write_manual.py.\n"
        + text.replace(" $1 ) )", ' "$SNAP/bin/epa-orchestrator" ) )').rstrip()
        + "\n"
    )


def _head() -> Iterator[str]:
    root: Any = get_command(application())
    first, *more = root.help.split("\n\n")
    yield f'.TH EPA-ORCHESTRATOR 1 "" "epa-orchestrator {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "epa\\-orchestrator \\- hand out a host's isolated CPUs and hugepages to its services"
    yield ".SH SYNOPSIS"
    yield ".B epa\\-orchestrator"
    yield ".I COMMAND\n[ARGUMENTS]"
    yield ".SH DESCRIPTION"
    yield _text(first)
    for paragraph in more:
        if not paragraph.startswith("Exit codes: "):
            yield f".PP\n{_text(paragraph)}"
    yield ".PP\nResults go to stdout, everything else to stderr. Where stdout is no terminal, tables are plain columns."
    yield ".SH EXIT STATUS"
    (codes,) = (paragraph for paragraph in more if paragraph.startswith("Exit codes: "))
    yield _text(codes.removeprefix("Exit codes: "))


def _commands() -> Iterator[str]:
    root: Any = get_command(application())
    yield ".SH COMMANDS"
    for name, command in root.commands.items():
        if command.hidden:
            continue
        context = typer.Context(command, info_name=name, help_option_names=["--help", "-h"])
        usage = " ".join(command.collect_usage_pieces(context))
        yield f'.SS "epa\\-orchestrator {_escape(name)} {_escape(usage)}"'
        for number, paragraph in enumerate(command.help.split("\n\n")):
            yield (".PP\n" if number else "") + _text(paragraph)
        for parameter in command.params:
            if (record := parameter.get_help_record(context)) is not None:
                yield f".TP\n.B {_escape(record[0])}\n{_text(record[1])}"
        if examples := getattr(command, "examples", ()):
            yield ".PP\nExamples:\n.PP\n.nf\n.RS"
            yield from (_escape(line) for line in examples)
            yield ".RE\n.fi"


def _tail() -> Iterator[str]:
    yield ".SH ENVIRONMENT"
    for name, meaning in _ENVIRONMENT.items():
        yield f".TP\n.B {name}\n{_text(meaning)}"
    yield ".SH SEE ALSO"
    yield ",\n".join(f".BR {name} (1)" for name in _SEE_ALSO).replace(",\n", " ,\n")


def _text(paragraph: str) -> str:
    return _escape(" ".join(paragraph.split()))


def _escape(text: str) -> str:
    """Text without a meaning for roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return re.sub(r"^(?=\.)", r"\\&", escaped)


def main() -> int:
    """Write both files, or with --check compare them; the exit code is 1 if one is out of date."""
    return write_or_check("write_manual.py", __doc__, {MANUAL: manual(), COMPLETION: completion()})


if __name__ == "__main__":
    sys.exit(main())
