#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A charm that runs its program on isolated CPUs, which it claims from epa-orchestrator."""

from __future__ import annotations

import logging

import ops

import workload
from charms.epa_orchestrator.v0 import epa

logger = logging.getLogger(__name__)


class ConsumerCharm(ops.CharmBase):
    """Claims as many CPUs as the option `cpus` says, and releases them when the unit is removed."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._client = epa.Client()
        for event in (self.on.start, self.on.config_changed, self.on.update_status, self.on.upgrade_charm):
            framework.observe(event, self._reconcile)
        framework.observe(self.on.remove, self._remove)

    def _reconcile(self, _: ops.EventBase) -> None:
        """Every event asks for the same CPUs again: a repeated request changes nothing."""
        self.unit.status = self._claim()

    def _claim(self) -> ops.StatusBase:
        count = int(self.config["cpus"])
        if count < 1:
            return ops.BlockedStatus(f"cpus must be 1 or more, not {count}: juju config {self.app.name} cpus=2")
        try:
            grant = self._client.allocate(self.unit.name, count)
        except epa.NoIsolatedCpus:
            workload.start(cpus=None)
            return ops.ActiveStatus("not pinned: the host isolates no CPUs")
        except epa.Unavailable as error:  # also a daemon that restarts: the next event tries again
            return ops.WaitingStatus(str(error))
        except epa.EpaError as error:
            return ops.BlockedStatus(str(error))
        workload.start(str(grant.cpus))
        return ops.ActiveStatus(f"pinned to CPUs {grant.cpus}")

    def _remove(self, _: ops.RemoveEvent) -> None:
        """The CPUs are released when nothing runs on them any more. If that fails, Juju runs the hook again.

        Nothing can be released where the daemon is gone, or is one of the oldest, which release by NUMA node only.
        """
        workload.stop()
        try:
            self._client.release(self.unit.name)
        except (epa.NoSocket, epa.MissingFeature) as error:
            logger.warning("Nothing was released: %s", error)


if __name__ == "__main__":
    ops.main(ConsumerCharm)
