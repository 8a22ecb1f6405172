# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The environment that Juju gives a charm's dispatch, and the outcome that the hook tools record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

PRINCIPAL: Final = "sunbeam-machine"
COLLECTOR: Final = "cos-agent"

#: The application at the other end of each endpoint, and the id of the relation.
_REMOTE: Final = {PRINCIPAL: PRINCIPAL, COLLECTOR: "opentelemetry-collector"}
_ID: Final = {PRINCIPAL: 0, COLLECTOR: 1}
_MODEL: Final = "3f1d9c8a-6a39-4a43-8f2f-2d54c5cc9a11"


def unit(charm: str, name: str = "epa-orchestrator/0") -> dict[str, str]:
    """The environment of all hooks and actions of a unit; `charm` is the charm's directory."""
    return {
        "JUJU_MODEL_NAME": "machines",
        "JUJU_MODEL_UUID": _MODEL,
        "JUJU_UNIT_NAME": name,
        "JUJU_PRINCIPAL_UNIT": f"{PRINCIPAL}/0",
        "JUJU_MACHINE_ID": "0",
        "JUJU_VERSION": "3.6.0",
        "JUJU_CHARM_DIR": charm,
    }


def relation(event: str, endpoint: str = PRINCIPAL) -> dict[str, str]:
    """The environment of a hook of a relation, such as `created`, by default of that to the principal."""
    remote = _REMOTE[endpoint]
    return {
        "JUJU_RELATION": endpoint,
        "JUJU_RELATION_ID": f"{endpoint}:{_ID[endpoint]}",
        "JUJU_REMOTE_APP": remote,
        "JUJU_REMOTE_UNIT": "" if event in ("created", "broken") else f"{remote}/0",
    }


def action(name: str) -> dict[str, str]:
    """The environment of an action."""
    return {
        "JUJU_HOOK_NAME": "",
        "JUJU_ACTION_NAME": name,
        "JUJU_ACTION_UUID": "1",
        "JUJU_ACTION_TAG": "action-1",
    }


def answers(
    config: dict[str, Any], *, related: bool, resource: str | None, action: dict[str, Any], collector: bool = False
) -> dict[str, Any]:
    """The answers of the hook tools."""
    endpoints = [PRINCIPAL] * related + [COLLECTOR] * collector
    relations = {each: [{"id": _ID[each], "app": _REMOTE[each], "units": [f"{_REMOTE[each]}/0"]}] for each in endpoints}
    return {"config": config, "relations": relations, "resource": resource, "action": action, "model": _MODEL}


@dataclass(frozen=True)
class Outcome:
    """The exit code of a hook, its calls of hook tools, and its output."""

    code: int
    calls: list[tuple[str, list[str]]]
    #: Level and text of each line in Juju's log.
    log: list[tuple[str, str]]
    output: str
    #: What the unit wrote into the databags of its relations, in order.
    written: list[dict[str, str]]

    @property
    def statuses(self) -> list[tuple[str, str]]:
        """All statuses that were set, in order."""
        return [(words[1], words[3]) for words in self.of("status-set")]

    @property
    def status(self) -> tuple[str, str]:
        """The last status that was set."""
        return self.statuses[-1]

    @property
    def version(self) -> str | None:
        """The workload version."""
        return next((words[-1] for words in self.of("application-version-set")), None)

    @property
    def results(self) -> dict[str, str]:
        """The results of an action."""
        pairs = (word.partition("=") for words in self.of("action-set") for word in words)
        return {name: value for name, _, value in pairs}

    @property
    def document(self) -> Any:
        """The JSON result of an action."""
        return json.loads(self.results["json"])

    @property
    def failure(self) -> str | None:
        """The message of a failed action."""
        return next((words[-1] for words in self.of("action-fail")), None)

    def of(self, tool: str) -> list[list[str]]:
        """The arguments of each call of a hook tool."""
        return [words for name, words in self.calls if name == tool]

    def has_traceback(self) -> bool:
        """Whether a traceback was printed or logged."""
        return any("Traceback" in text for text in (self.output, *(text for _, text in self.log)))


def read_outcome(code: int, calls: str, logged: str, output: str) -> Outcome:
    """The outcome, read from the files that the hook tools write (see hooktools)."""
    lines = [line.split("\0") for line in logged.split("\x1e")[:-1]]
    called: list[tuple[str, list[str], str]] = [json.loads(line) for line in calls.splitlines()]
    return Outcome(
        code,
        [(tool, words) for tool, words, _ in called],
        [(words[1], words[3]) for words in lines],
        output,
        [json.loads(text) for tool, _, text in called if tool == "relation-set"],
    )
