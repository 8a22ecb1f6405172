#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0
"""The charm epa-orchestrator: Juju's events, which snap to install, one reconcile of the machine, one status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import ops
import pydantic

import daemon_health
import isolation
import orchestrator_snap
from actions import Actions
from config import CharmConfig, describe_error
from errors import CharmError
from juju_texts import truncate
from orchestrator_snap import FileSource, Source, StoreSource

log = logging.getLogger(__name__)

PRINCIPAL = "sunbeam-machine"
RESOURCE = "epa-orchestrator-snap"
BUNDLED = "epa-orchestrator.snap"


class EpaOrchestratorCharm(ops.CharmBase):
    """Keeps the snap installed, configured and connected, and reports problems in the unit's status.

    Nothing is stored between events: each event looks up everything that its status says. An event that looks up
    nothing (stop, remove, most actions) leaves the status as it is.
    """

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._tracing = ops.tracing.Tracing(self, "charm-tracing", ca_relation_name="receive-ca-cert")
        self._actions = Actions(self, refresh_snap=self._refresh_snap)
        #: The problems that this event has found; None if it has checked nothing.
        self._problems: list[str] | None = None
        principal = self.on[PRINCIPAL]
        for event in (
            self.on.install,
            self.on.start,
            self.on.config_changed,
            self.on.update_status,
            principal.relation_created,
            principal.relation_changed,
        ):
            framework.observe(event, self._on_event)
        framework.observe(self.on.upgrade_charm, self._on_upgrade_charm)
        framework.observe(principal.relation_broken, self._on_principal_broken)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)
        framework.observe(self.on.remove, self._on_remove)

    def _on_event(self, _: ops.EventBase) -> None:
        self._reconcile()

    def _on_upgrade_charm(self, _: ops.UpgradeCharmEvent) -> None:
        self._reconcile(refresh=True)

    def _on_principal_broken(self, _: ops.RelationBrokenEvent) -> None:
        self._problems = []  # set the status, and change nothing: Juju may be removing this unit

    def _refresh_snap(self) -> None:
        self._reconcile(refresh=True)
        if self._problems:
            raise CharmError(self._problems[0])

    def _reconcile(self, *, refresh: bool = False) -> None:
        """Make the machine match the configuration, and note problems that the operator has to fix."""
        self._problems = []
        try:
            config = CharmConfig.from_juju(self.config)
        except pydantic.ValidationError as error:
            self._problems.append(describe_error(error))
            return
        self._try(lambda: self._install(config, refresh=refresh))
        self._try(lambda: self._set_up(config))

    def _set_up(self, config: CharmConfig) -> None:
        """Connect and configure the installed snap; after a failed install that is an earlier one, if any."""
        info = orchestrator_snap.installed()
        if info is None:
            return
        self.unit.set_workload_version(info.version)
        self._try(orchestrator_snap.connect_topology)
        daemon_health.ensure_started()
        self._try(lambda: orchestrator_snap.ensure_config(config.snap_options))
        self._try(lambda: orchestrator_snap.connect_consumers(config.connect_plugs))

    def _try(self, step: Callable[[], object]) -> None:
        """Take a step, and note a problem that the operator has to fix, so that the later steps are still taken."""
        try:
            step()
        except CharmError as error:
            log.error("%s", error)
            self._problems = [*(self._problems or []), str(error)]

    def _install(self, config: CharmConfig, *, refresh: bool) -> None:
        source = self._source(config)
        if not orchestrator_snap.is_installed_from(source) or (refresh and isinstance(source, StoreSource)):
            self.unit.status = ops.MaintenanceStatus(f"installing the snap from {source}")
            orchestrator_snap.install(source, refresh=refresh)
        else:
            orchestrator_snap.hold()

    def _source(self, config: CharmConfig) -> Source:
        """Where the snap comes from: the attached resource, else the store if a channel is set, else the charm."""
        resource = self._resource()
        if resource is not None and resource.stat().st_size:
            return FileSource(resource)
        if config.snap_channel:
            return StoreSource(config.snap_channel, config.snap_revision)
        return FileSource(self.charm_dir / BUNDLED)

    def _resource(self) -> Path | None:
        """The resource's file; None if none was ever attached.

        Raises CharmError when Juju fails to answer: then the installed snap must stay.
        """
        try:
            return self.model.resources.fetch(RESOURCE)
        except ops.ModelError as error:
            if any(words in str(error) for words in ("not found", "no such resource")):
                return None
            raise CharmError(f"failed to fetch the resource {RESOURCE}: attach it again ({error})") from error

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        for status in [] if self._problems is None else self._statuses(self._problems):
            event.add_status(status)

    def _statuses(self, problems: list[str]) -> list[ops.StatusBase]:
        """All statuses of the unit, the most important first; Juju shows the first of the worst kind."""
        blocking = [*problems]
        if not self.model.relations[PRINCIPAL]:
            blocking.append(f"missing relation {PRINCIPAL}: run 'juju integrate {self.app.name} {PRINCIPAL}'")
        host = isolation.read()
        if not problems:
            try:
                daemon_health.check(host.isolated)
            except CharmError as error:
                blocking.append(str(error))
        if host.problem is not None and (host.machine is None or self.config["require-isolated-cpus"]):
            blocking.append(host.problem)
        return [*(ops.BlockedStatus(truncate(text)) for text in blocking), ops.ActiveStatus(host.problem or "")]

    def _on_remove(self, _: ops.RemoveEvent) -> None:
        reason = orchestrator_snap.remove()
        if reason is not None:
            log.warning("the snap %s stays on the machine: %s", orchestrator_snap.NAME, reason)


if __name__ == "__main__":
    ops.main(EpaOrchestratorCharm)
