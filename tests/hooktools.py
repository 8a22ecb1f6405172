#!/usr/bin/env python3
"""Stands in for Juju's hook tools: answers a charm's questions from a file, and records what it was told.

Runs under each tool's name, wherever the charm runs, so it is one file that needs nothing but Python. `EPA_HOOKS` names
a directory: `world.json` holds the answers, `told.jsonl` gets a line [tool, arguments, standard input] for each call
that tells something. Only juju-log, called a dozen times in every hook, is a shell's: it adds to `logged`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

#: Tools that only tell Juju something.
TELLING = (
    "status-set",
    "application-version-set",
    "relation-set",
    "action-set",
    "action-fail",
    "action-log",
    "state-set",
    "open-port",
    "close-port",
    "juju-reboot",
)
ASKING = (
    "is-leader",
    "config-get",
    "relation-ids",
    "relation-list",
    "relation-get",
    "relation-model-get",
    "resource-get",
    "action-get",
    "status-get",
    "opened-ports",
    "network-get",
    "goal-state",
)

#: Ends each argument with a zero and each call with a record separator.
LOG = r"""#!/bin/sh
{ printf '%s\0' "$@"; printf '\036'; } >>"$EPA_HOOKS/logged"
"""


def install(directory: Path) -> None:
    """Make every tool, most of them as links to a copy of this file."""
    log = directory / "juju-log"
    log.write_text(LOG, encoding="utf-8")
    log.chmod(0o755)
    program = directory / "hooktools.py"
    program.write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    program.chmod(0o755)
    for tool in (*TELLING, *ASKING):
        (directory / tool).symlink_to(program.name)


def answer(tool: str, arguments: list[str], world: dict[str, Any]) -> object:
    """What a tool prints, as JSON or text; None for a failure."""
    relations: dict[str, list[dict[str, Any]]] = world.get("relations", {})
    match tool:
        case "is-leader":
            return True
        case "config-get":
            return world.get("config", {})
        case "relation-ids":
            return [f"{arguments[0]}:{each['id']}" for each in relations.get(arguments[0], [])]
        case "relation-list":
            relation = next(each for each in relations[endpoint(arguments)] if each["id"] == number(arguments))
            return relation["app"] if "--app" in arguments else relation["units"]
        case "relation-get" | "opened-ports" | "goal-state":
            return {}
        case "relation-model-get":
            return {"uuid": world.get("model", "")}
        case "resource-get":
            return world.get("resource")
        case "action-get":
            return world.get("action", {})
        case "status-get":
            return {"status": "maintenance", "message": "", "status-data": {}}
        case _:
            raise NotImplementedError(tool)


def endpoint(arguments: list[str]) -> str:
    """The endpoint of `-r ENDPOINT:ID`."""
    return arguments[arguments.index("-r") + 1].partition(":")[0]


def number(arguments: list[str]) -> int:
    """The id of `-r ENDPOINT:ID`."""
    return int(arguments[arguments.index("-r") + 1].partition(":")[2])


def main() -> int:
    """Be the tool that the program's name says."""
    tool, given = Path(sys.argv[0]).name, sys.argv[1:]
    directory = Path(os.environ["EPA_HOOKS"])
    if tool in TELLING:
        text = sys.stdin.read() if "-" in given and tool == "relation-set" else ""
        with (directory / "told.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps([tool, given, text]) + "\n")
        return 0
    arguments = [word for word in given if not word.startswith("--format")]
    value = answer(tool, arguments, json.loads((directory / "world.json").read_text(encoding="utf-8")))
    if value is None:
        print(f"ERROR {tool}: not found", file=sys.stderr)
        return 1
    print(value if tool == "resource-get" else json.dumps(value))
    return 0


if __name__ == "__main__":
    sys.exit(main())
