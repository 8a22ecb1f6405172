# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The charm's actions: each shows or changes one thing, and fails with a sentence."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import ops
from charmlibs import snap

import audit
import command_line
import daemon_health
import isolation
import orchestrator_snap
from config import AuditParams, ExplainParams, HistoryParams, MachineParams, ReleaseParams, SettleParams
from deadline import deadline
from epa_orchestrator.cli import claims_table, show, tables
from epa_orchestrator.hardware.describe import describe
from epa_orchestrator.hardware.hugepages import read_hugepages
from epa_orchestrator.hardware.sysfs import SysfsError, SysfsTree
from errors import CharmError, TemporaryError
from juju_texts import action_results, fits, truncate

#: How long (seconds) an action may take. Sunbeam waits 600 s for refresh-snap.
_TIME: Final = 560.0


def _fail_on_error(
    act: Callable[[Actions, ops.ActionEvent], None],
) -> Callable[[Actions, ops.ActionEvent], None]:
    """Make an error of snapd, the daemon or the host the action's failure."""

    @functools.wraps(act)
    def handler(actions: Actions, event: ops.ActionEvent) -> None:
        try:
            with deadline(_TIME):
                act(actions, event)
        except snap.Error as error:  # as text, it can contain a whole answer of snapd
            event.fail(truncate(error.message))
        except (CharmError, TemporaryError, SysfsError, OSError) as error:
            event.fail(truncate(str(error)))

    return handler


class Actions(ops.Object):
    """Handles the action events of a charm."""

    def __init__(
        self, charm: ops.CharmBase, refresh_snap: Callable[[], list[str]], settle_claims: Callable[[str], str]
    ) -> None:
        super().__init__(charm, "actions")
        #: Reconciles with the newest snap, and returns what else is wrong; raises CharmError.
        self._refresh_snap = refresh_snap
        #: Settles which claims count, and returns what was done; raises CharmError.
        self._settle_claims = settle_claims
        for event, handler in (
            (charm.on.list_allocations_action, self._on_list_allocations),
            (charm.on.show_machine_action, self._on_show_machine),
            (charm.on.release_action, self._on_release),
            (charm.on.refresh_snap_action, self._on_refresh_snap),
            (charm.on.get_status_action, self._on_get_status),
            (charm.on.settle_claims_action, self._on_settle_claims),
            (charm.on.explain_action, self._on_explain),
            (charm.on.history_action, self._on_history),
            (charm.on.audit_isolation_action, self._on_audit_isolation),
            (charm.on.record_action, self._on_record),
            (charm.on.report_action, self._on_report),
        ):
            self.framework.observe(event, handler)

    @_fail_on_error
    def _on_list_allocations(self, event: ops.ActionEvent) -> None:
        held = daemon_health.holdings()
        text = show.plain(*map(claims_table.allocations, held.listings), tables.hugepages(held.memory))
        document = {
            "pools": {listing.pool: listing.model_dump(mode="json", exclude_none=True) for listing in held.listings},
            "hugepages": held.memory.model_dump(mode="json", exclude_none=True)["numa_hugepages"],
        }
        event.set_results(action_results(text, document))

    @_fail_on_error
    def _on_show_machine(self, event: ops.ActionEvent) -> None:
        if event.load_params(MachineParams, errors="fail").format == "svg":
            file = command_line.output_directory() / "machine.svg"
            command_line.run("map", f"--svg={file}")
            event.set_results(self._long_result("svg", file, "the machine with the owner of each CPU, as a picture"))
            return
        host = isolation.read()
        if host.machine is None:
            raise CharmError(str(host.problem))
        pages = {node_id: read_hugepages(SysfsTree("/sys"), node_id) for node_id in host.machine.node_ids}
        remarks = [each for each in (host.problem, host.container_note, *host.notes) if each]
        text = show.plain(*tables.machine(host.machine, pages), *remarks)
        event.set_results(action_results(text, describe(host.machine, pages) | {"remarks": remarks}))

    @_fail_on_error
    def _on_explain(self, event: ops.ActionEvent) -> None:
        words = event.load_params(ExplainParams, errors="fail").words()
        event.set_results({"text": truncate(command_line.run(*words))})

    @_fail_on_error
    def _on_history(self, event: ops.ActionEvent) -> None:
        words = event.load_params(HistoryParams, errors="fail").words()
        event.set_results({"text": truncate(command_line.run(*words))})

    @_fail_on_error
    def _on_audit_isolation(self, event: ops.ActionEvent) -> None:
        params = event.load_params(AuditParams, errors="fail")
        document = audit.document(params.measure, params.service)
        event.set_results(action_results(audit.text(document), document))

    @_fail_on_error
    def _on_record(self, event: ops.ActionEvent) -> None:
        file = command_line.output_directory() / "machine.json"
        command_line.run("machine", f"--record={file}")
        what = "the CPUs, NUMA nodes, hugepages, devices and isolation; use it elsewhere with: epa-orchestrator serve"
        event.set_results(self._long_result("recording", file, f"{what} --machine FILE, or audit --root FILE"))

    @_fail_on_error
    def _on_report(self, event: ops.ActionEvent) -> None:
        file = command_line.output_directory() / "report.json"
        command_line.run("report", str(file))
        summary = json.loads(file.read_text(encoding="utf-8"))["summary"]
        event.set_results(self._long_result("report", file, *summary))

    def _long_result(self, name: str, file: Path, *lines: str) -> dict[str, str]:
        """The results with a document from a file: as text of its own, or where it stays if it is too long for Juju."""
        document = file.read_text(encoding="utf-8")
        if fits(document):
            file.unlink()
            return {"text": truncate(show.plain(*lines)), name: document.rstrip()}
        folded = show.plain(*lines, f"The {name} is too long for Juju; fetch it with:")
        fetch = f"juju ssh {self.model.unit.name} sudo cat {file} > {file.name}"
        return {"text": truncate(f"{folded}\n  {fetch}"), "file": str(file)}

    @_fail_on_error
    def _on_release(self, event: ops.ActionEvent) -> None:
        params = event.load_params(ReleaseParams, errors="fail")
        if not params.confirm:
            raise CharmError(
                f"nothing was released: stop all that uses the CPUs of '{params.service}', then pass confirm=true"
            )
        released = daemon_health.release(params.service)
        if not released:
            raise CharmError(f"the service '{params.service}' holds no CPUs or hugepages: see list-allocations")
        document = {"service": params.service, "released": released}
        event.set_results(action_results(show.plain(f"released {', '.join(released)}"), document))

    @_fail_on_error
    def _on_refresh_snap(self, event: ops.ActionEvent) -> None:
        before = orchestrator_snap.installed()
        problems = self._refresh_snap()
        after = orchestrator_snap.installed()
        old, new = [info.revision if info else "none" for info in (before, after)]
        text = f"revision {old} before, {new} now, version {after.version if after else 'none'}"
        document = {"before": old, "after": new, "problems": problems}
        event.set_results(action_results(show.plain(text, *problems), document))

    @_fail_on_error
    def _on_settle_claims(self, event: ops.ActionEvent) -> None:
        params = event.load_params(SettleParams, errors="fail")
        done = self._settle_claims(params.keep)
        event.set_results(action_results(show.plain(done), {"keep": params.keep, "done": done}))

    @_fail_on_error
    def _on_get_status(self, event: ops.ActionEvent) -> None:
        info = orchestrator_snap.installed()
        if info is None:
            raise CharmError("the snap is not installed: see 'juju debug-log'")
        isolated = isolation.read().isolated
        warnings: tuple[str, ...] = ()
        try:
            daemon_health.check(isolated)
            health = "the daemon answers"
            warnings = daemon_health.warnings()
        except CharmError as error:
            health = str(error)
        connections = orchestrator_snap.connections()
        document = {
            "health": health,
            "warnings": list(warnings),
            "version": info.version,
            "revision": info.revision,
            "channel": _channel(info),
            "held": info.hold is not None,
            "isolated-cpus": str(isolated) or "none",
            "options": orchestrator_snap.options(),
            "connections": {":".join(each.plug): each.slot or "not connected" for each in connections},
        }
        text = show.plain(*(f"{key}: {_format(value)}" for key, value in document.items()))
        event.set_results(action_results(text, document))


def _channel(info: snap.InstalledInfo) -> str:
    """The channel that the installed snap came from; snapd keeps showing an earlier one of a snap from a file."""
    return info.tracking if info.tracking and not info.revision.startswith("x") else "none (installed from a file)"


def _format(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, cast("list[Any]", value))) or "none"
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key}={each}" for key, each in cast("dict[str, Any]", value).items())
