#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0
"""The charm epa-orchestrator: Juju's events, which snap to install, one reconcile of the machine, one status."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ops

import audit
import cos_agent
import daemon_health
import installation
import isolation
import older_daemon
import orchestrator_snap
import ownership
import snap_file
from actions import Actions
from charm_record import Record
from config import CharmConfig
from deadline import DeadlineError, deadline
from errors import CharmError
from findings import Findings
from installation import Plan
from juju_texts import truncate
from older_daemon import Intrusion
from snap_sources import FileSource, Source, StoreSource

log = logging.getLogger(__name__)

PRINCIPAL = "sunbeam-machine"
COLLECTOR = "cos-agent"
RESOURCE = "epa-orchestrator-snap"
BUNDLED = "epa-orchestrator.snap"

#: How long (seconds) the reconcile of a hook may take. Sunbeam waits 30 minutes for a refresh.
_HOOK_TIME: Final = 900.0
_ACTION_TIME: Final = 420.0  # the same for an action
#: How long the checks for the status may take, after either of them.
_STATUS_TIME: Final = 120.0


class EpaOrchestratorCharm(ops.CharmBase):
    """Keeps the snap installed, configured and connected, and reports problems in the unit's status.

    Nothing is stored between events but a record in the snap's own configuration: each event looks up everything that
    its status says. An event that looks up nothing (stop, remove, most actions) leaves the status as it is.
    """

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._tracing = ops.tracing.Tracing(self, "tracing", ca_relation_name="receive-ca-cert")
        self._actions = Actions(self, refresh_snap=self._refresh_snap, settle_claims=self._settle_claims)
        #: What this event has found; None if it has checked nothing.
        self._findings: Findings | None = None
        #: The statuses that follow from it, worked out once.
        self._known_statuses: list[ops.StatusBase] | None = None
        principal, collector = self.on[PRINCIPAL], self.on[COLLECTOR]
        for event in (
            self.on.install,
            self.on.start,
            self.on.config_changed,
            self.on.update_status,
            principal.relation_created,
            principal.relation_changed,
            collector.relation_created,
            collector.relation_broken,
        ):
            framework.observe(event, self._on_event)
        framework.observe(self.on.upgrade_charm, self._on_upgrade_charm)
        framework.observe(principal.relation_broken, self._on_principal_broken)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)
        framework.observe(self.on.remove, self._on_remove)

    def _on_event(self, _: ops.EventBase) -> None:
        self._reconcile(_HOOK_TIME)

    def _on_upgrade_charm(self, _: ops.UpgradeCharmEvent) -> None:
        self._reconcile(_HOOK_TIME, refresh=True)

    def _on_principal_broken(self, _: ops.RelationBrokenEvent) -> None:
        self._findings = Findings()  # set the status, and change nothing: Juju may be removing this unit

    def _refresh_snap(self) -> list[str]:
        """Reconcile with the newest snap; returns what else is wrong.

        Raises CharmError when the snap itself could not be refreshed.
        """
        findings = self._reconcile(_ACTION_TIME, refresh=True)
        statuses = self._statuses(findings)  # within the time of the action
        if findings.not_refreshed:
            raise CharmError(findings.not_refreshed)
        return [status.message for status in statuses if status.message not in ("", findings.usage)]

    def _settle_claims(self, keep: str) -> str:
        """Settle which claims count after the older daemon ran; returns what was done.

        Raises CharmError.
        """
        record = orchestrator_snap.record()
        if owner := ownership.other_owner(record, self.unit.name):
            raise CharmError(ownership.refusal(owner, self.app.name))
        if not record.intruder:
            raise CharmError("nothing has to be settled: the older daemon did not run while this one held claims")
        done = "the claims of this daemon stay"
        if keep == "older":
            aside = older_daemon.take_over(record.intruder)
            done = f"imported the older daemon's claims (revision {record.intruder}); those of this one are in {aside}"
        settled = dataclasses.replace(record, intruder="", intruded=0.0, settled=time.time())
        orchestrator_snap.save(settled)
        self._statuses(self._reconcile(_ACTION_TIME))
        return done

    def _reconcile(self, seconds: float, *, refresh: bool = False) -> Findings:
        """Make the machine match the configuration in at most this time, and note what is wrong."""
        self._findings = findings = Findings()
        try:
            with deadline(seconds):
                self._reconcile_machine(findings, refresh=refresh)
        except DeadlineError as error:
            findings.note_temporary(error)
            findings.not_refreshed = findings.not_refreshed and findings.waiting[-1]
        return findings

    def _reconcile_machine(self, findings: Findings, *, refresh: bool) -> None:
        config = CharmConfig.from_juju(self.config, {name: each.default for name, each in self.meta.config.items()})
        findings.blocking += config.problems.values()
        record = findings.attempt(orchestrator_snap.record)
        if record is None:
            findings.not_refreshed = (findings.blocking + findings.waiting)[-1]
            return
        if owner := ownership.other_owner(record, self.unit.name):
            findings.owned = False
            findings.blocking = [ownership.refusal(owner, self.app.name)]
            findings.not_refreshed = findings.blocking[0]
            return
        settled = record.settled
        intrusion = findings.attempt(lambda: older_daemon.find(settled))
        if intrusion is not None:
            findings.attempt(self._end_intrusion)
        plan = self._install(findings, config, record, refresh=refresh)
        if intrusion is not None:
            record = dataclasses.replace(record, intruder=intrusion.revision, intruded=intrusion.at)
        if plan is not None and plan.offer is not None:
            record = dataclasses.replace(record, offered=plan.offer.revision, accepted=plan.offer.is_ours)
        self._set_up(findings, config, record, plan)
        if record.intruder:
            findings.blocking.append(Intrusion(record.intruder, record.intruded).sentence(self.unit.name))

    def _install(self, findings: Findings, config: CharmConfig, record: Record, *, refresh: bool) -> Plan | None:
        """Install what the configuration asks for, if it has to change; returns None if that fails."""
        problems = len(findings.blocking), len(findings.waiting)

        def step() -> Plan:
            wanted = self._source(config)
            plan = installation.plan(wanted, FileSource(self.charm_dir / BUNDLED), record.offer, refresh=refresh)
            if plan.source is not None:
                self.unit.status = ops.MaintenanceStatus(f"installing the snap from {plan.source}")
                installation.install(plan.source)
            return plan

        plan = findings.attempt(step)
        new = findings.blocking[problems[0] :] + findings.waiting[problems[1] :]
        findings.not_refreshed = new[0] if plan is None else plan.unreachable
        findings.attempt(installation.hold)
        return plan

    def _end_intrusion(self) -> None:
        """Install the snap in the charm at once if the older daemon runs; the source of the options may be unreachable.

        Raises CharmError.
        """
        bundled = FileSource(self.charm_dir / BUNDLED)
        if not orchestrator_snap.installed_is_ours():
            self.unit.status = ops.MaintenanceStatus(f"installing the snap from {bundled}")
            installation.install(bundled)

    def _set_up(self, findings: Findings, config: CharmConfig, record: Record, plan: Plan | None) -> None:
        """Connect and configure the installed snap; after a failed install that is an earlier one, if any."""
        info = findings.attempt(orchestrator_snap.installed)
        if info is None or not findings.attempt(orchestrator_snap.installed_is_ours):
            return
        self.unit.set_workload_version(info.version)
        if plan is not None and plan.note:
            findings.notes.append(f"{plan.note}; version {info.version} runs (revision {info.revision})")
        findings.notes.append(findings.attempt(orchestrator_snap.connect_host) or "")
        daemon_health.ensure_started()
        mine = dataclasses.replace(record, unit=self.unit.name, model=self.model.uuid)
        findings.attempt(lambda: orchestrator_snap.save(mine))
        if (requested := config.snap_options) is not None:
            findings.notes.append(findings.attempt(lambda: self._configure(requested, record)) or "")
        findings.attempt(lambda: orchestrator_snap.connect_consumers(config.connect_plugs))

    def _configure(self, requested: Mapping[str, Any], record: Record) -> str:
        """Set the daemon's options, and tell a related collector where the metrics are; returns a note or "".

        Raises CharmError.
        """
        relations = self.model.relations[COLLECTOR]
        if relations:
            requested = cos_agent.with_port(requested, orchestrator_snap.options(), record.options)
        unknown = orchestrator_snap.ensure_config(requested, cos_agent.OPTION)
        labels = cos_agent.labels(self.model.name, self.model.uuid, self.app.name, self.meta.name)
        for relation in relations:
            port = None if cos_agent.OPTION in unknown else orchestrator_snap.options()[cos_agent.OPTION]
            relation.data[self.unit][cos_agent.KEY] = cos_agent.unit_data(self.charm_dir, port, labels)
        return (
            f"upgrade the snap: it is older than this charm, and does not know {', '.join(unknown)}" if unknown else ""
        )

    def _source(self, config: CharmConfig) -> Source:
        """Where the snap comes from: the attached resource, else the store if a channel is set, else the charm.

        Raises CharmError when the options do not say it.
        """
        if (resource := self._resource()) and not snap_file.is_blank(resource):
            return FileSource(resource)
        if not config.names_a_source:
            raise CharmError("the snap stays as it is until its options are valid")
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
            raise CharmError(f"attach the resource {RESOURCE} again: Juju cannot fetch it ({error})") from error

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        for status in [] if self._findings is None else self._statuses(self._findings):
            event.add_status(status)

    def _statuses(self, findings: Findings) -> list[ops.StatusBase]:
        """All statuses of the unit, the most important first; Juju shows the first of the worst kind."""
        if self._known_statuses is None:
            try:
                with deadline(_STATUS_TIME):
                    self._check(findings)
            except DeadlineError as error:
                findings.note_temporary(error)
            active = "; ".join(note for note in findings.notes if note) or findings.usage
            self._known_statuses = [
                *(ops.BlockedStatus(truncate(text)) for text in findings.blocking),
                *(ops.WaitingStatus(truncate(text)) for text in findings.waiting),
                ops.ActiveStatus(truncate(active)),
            ]
        return self._known_statuses

    def _check(self, findings: Findings) -> None:
        """Add what the relations, the daemon and the host say."""
        has_problems = bool(findings.blocking or findings.waiting)
        if not self.model.relations[PRINCIPAL]:
            findings.blocking.append(f"missing relation {PRINCIPAL}: run 'juju integrate {self.app.name} {PRINCIPAL}'")
        if not findings.owned:
            return
        host = isolation.read()
        if not has_problems:
            findings.attempt(lambda: daemon_health.check(host.isolated))
        if host.problem is not None and (host.machine is None or self.config["require-isolated-cpus"]):
            findings.blocking.append(host.problem)
        findings.notes[:0] = audit.notes_about(host)
        if not findings.blocking and not findings.waiting and not any(findings.notes):
            with contextlib.suppress(CharmError):  # the daemon's problems are those of its check
                findings.usage = daemon_health.holdings().usage

    def _on_remove(self, _: ops.RemoveEvent) -> None:
        """Remove the snap.

        This alone may raise an error, of a snapd that is busy or slow: Juju then tries again. An error that does not go
        away by itself would keep the unit from being removed.
        """
        try:
            with deadline(_HOOK_TIME):
                owner = ownership.other_owner(orchestrator_snap.record(), self.unit.name)
                reason = f"it belongs to {owner}" if owner else orchestrator_snap.remove()
        except CharmError as error:
            reason = str(error)
        if reason is not None:
            log.warning("the snap %s stays on the machine: %s", orchestrator_snap.NAME, reason)


if __name__ == "__main__":
    ops.main(EpaOrchestratorCharm)
