"""So that a test can be Juju to the charm inside the machine: give it a configuration, and run its hooks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from tests.machine.machine import Machine

CHARM: Final = "/job/charm"
HOOKS: Final = "/job/hooks"

_MODEL: Final = "3f1d9c8a-6a39-4a43-8f2f-2d54c5cc9a11"


@dataclass(frozen=True)
class Told:
    """What a hook told Juju."""

    status: str | None
    message: str
    version: str | None
    results: dict[str, str]
    failure: str | None
    log: list[str]
    statuses: list[str]


@dataclass
class Unit:
    """The unit epa-orchestrator/0 on the machine, subordinate to sunbeam-machine/0."""

    machine: Machine
    config: dict[str, Any]
    related: bool = True
    resource: str | None = None
    told: list[Told] = field(default_factory=list[Told])

    def hook(self, name: str, **environment: str) -> Told:
        """Run a hook as Juju does."""
        return self._dispatch(f"hooks/{name}", {"JUJU_HOOK_NAME": name, **environment}, {})

    def relation(self, event: str) -> Told:
        """Run a hook of the relation to sunbeam-machine, such as `created`."""
        return self.hook(
            f"sunbeam-machine-relation-{event}",
            JUJU_RELATION="sunbeam-machine",
            JUJU_RELATION_ID="sunbeam-machine:0",
            JUJU_REMOTE_APP="sunbeam-machine",
            JUJU_REMOTE_UNIT="" if event in ("created", "broken") else "sunbeam-machine/0",
        )

    def action(self, name: str, **params: Any) -> Told:
        """Run an action."""
        environment = {
            "JUJU_HOOK_NAME": "",
            "JUJU_ACTION_NAME": name,
            "JUJU_ACTION_UUID": "1",
            "JUJU_ACTION_TAG": "action-1",
        }
        return self._dispatch(f"actions/{name}", environment, params)

    def _dispatch(self, path: str, environment: dict[str, str], action: dict[str, Any]) -> Told:
        relation = {"id": 0, "app": "sunbeam-machine", "units": ["sunbeam-machine/0"]}
        world = {
            "config": self.config,
            "relations": {"sunbeam-machine": [relation] if self.related else []},
            "resource": self.resource,
            "action": action,
            "model": _MODEL,
        }
        self.machine.put(f"{HOOKS}/world.json", json.dumps(world).encode())
        self.machine.put(f"{HOOKS}/told.jsonl", b"")
        juju = {
            "PATH": f"{HOOKS}:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin",
            "EPA_HOOKS": HOOKS,
            "JUJU_DISPATCH_PATH": path,
            "JUJU_MODEL_NAME": "test",
            "JUJU_MODEL_UUID": _MODEL,
            "JUJU_UNIT_NAME": "epa-orchestrator/0",
            "JUJU_PRINCIPAL_UNIT": "sunbeam-machine/0",
            "JUJU_MACHINE_ID": "0",
            "JUJU_VERSION": "3.6.0",
            "JUJU_CHARM_DIR": CHARM,
            **environment,
        }
        self.machine.run("./dispatch", env=juju, cwd=CHARM, timeout=1800)
        self.told.append(_told(self.machine.get(f"{HOOKS}/told.jsonl").decode()))
        return self.told[-1]


def _told(text: str) -> Told:
    calls: list[tuple[str, list[str], str]] = [json.loads(line) for line in text.splitlines()]
    statuses = [
        [word for word in words if not word.startswith("--")] for tool, words, _ in calls if tool == "status-set"
    ]
    versions = [words[-1] for tool, words, _ in calls if tool == "application-version-set"]
    failures = [words[-1] for tool, words, _ in calls if tool == "action-fail"]
    results = [word.partition("=") for tool, words, _ in calls if tool == "action-set" for word in words]
    return Told(
        status=statuses[-1][0] if statuses else None,
        message=statuses[-1][1] if statuses and len(statuses[-1]) > 1 else "",
        version=versions[-1] if versions else None,
        results={name: value for name, _, value in results},
        failure=failures[-1] if failures else None,
        log=[words[-1] for tool, words, _ in calls if tool == "juju-log"],
        statuses=[words[0] for words in statuses],
    )
