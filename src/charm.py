#!/usr/bin/env python3
"""The charm epa-orchestrator: Juju's events in, one reconcile, statuses and action results out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import ops
import pydantic
from charmlibs import snap

import isolation
import orchestrator_snap
from config import CharmConfig, ReleaseParams, sentence
from epa_orchestrator.cli import tables as display
from epa_orchestrator.hardware.describe import describe
from epa_orchestrator.hardware.hugepages import read_hugepages
from epa_orchestrator.hardware.sysfs import SysfsError, SysfsTree
from juju_texts import fitting, results
from orchestrator_snap import FileSource, Source, StoreSource
from snapd import SnapError

log = logging.getLogger(__name__)

PRINCIPAL = "sunbeam-machine"
RESOURCE = "epa-orchestrator-snap"
BUNDLED = "epa-orchestrator.snap"


def _failing_with_a_sentence(
    act: Callable[[EpaOrchestratorCharm, ops.ActionEvent], None],
) -> Callable[[EpaOrchestratorCharm, ops.ActionEvent], None]:
    """Make what snapd, the daemon or the host has against an action the action's failure."""

    @functools.wraps(act)
    def handler(charm: EpaOrchestratorCharm, event: ops.ActionEvent) -> None:
        try:
            act(charm, event)
        except (SnapError, SysfsError, snap.Error) as error:
            event.fail(fitting(str(error)))

    return handler


class EpaOrchestratorCharm(ops.CharmBase):
    """Keeps the snap installed, configured and connected, and says how it is.

    Nothing is remembered between events: what a status says is looked up in the event that sets it. An event that has
    looked at nothing (an action that only shows, a stop) leaves the status as it is.
    """

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._tracing = ops.tracing.Tracing(self, "charm-tracing", ca_relation_name="receive-ca-cert")
        self._problems: list[str] | None = None
        principal = self.on[PRINCIPAL]
        for event in (
            self.on.install,
            self.on.start,
            self.on.config_changed,
            self.on.upgrade_charm,
            self.on.update_status,
            principal.relation_created,
            principal.relation_changed,
        ):
            framework.observe(event, self._on_event)
        framework.observe(principal.relation_broken, self._on_principal_gone)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)
        framework.observe(self.on.remove, self._on_remove)
        framework.observe(self.on.list_allocations_action, self._on_list_allocations)
        framework.observe(self.on.show_machine_action, self._on_show_machine)
        framework.observe(self.on.release_action, self._on_release)
        framework.observe(self.on.refresh_snap_action, self._on_refresh_snap)
        framework.observe(self.on.get_status_action, self._on_get_status)

    def _on_event(self, event: ops.EventBase) -> None:
        self._reconcile(newest=isinstance(event, ops.UpgradeCharmEvent))

    def _on_principal_gone(self, _: ops.RelationBrokenEvent) -> None:
        self._problems = []  # only look: this unit may be on its way out

    def _reconcile(self, *, newest: bool = False) -> None:
        """Make the machine what the configuration says; what fails for the operator to mend becomes a status."""
        self._problems = []
        try:
            config = CharmConfig.of(self.config)
        except pydantic.ValidationError as error:
            self._problems.append(sentence(error))
            return
        self._try(lambda: self._install(config, newest=newest))
        self._try(lambda: self._adjust(config))

    def _adjust(self, config: CharmConfig) -> None:
        """Connect and configure the snap that is installed, be it the wanted one or not."""
        info = orchestrator_snap.installed()
        if info is None:
            return
        self.unit.set_workload_version(info.version)
        self._try(orchestrator_snap.connect_own)
        orchestrator_snap.wake()
        self._try(lambda: orchestrator_snap.configure(config.snap_options))
        self._try(lambda: orchestrator_snap.connect(config.connect_plugs))

    def _try(self, step: Callable[[], object]) -> None:
        """Take a step; when the operator must mend something first, remember what, and go on."""
        try:
            step()
        except SnapError as error:
            log.error("%s", error)
            self._problems = [*(self._problems or []), str(error)]

    def _install(self, config: CharmConfig, *, newest: bool) -> None:
        source = self._source(config)
        if not orchestrator_snap.is_wanted(source) or (newest and isinstance(source, StoreSource)):
            self.unit.status = ops.MaintenanceStatus(f"installing the snap from {source}")
            orchestrator_snap.install(source, newest=newest)
        else:
            orchestrator_snap.hold()

    def _source(self, config: CharmConfig) -> Source:
        """Where the snap comes from: the attached resource, the store if a channel is set, the charm."""
        resource = self._resource()
        if resource is not None and resource.stat().st_size:
            return FileSource(resource)
        if config.snap_channel:
            return StoreSource(config.snap_channel, config.snap_revision)
        return FileSource(self.charm_dir / BUNDLED)

    def _resource(self) -> Path | None:
        """The attached resource; an empty file, or none at all, is none.

        Raises SnapError when Juju cannot say: then the snap must stay what it is.
        """
        try:
            return self.model.resources.fetch(RESOURCE)
        except ops.ModelError as error:
            if any(words in str(error) for words in ("not found", "no such resource")):
                return None
            raise SnapError(f"Juju does not hand out the resource {RESOURCE}: attach it again ({error})") from error

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        for status in [] if self._problems is None else self._statuses(self._problems):
            event.add_status(status)

    def _statuses(self, problems: list[str]) -> list[ops.StatusBase]:
        """Everything that is to be said; Juju shows the worst, and of equals the first."""
        related = self.model.relations[PRINCIPAL]
        missing = [] if related else [f"no relation {PRINCIPAL}: juju integrate {self.app.name} {PRINCIPAL}"]
        blocking = [*problems, *missing]
        host = isolation.read()
        if not problems:
            try:
                orchestrator_snap.check_health(host.isolated)
            except SnapError as error:
                blocking.append(str(error))
        if host.problem is not None and (host.machine is None or self.config["require-isolated-cpus"]):
            blocking.append(host.problem)
        return [*map(ops.BlockedStatus, map(fitting, blocking)), ops.ActiveStatus(host.problem or "")]

    def _on_remove(self, _: ops.RemoveEvent) -> None:
        reason = orchestrator_snap.remove()
        if reason is not None:
            log.warning("the snap %s is left on the machine: %s", orchestrator_snap.NAME, reason)

    @_failing_with_a_sentence
    def _on_list_allocations(self, event: ops.ActionEvent) -> None:
        held = orchestrator_snap.holdings()
        tables = [display.allocations(listing) for listing in held.listings]
        document = {
            "pools": {listing.pool: listing.model_dump(mode="json", exclude_none=True) for listing in held.listings},
            "hugepages": held.memory.model_dump(mode="json", exclude_none=True)["numa_hugepages"],
        }
        event.set_results(results(display.plain(*tables, display.hugepages(held.memory)), document))

    @_failing_with_a_sentence
    def _on_show_machine(self, event: ops.ActionEvent) -> None:
        host = isolation.read()
        if host.machine is None:
            raise SnapError(str(host.problem))
        pages = {node_id: read_hugepages(SysfsTree("/sys"), node_id) for node_id in host.machine.node_ids}
        remarks = [host.problem] if host.problem else host.notes
        document = describe(host.machine, pages) | {"remarks": remarks}
        event.set_results(results(display.plain(*display.machine(host.machine, pages), *remarks), document))

    @_failing_with_a_sentence
    def _on_release(self, event: ops.ActionEvent) -> None:
        params = event.load_params(ReleaseParams, errors="fail")
        if not params.confirm:
            event.fail(f"nothing was released: pass confirm=true if nothing of '{params.service}' runs on its CPUs")
            return
        if released := orchestrator_snap.release(params.service):
            event.set_results(
                results(f"released {', '.join(released)}", {"service": params.service, "released": released})
            )
        else:
            event.fail(f"the service '{params.service}' holds nothing: list-allocations shows who does")

    @_failing_with_a_sentence
    def _on_refresh_snap(self, event: ops.ActionEvent) -> None:
        before = orchestrator_snap.installed()
        self._reconcile(newest=True)
        if self._problems:
            event.fail(self._problems[0])
            return
        after = orchestrator_snap.installed()
        revisions = [info.revision if info else "none" for info in (before, after)]
        text = f"revision {revisions[0]} before, {revisions[1]} now, version {after.version if after else 'none'}"
        event.set_results(results(text, {"before": revisions[0], "after": revisions[1]}))

    @_failing_with_a_sentence
    def _on_get_status(self, event: ops.ActionEvent) -> None:
        info = orchestrator_snap.installed()
        if info is None:
            raise SnapError("the snap is not installed: 'juju debug-log' says why")
        isolated = isolation.read().isolated
        try:
            orchestrator_snap.check_health(isolated)
            health = "the daemon answers"
        except SnapError as error:
            health = str(error)
        document = {
            "health": health,
            "version": info.version,
            "revision": info.revision,
            "channel": info.tracking or "none (installed from a file)",
            "held": info.hold is not None,
            "isolated-cpus": str(isolated) or "none",
            "options": orchestrator_snap.options(),
            "connections": {":".join(link.plug): link.slot or "not connected" for link in orchestrator_snap.links()},
        }
        event.set_results(results("\n".join(f"{key}: {_line(value)}" for key, value in document.items()), document))


def _line(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key}={each}" for key, each in cast("dict[str, Any]", value).items())


if __name__ == "__main__":
    ops.main(EpaOrchestratorCharm)
