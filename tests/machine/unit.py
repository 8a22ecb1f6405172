# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A unit of the charm inside the machine: sets its configuration, and runs its hooks as Juju does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from tests import juju
from tests.juju import Outcome
from tests.machine.machine import Machine

CHARM: Final = "/job/charm"
CONSUMER_CHARM: Final = "/job/consumer-charm"
HOOKS: Final = "/job/hooks"


@dataclass
class Unit:
    """A unit on the machine, by default epa-orchestrator/0, subordinate to sunbeam-machine/0."""

    machine: Machine
    config: dict[str, Any]
    charm: str = CHARM
    name: str = "epa-orchestrator/0"
    related: bool = True

    def hook(self, name: str, **environment: str) -> Outcome:
        """Run a hook as Juju does."""
        return self._dispatch(f"hooks/{name}", {"JUJU_HOOK_NAME": name, **environment}, {})

    def relation(self, event: str) -> Outcome:
        """Run a hook of the relation to the principal, such as `created`."""
        return self.hook(f"{juju.PRINCIPAL}-relation-{event}", **juju.relation(event))

    def action(self, name: str, **params: Any) -> Outcome:
        """Run an action."""
        return self._dispatch(f"actions/{name}", juju.action(name), params)

    def _dispatch(self, path: str, environment: dict[str, str], action: dict[str, Any]) -> Outcome:
        answers = juju.answers(self.config, related=self.related, resource=None, action=action)
        self.machine.put(f"{HOOKS}/answers.json", json.dumps(answers).encode())
        for name in ("calls.jsonl", "logged"):
            self.machine.put(f"{HOOKS}/{name}", b"")
        environment = {
            **juju.unit(self.charm, self.name),
            "PATH": f"{HOOKS}:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin",
            "EPA_HOOKS": HOOKS,
            "JUJU_DISPATCH_PATH": path,
            **environment,
        }
        done = self.machine.run("./dispatch", env=environment, cwd=self.charm, timeout=1800)
        calls, logged = (self.machine.get(f"{HOOKS}/{name}").decode() for name in ("calls.jsonl", "logged"))
        return juju.read_outcome(done.rc, calls, logged, done.out + done.err)
