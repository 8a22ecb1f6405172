#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0
"""Stands in for Juju's hook tools: answers the charm from a file, and records the calls that change something in Juju.

This file runs under each tool's name on the charm's machine, so it needs nothing but Python. `EPA_HOOKS` names a
directory: `answers.json` holds the answers, and `calls.jsonl` gets a line [tool, arguments, standard input] for each
recorded call. Only juju-log is a shell script, because each hook calls it a dozen times: it appends to `logged`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

#: Tools that change something in Juju; their calls are recorded.
WRITING = (
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
#: Tools that answer the charm.
READING = (
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

#: Writes a zero byte after each argument and a record separator after each call.
LOG = r"""#!/bin/sh
{ printf '%s\0' "$@"; printf '\036'; } >>"$EPA_HOOKS/logged"
"""


def install(directory: Path) -> None:
    """Install all tools in a directory, most of them as links to a copy of this file."""
    log = directory / "juju-log"
    log.write_text(LOG, encoding="utf-8")
    log.chmod(0o755)
    program = directory / "hooktools.py"
    program.write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    program.chmod(0o755)
    for tool in (*WRITING, *READING):
        (directory / tool).symlink_to(program.name)


def answer(tool: str, arguments: list[str], answers: dict[str, Any]) -> object:
    """The output of a tool, as JSON or text; None for a failure."""
    relations: dict[str, list[dict[str, Any]]] = answers.get("relations", {})
    match tool:
        case "is-leader":
            return True
        case "config-get":
            return answers.get("config", {})
        case "relation-ids":
            return [f"{arguments[0]}:{each['id']}" for each in relations.get(arguments[0], [])]
        case "relation-list":
            relation = next(each for each in relations[endpoint(arguments)] if each["id"] == number(arguments))
            return relation["app"] if "--app" in arguments else relation["units"]
        case "relation-get" | "opened-ports" | "goal-state":
            return {}
        case "relation-model-get":
            return {"uuid": answers.get("model", "")}
        case "resource-get":
            return answers.get("resource")
        case "action-get":
            return answers.get("action", {})
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
    """Act as the tool with the program's name."""
    tool, given = Path(sys.argv[0]).name, sys.argv[1:]
    directory = Path(os.environ["EPA_HOOKS"])
    if tool in WRITING:
        text = sys.stdin.read() if "-" in given and tool == "relation-set" else ""
        with (directory / "calls.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps([tool, given, text]) + "\n")
        return 0
    arguments = [word for word in given if not word.startswith("--format")]
    value = answer(tool, arguments, json.loads((directory / "answers.json").read_text(encoding="utf-8")))
    if value is None:
        print(f"ERROR {tool}: not found", file=sys.stderr)
        return 1
    print(value if tool == "resource-get" else json.dumps(value))
    return 0


if __name__ == "__main__":
    sys.exit(main())
