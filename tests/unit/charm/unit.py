# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A unit of the charm, with stand-ins for its workload and its machine."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from charmlibs import snap
from ops import testing

import daemon_health
import installation
import older_daemon
import orchestrator_snap
from charm import EpaOrchestratorCharm
from charm_record import Record
from daemon_health import Holdings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.sysfs import Sysfs, SysfsTree
from epa_orchestrator.protocol.answers import (
    Allocation,
    Listing,
    MemoryAnswer,
    NodeHugepages,
    PageCapacity,
    PoolSummary,
)
from installation import Plan
from isolation import Isolation
from older_daemon import Intrusion
from snap_sources import FileSource, Source, StoreSource
from snapd import Connection
from store_offer import Offer
from tests.machines import made_up
from tools.synthetic import Shape

CHARMCRAFT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "charmcraft.yaml").read_text("utf-8"))
META = {key: CHARMCRAFT[key] for key in ("name", "summary", "subordinate", "requires", "provides", "resources")}

#: Four cores with one thread each.
SHAPE = Shape(cores_per_l3=4, isolated="2-3", hugepages={2048: (8, 6)})

HYPERVISOR = ("openstack-hypervisor", "epa-info")
NODES = Connection("system-files", ("epa-orchestrator", "sys-devices-system-node"), ":system-files")
TOPOLOGY = Connection("system-files", ("epa-orchestrator", "topology"), ":system-files")
CONSUMER = Connection("content", HYPERVISOR, "epa-orchestrator:epa-info")

NO_ISOLATION = "no isolated CPUs: pinning requests will be refused; set isolcpus= on the kernel command line and reboot"
NO_ISOLATION_IN_CONTAINER = (
    "no isolated CPUs: pinning requests will be refused; set isolcpus= on the host's kernel command line and reboot the"
    " host"
)
CONTAINER = "this is a container: isolation belongs to the host, and an orchestrator there would grant the same CPUs"
UNREADABLE = "the CPUs of this host cannot be read: sysfs shows no CPUs"
NO_RELATION = "missing relation sunbeam-machine: run 'juju integrate epa-orchestrator sunbeam-machine'"

OK = testing.ActiveStatus()

#: The steps of every event after the snap is installed.
STEPS = ("connect_host", "save", "ensure_config", "connect_consumers")


def info(revision: str, channel: str = "", version: str = "1.0.0", held: bool = True) -> snap.InstalledInfo:
    hold = "2315-01-01T00:00:00Z" if held else None
    return snap.InstalledInfo("epa-orchestrator", False, channel, revision, version, hold)


def listing(pool: Any = "isolated", **claims: str) -> Listing:
    held = sum(len(CpuSet.parse(cpus)) for cpus in claims.values())
    return Listing(
        pool=pool,
        total_allocations=len(claims),
        total_allocated_cpus=held,
        total_available_cpus=2,
        remaining_available_cpus=2 - held,
        cpu_pool=PoolSummary(
            source="isolated", configured_cpus="2-3", eligible_cpus="2-3", unavailable_allocated_cpus=""
        ),
        allocations=[
            Allocation(
                service_name=service,
                pool=pool,
                allocated_cores=cpus,
                cores_count=len(CpuSet.parse(cpus)),
                is_explicit=False,
                preemption_policy="legacy",
            )
            for service, cpus in claims.items()
        ],
    )


def memory(**pages: int) -> MemoryAnswer:
    records = {service: {"2048": count} for service, count in pages.items()}
    node = NodeHugepages(capacity=[PageCapacity(total=8, free=6, size=2048)], allocations=records)
    return MemoryAnswer(service_name="", numa_hugepages={"node0": node})


class Workload:
    """Takes the place of the modules about the snap and the daemon: records calls, and fails when told to.

    Only calls that change something are recorded in `calls`.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        #: The error of each function that fails.
        self.errors: dict[str, Exception] = {}
        self.snap: snap.InstalledInfo | None = None
        self.source: Source | None = None
        #: What `plan` answers instead of the wanted source.
        self.planned: Plan | None = None
        #: The arguments of the last `plan`.
        self.known: Offer | None = None
        self.ours = True
        self.config: dict[str, Any] = {}
        #: The options that the snap does not know.
        self.unknown: list[str] = []
        self.written = Record()
        self.intrusion: Intrusion | None = None
        self.taken_over = ""
        #: What connect_host returns.
        self.missing = ""
        self.found_warnings: tuple[str, ...] = ()
        self.plugs: list[tuple[str, str]] = []
        #: The isolated CPUs of each health check.
        self.isolated: list[CpuSet] = []
        self.held = Holdings([listing()], memory())
        self.reason_to_stay: str | None = None
        self.next_revision = 1
        #: The function that takes too long.
        self.slow = ""

    def installed(self) -> snap.InstalledInfo | None:
        self._fail("installed")
        return self.snap

    def installed_is_ours(self) -> bool:
        return self.snap is not None and self.ours

    def is_installed_from(self, source: Source) -> bool:
        return self.snap is not None and self.source == source

    def plan(self, wanted: Source, bundled: FileSource, known: Offer | None, *, refresh: bool) -> Plan:
        self._fail("plan")
        self.known = known
        if self.planned is not None:
            return self.planned
        stays = self.is_installed_from(wanted) and not (refresh and isinstance(wanted, StoreSource))
        return Plan(None if stays else wanted)

    def install(self, source: Source) -> None:
        self._call("install")
        channel = source.channel if isinstance(source, StoreSource) else ""
        self.snap = info(f"{'' if channel else 'x'}{self.next_revision}", channel)
        self.source = source
        self.next_revision += 1

    def hold(self) -> None:
        self._call("hold")

    def options(self) -> dict[str, Any]:
        self._fail("options")
        return self.config

    def record(self) -> Record:
        self._fail("record")
        return self.written

    def save(self, new: Record) -> None:
        self._call("save")
        self.written = new

    def ensure_config(self, requested: Mapping[str, Any], optional: str = "") -> list[str]:
        self._call("ensure_config")
        assert optional == "metrics-port"
        self.config = dict(requested)
        return self.unknown

    def connections(self) -> list[Connection]:
        self._fail("connections")
        return [TOPOLOGY, CONSUMER]

    def connect_host(self) -> str:
        self._call("connect_host")
        return self.missing

    def connect_consumers(self, plugs: Iterable[tuple[str, str]]) -> None:
        self._call("connect_consumers")
        self.plugs = list(plugs)

    def find(self, settled: float) -> Intrusion | None:
        self._fail("find")
        return self.intrusion if self.intrusion and self.intrusion.at > settled else None

    def take_over(self, revision: str) -> str:
        self._call("take_over")
        self.taken_over = revision
        return "/var/snap/epa-orchestrator/common/state.db.replaced"

    def remove(self) -> str | None:
        self._call("remove")
        return self.reason_to_stay

    def settings_file(self) -> Path:
        return daemon_health.SOCKET.parents[1] / "settings.json"

    def ensure_started(self) -> None:
        self._fail("ensure_started")

    def check(self, isolated: CpuSet) -> None:
        self.isolated.append(isolated)
        self._fail("check")

    def warnings(self) -> tuple[str, ...]:
        return self.found_warnings

    def holdings(self) -> Holdings:
        self._fail("holdings")
        return self.held

    def release(self, service: str) -> list[str]:
        self._call("release")
        return ["CPUs 2-3 of pool isolated"] if service in self.held.services else []

    def reason_to_keep_snap(self) -> str | None:
        raise AssertionError("only orchestrator_snap calls this function")

    def _call(self, what: str) -> None:
        self.calls.append(what)
        self._fail(what.partition(" ")[0])

    def _fail(self, what: str) -> None:
        if what == self.slow:
            time.sleep(20)
        if what in self.errors:
            raise self.errors[what]


def public_functions(functions: list[tuple[str, Any]], module: str) -> dict[str, Callable[..., Any]]:
    """The public functions among these that the module defines."""
    return {name: each for name, each in functions if not name.startswith("_") and each.__module__ == module}


#: The functions that the stand-in replaces, by module.
REAL_FUNCTIONS = {
    module: public_functions(inspect.getmembers(module, inspect.isfunction), module.__name__)
    for module in (orchestrator_snap, installation, older_daemon, daemon_health)
}


class Unit:
    """A unit of the charm: its configuration, its relations, and its machine."""

    def __init__(self, root: Path) -> None:
        self.root = root / "charm"
        self.root.mkdir()
        self.bundled = self.root / "epa-orchestrator.snap"
        self.resource = root / "resource.snap"
        self.resource.touch()
        self.workload = Workload()
        self.host = Isolation(made_up(SHAPE), container=False)
        #: What the audit says of the host.
        self.broken = ""
        self.config: dict[str, Any] = {}
        self.principal = testing.SubordinateRelation("sunbeam-machine", interface="sunbeam-machine")
        self.relations: list[testing.RelationBase] = [self.principal]
        self.ctx = testing.Context(
            EpaOrchestratorCharm,
            meta=META,
            actions=CHARMCRAFT["actions"],
            config=CHARMCRAFT["config"],
            charm_root=self.root,
            app_name="epa-orchestrator",
        )

    def state(self, status: testing.BlockedStatus | None = None) -> Any:
        return testing.State(
            config=self.config,
            relations=self.relations,
            resources=[testing.Resource(name="epa-orchestrator-snap", path=self.resource)],
            unit_status=status or testing.UnknownStatus(),
        )

    def read_isolation(self, sysfs: Sysfs | None = None) -> Isolation:
        assert sysfs is None
        return self.host

    def sysfs(self, root: str) -> SysfsTree:
        assert root == "/sys"
        return SysfsTree(self.root.parent / "sys")

    def event(self, name: str) -> Any:
        on = self.ctx.on
        return getattr(on, name)(self.principal) if name.startswith("relation_") else getattr(on, name)()

    def run(self, event: str = "config_changed") -> testing.State:
        """Juju's state after an event."""
        return self.ctx.run(self.event(event), self.state())

    def status(self, event: str = "config_changed") -> object:
        """The unit's status after an event."""
        return self.run(event).unit_status

    def act(self, action: str, params: Mapping[str, Any] | None = None) -> tuple[str, Any]:
        """The results of an action that succeeds: the text, and the document."""
        self.ctx.run(self.ctx.on.action(action, params=params), self.state())
        results = self.ctx.action_results
        assert results is not None
        assert results.keys() == {"text", "json"}
        return results["text"], json.loads(results["json"])

    def failure(self, action: str, params: Mapping[str, Any] | None = None) -> str:
        """The sentence with which an action fails."""
        with pytest.raises(testing.ActionFailed) as caught:
            self.ctx.run(self.ctx.on.action(action, params=params), self.state())
        assert not self.ctx.action_results
        return caught.value.message


def warnings_of(unit: Unit) -> list[str]:
    """The warnings in Juju's log."""
    return [line.message for line in unit.ctx.juju_log if line.level == "WARNING"]
