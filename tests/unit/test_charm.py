"""The charm answers every event of Juju's with what it does to the machine, a status that says what to do, or a result.

The workload module and the reading of the host are replaced here; both have tests of their own.
"""

from __future__ import annotations

import inspect
import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ops
import pytest
import yaml
from charmlibs import snap
from ops import testing

import charm
import isolation
import orchestrator_snap
from charm import EpaOrchestratorCharm
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.machine import Machine
from epa_orchestrator.hardware.sysfs import Sysfs, SysfsTree
from epa_orchestrator.protocol.answers import (
    Allocation,
    Listing,
    MemoryAnswer,
    NodeHugepages,
    PageCapacity,
    PoolSummary,
)
from isolation import Isolation
from orchestrator_snap import FileSource, Holdings, SnapError, Source, StoreSource
from snapd import Link
from tests.machines import made_up
from tools.synthetic import Shape, build, write_tree

CHARMCRAFT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "charmcraft.yaml").read_text("utf-8"))
META = {key: CHARMCRAFT[key] for key in ("name", "summary", "subordinate", "requires", "resources")}

#: Four cores with one thread each.
SHAPE = Shape(cores_per_l3=4, isolated="2-3", hugepages={2048: (8, 6)})

HYPERVISOR = ("openstack-hypervisor", "epa-info")
TOPOLOGY = Link("system-files", ("epa-orchestrator", "topology"), ":system-files")
CONSUMER = Link("content", HYPERVISOR, "epa-orchestrator:epa-info")

NO_ISOLATION = "no isolated CPUs: pinning requests will be refused; set isolcpus= on the kernel command line and reboot"
CONTAINER = (
    "no isolated CPUs: pinning requests will be refused; this is a container, and isolation belongs to its host: set"
    " isolcpus= there"
)
UNREADABLE = "the CPUs of this host cannot be read: sysfs shows no CPUs"
NO_RELATION = "no relation sunbeam-machine: juju integrate epa-orchestrator sunbeam-machine"

OK = testing.ActiveStatus()

#: What is done on every event once a snap is there.
STEPS = ("connect_own", "configure", "connect")


def info(revision: str, channel: str = "", version: str = "0.1.0", held: bool = True) -> snap.InstalledInfo:
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
    """Stands in for the module orchestrator_snap: remembers what it was told, and fails as it is told to.

    Only functions that change something are counted in `done`.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.snap: snap.InstalledInfo | None = None
        self.source: Source | None = None
        self.set: dict[str, Any] = {}
        self.plugs: list[tuple[str, str]] = []
        self.isolated: list[CpuSet] = []
        self.held = Holdings([listing()], memory())
        self.kept: str | None = None
        self.next_revision = 1

    def installed(self) -> snap.InstalledInfo | None:
        return self.snap

    def is_wanted(self, source: Source) -> bool:
        return self.snap is not None and self.source == source

    def install(self, source: Source, *, newest: bool = False) -> None:
        self._do("install newest" if newest else "install")
        channel = source.channel if isinstance(source, StoreSource) else ""
        self.snap = info(f"{'' if channel else 'x'}{self.next_revision}", channel)
        self.source = source
        self.next_revision += 1

    def hold(self) -> None:
        self._do("hold")

    def options(self) -> dict[str, Any]:
        self._fail("options")
        return self.set

    def wake(self) -> None:
        self._fail("wake")

    def configure(self, wanted: dict[str, Any]) -> None:
        self._do("configure")
        self.set = wanted

    def links(self) -> list[Link]:
        self._fail("links")
        return [TOPOLOGY, CONSUMER]

    def connect_own(self) -> None:
        self._do("connect_own")

    def connect(self, plugs: Iterable[tuple[str, str]]) -> None:
        self._do("connect")
        self.plugs = list(plugs)

    def client(self) -> orchestrator_snap.Client:
        raise AssertionError("the charm asks through the workload's own functions")

    def check_health(self, isolated: CpuSet) -> None:
        self.isolated.append(isolated)
        self._fail("check_health")

    def holdings(self) -> Holdings:
        self._fail("holdings")
        return self.held

    def release(self, service: str) -> list[str]:
        self._do("release")
        return ["CPUs 2-3 of pool isolated"] if service in self.held.services else []

    def remove(self) -> str | None:
        self._do("remove")
        return self.kept

    def _do(self, what: str) -> None:
        self.done.append(what)
        self._fail(what.partition(" ")[0])

    def _fail(self, what: str) -> None:
        if what in self.failing:
            raise self.failing[what]


def public(functions: list[tuple[str, Any]], module: str) -> dict[str, Callable[..., Any]]:
    """Those of the functions that are defined in the module, for everybody's use."""
    return {name: each for name, each in functions if not name.startswith("_") and each.__module__ == module}


REAL = public(inspect.getmembers(orchestrator_snap, inspect.isfunction), "orchestrator_snap")


def test_the_stand_in_has_the_functions_of_the_module_with_their_signatures() -> None:
    stand_in = public(inspect.getmembers(Workload(), inspect.ismethod), __name__)
    assert stand_in.keys() == REAL.keys()
    for name in REAL.keys() - {"client"}:
        assert inspect.signature(stand_in[name]) == inspect.signature(REAL[name]), name
    assert list(inspect.signature(isolation.read).parameters) == ["sysfs"]


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
        """The state that Juju has after an event."""
        return self.ctx.run(self.event(event), self.state())

    def status(self, event: str = "config_changed") -> object:
        """The status that Juju shows after an event."""
        return self.run(event).unit_status

    def act(self, action: str, params: Mapping[str, Any] | None = None) -> tuple[str, Any]:
        """What an action that succeeds answers: the text, and the document."""
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


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unit:
    """A unit whose snap is not installed yet."""
    made = Unit(tmp_path)
    for name in REAL:
        monkeypatch.setattr(orchestrator_snap, name, getattr(made.workload, name))
    monkeypatch.setattr(isolation, "read", made.read_isolation)
    write_tree(build(SHAPE), tmp_path / "sys")
    monkeypatch.setattr(charm, "SysfsTree", made.sysfs)
    return made


@pytest.fixture
def settled(unit: Unit) -> Unit:
    """A unit on which all is well."""
    assert unit.status("install") == OK
    unit.workload.done.clear()
    unit.workload.isolated.clear()
    return unit


# --- events ---

RECONCILING = (
    "install",
    "start",
    "config_changed",
    "upgrade_charm",
    "update_status",
    "relation_created",
    "relation_changed",
)


@pytest.mark.parametrize("event", RECONCILING)
def test_every_event_makes_the_machine_what_it_shall_be(event: str, unit: Unit) -> None:
    assert unit.status(event) == OK
    assert unit.workload.done == ["install newest" if event == "upgrade_charm" else "install", *STEPS]
    assert unit.workload.source == FileSource(unit.bundled)
    assert unit.workload.plugs == [HYPERVISOR]
    assert unit.workload.isolated == [CpuSet.parse("2-3")]


@pytest.mark.parametrize("event", RECONCILING)
def test_an_installed_snap_is_not_installed_again(event: str, settled: Unit) -> None:
    assert settled.status(event) == OK
    assert settled.workload.done == ["hold", *STEPS]


@pytest.mark.parametrize("event", RECONCILING)
def test_every_event_tries_again_what_failed(event: str, unit: Unit) -> None:
    unit.workload.failing["install"] = SnapError("the store is on fire: pour water")
    assert unit.status(event) == testing.BlockedStatus("the store is on fire: pour water")
    unit.workload.failing.clear()
    assert unit.status(event) == OK


def test_the_end_of_the_relation_blocks(settled: Unit) -> None:
    assert settled.status("relation_broken") == testing.BlockedStatus(NO_RELATION)


@pytest.mark.parametrize("event", ["stop", "leader_elected"])
def test_an_event_that_looks_at_nothing_leaves_the_status_alone(event: str, settled: Unit) -> None:
    before = testing.BlockedStatus("as it was")
    after = settled.ctx.run(settled.event(event), settled.state(before))
    assert after.unit_status == before
    assert settled.workload.done == []


def test_tracing_disturbs_nothing(unit: Unit) -> None:
    unit.relations += [
        testing.Relation("charm-tracing", interface="tracing"),
        testing.Relation("receive-ca-cert", interface="certificate_transfer"),
    ]
    assert unit.status("install") == OK
    assert unit.workload.done == ["install", *STEPS]


# --- where the snap comes from ---

CHANNEL = {"snap-channel": "latest/edge"}
PINNED = {"snap-channel": "latest/edge", "snap-revision": 42}


@pytest.mark.parametrize(
    ("attached", "config", "source"),
    [
        (False, {}, "bundled"),
        (False, CHANNEL, StoreSource("latest/edge")),
        (False, PINNED, StoreSource("latest/edge", 42)),
        (True, {}, "attached"),
        (True, CHANNEL, "attached"),
        (True, PINNED, "attached"),
    ],
)
def test_the_resource_comes_before_the_channel_and_the_channel_before_the_charm(
    attached: bool, config: dict[str, Any], source: Source | str, unit: Unit
) -> None:
    if attached:
        unit.resource.write_text("a snap")
    unit.config = config
    assert unit.status("install") == OK
    named = {"bundled": FileSource(unit.bundled), "attached": FileSource(unit.resource)}
    assert unit.workload.source == (named[source] if isinstance(source, str) else source)


def test_the_source_changes_in_both_directions(settled: Unit) -> None:
    settled.config = CHANNEL
    settled.run()
    assert settled.workload.source == StoreSource("latest/edge")
    settled.config = {}
    settled.run()
    assert settled.workload.source == FileSource(settled.bundled)
    assert settled.workload.done.count("install") == 2


@pytest.mark.parametrize(
    ("attached", "config", "message"),
    [
        (False, {}, "installing the snap from the file epa-orchestrator.snap"),
        (True, {}, "installing the snap from the file resource.snap"),
        (False, CHANNEL, "installing the snap from latest/edge in the store"),
        (False, PINNED, "installing the snap from revision 42 in latest/edge in the store"),
    ],
)
def test_the_status_says_what_is_being_installed(
    attached: bool, config: dict[str, Any], message: str, unit: Unit
) -> None:
    if attached:
        unit.resource.write_text("a snap")
    unit.config = config
    assert unit.status("install") == OK
    assert unit.ctx.unit_status_history == [testing.UnknownStatus(), testing.MaintenanceStatus(message)]


def test_nothing_is_said_of_installing_when_nothing_is_installed(settled: Unit) -> None:
    settled.ctx.unit_status_history.clear()
    settled.run("update_status")
    assert settled.ctx.unit_status_history == [testing.UnknownStatus()]


@pytest.mark.parametrize("reason", ["no such resource", "resource#epa-orchestrator/epa-orchestrator-snap not found"])
def test_a_resource_that_was_never_attached_is_none(reason: str, unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: ops.Resources, name: str) -> Path:
        raise ops.ModelError(reason)

    monkeypatch.setattr(ops.Resources, "fetch", fetch)
    assert unit.status("install") == OK
    assert unit.workload.source == FileSource(unit.bundled)


def test_a_resource_that_juju_cannot_hand_out_leaves_the_snap_as_it_is(
    settled: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(self: ops.Resources, name: str) -> Path:
        raise ops.ModelError("could not download resource: connection refused")

    monkeypatch.setattr(ops.Resources, "fetch", fetch)
    assert settled.status() == testing.BlockedStatus(
        "Juju does not hand out the resource epa-orchestrator-snap: attach it again (could not download resource:"
        " connection refused)"
    )
    assert settled.workload.done == list(STEPS)


# --- what the operator must mend ---


def test_nothing_is_attempted_after_a_failed_install(unit: Unit) -> None:
    unit.workload.failing["install"] = SnapError("the base snap core24 is not installed: install it")
    after = unit.run("install")
    assert after.unit_status == testing.BlockedStatus("the base snap core24 is not installed: install it")
    assert unit.workload.done == ["install"]
    assert unit.workload.isolated == []
    assert after.workload_version == ""


def test_a_snap_that_cannot_be_replaced_blocks_although_the_old_one_is_there(settled: Unit) -> None:
    settled.config = CHANNEL
    settled.workload.failing["install"] = SnapError("the store cannot be reached: mend the network")
    after = settled.run()
    assert after.unit_status == testing.BlockedStatus("the store cannot be reached: mend the network")
    assert after.workload_version == "0.1.0"
    assert settled.workload.done == ["install", *STEPS]


def test_options_that_the_snap_refuses_block_and_the_connections_are_made_nevertheless(settled: Unit) -> None:
    settled.workload.failing["configure"] = SnapError("reserved-cpus=2 would take CPUs out of the pool: release them")
    settled.config = {"reserved-cpus": "2"}
    blocked = testing.BlockedStatus("reserved-cpus=2 would take CPUs out of the pool: release them")
    assert settled.status() == blocked
    assert settled.workload.done == ["hold", *STEPS]
    assert settled.workload.set["reserved-cpus"] == ""


@pytest.mark.parametrize("step", ["hold", "connect_own", "connect"])
def test_a_step_that_fails_blocks_and_the_others_are_taken(step: str, settled: Unit) -> None:
    settled.workload.failing[step] = SnapError("a:b cannot be connected: correct connect-plugs")
    assert settled.status() == testing.BlockedStatus("a:b cannot be connected: correct connect-plugs")
    assert settled.workload.done == ["hold", *STEPS]
    assert settled.workload.isolated == [], "the daemon is not asked while something is known to be wrong"


def test_of_several_failures_the_first_is_shown_and_all_are_logged(settled: Unit) -> None:
    settled.workload.failing |= {step: SnapError(f"{step} failed: mend it") for step in STEPS}
    assert settled.status() == testing.BlockedStatus("connect_own failed: mend it")
    logged = [line.message for line in settled.ctx.juju_log if line.level == "ERROR"]
    assert logged == [f"{step} failed: mend it" for step in STEPS]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"numa-policy": "sideways"},
            "numa-policy='sideways' is not valid: set it to 'best-effort', 'none', 'restricted' or 'single-numa-node'",
        ),
        ({"log-level": "loud"}, "log-level='loud' is not valid: set it to 'debug', 'info', 'warning' or 'error'"),
        (
            {"default-allocation-percent": 101},
            "default-allocation-percent='101' is not valid: input should be less than or equal to 100",
        ),
        (
            {"reserved-hugepages": "0:2048"},
            "reserved-hugepages='0:2048' is not valid: '0:2048' is not node:size_kb:count, such as 0:2048:16",
        ),
        (
            {"connect-plugs": "nova"},
            "connect-plugs='nova' is not valid: 'nova' is not snap:plug; give such pairs, separated by commas",
        ),
        (
            {"snap-channel": "!"},
            "snap-channel='!' is not valid: give a channel such as latest/stable, or nothing for the snap in the charm",
        ),
        ({"snap-revision": 3}, "snap-revision=3 needs a snap-channel: set both, or reset snap-revision"),
        (
            {"cpu-thread-policy": "require", "cpu-distribution": "cores"},
            "cpu-thread-policy=require contradicts cpu-distribution=cores: change one of the two",
        ),
    ],
)
def test_an_option_that_is_not_valid_blocks_and_leaves_the_workload_as_it_is(
    config: dict[str, Any], message: str, settled: Unit
) -> None:
    settled.config = config
    assert settled.status() == testing.BlockedStatus(message)
    assert settled.workload.done == []


def test_a_mended_option_unblocks(settled: Unit) -> None:
    settled.config = {"numa-policy": "sideways"}
    settled.run()
    settled.config = {"numa-policy": "restricted"}
    assert settled.status() == OK
    assert settled.workload.set["numa-policy"] == "restricted"


def test_the_options_that_are_handed_on_are_the_daemons_and_valid(settled: Unit) -> None:
    options = settled.workload.set
    assert {"cpu-pool", "reserved-cpus", "log-level", "numa-policy"} <= options.keys()
    assert not {"snap-channel", "snap-revision", "connect-plugs", "require-isolated-cpus"} & options.keys()
    assert parse_settings(options) == parse_settings({"log-level": "info"})


def test_the_plugs_of_the_configuration_are_connected(settled: Unit) -> None:
    settled.config = {"connect-plugs": "a:epa-info, b_2:cpus"}
    assert settled.status() == OK
    assert settled.workload.plugs == [("a", "epa-info"), ("b_2", "cpus")]


def test_a_missing_relation_blocks_on_a_healthy_host(settled: Unit) -> None:
    settled.relations.clear()
    assert settled.status() == testing.BlockedStatus(NO_RELATION)


def test_a_failed_install_is_said_before_a_missing_relation(unit: Unit) -> None:
    unit.relations.clear()
    unit.workload.failing["install"] = SnapError("no snap: attach one")
    assert unit.status() == testing.BlockedStatus("no snap: attach one")


@pytest.mark.parametrize(
    "problem",
    [
        "the daemon does not answer (refused): see 'snap logs epa-orchestrator'",
        "the daemon serves reading requests only: the state database is empty",
        "the daemon does not see the isolated CPUs 2-3: 'sudo snap connect epa-orchestrator:topology'",
    ],
)
def test_a_daemon_that_is_not_well_blocks(problem: str, settled: Unit) -> None:
    settled.workload.failing["check_health"] = SnapError(problem)
    assert settled.status("update_status") == testing.BlockedStatus(problem)
    assert settled.workload.done == ["hold", *STEPS]


# --- isolation ---

NONE_ISOLATED = made_up(Shape())


@pytest.mark.parametrize(
    ("machine", "container", "message"),
    [
        (NONE_ISOLATED, False, NO_ISOLATION),
        (NONE_ISOLATED, True, CONTAINER),
    ],
)
@pytest.mark.parametrize("required", [False, True])
def test_a_host_without_isolated_cpus_is_told_and_blocks_only_where_they_are_required(
    machine: Machine, container: bool, message: str, required: bool, settled: Unit
) -> None:
    settled.host = Isolation(machine, container)
    settled.config = {"require-isolated-cpus": required}
    expected = testing.BlockedStatus(message) if required else testing.ActiveStatus(message)
    assert settled.status() == expected
    assert settled.workload.isolated == [CpuSet()]


def test_a_host_that_cannot_be_read_blocks(settled: Unit) -> None:
    settled.host = Isolation(None, container=False, unreadable="sysfs shows no CPUs")
    assert settled.status() == testing.BlockedStatus(UNREADABLE)


def test_isolated_cpus_in_a_container_are_as_good_as_others(settled: Unit) -> None:
    settled.host = Isolation(made_up(SHAPE), container=True)
    settled.config = {"require-isolated-cpus": True}
    assert settled.status() == OK


def test_what_is_wrong_with_the_daemon_is_said_before_what_is_wrong_with_the_host(settled: Unit) -> None:
    settled.host = Isolation(NONE_ISOLATED, container=False)
    settled.config = {"require-isolated-cpus": True}
    settled.workload.failing["check_health"] = SnapError("the daemon does not answer: start it")
    assert settled.status() == testing.BlockedStatus("the daemon does not answer: start it")


# --- version, and what passes by itself ---


def test_the_version_of_the_workload_is_shown(unit: Unit) -> None:
    assert unit.run("install").workload_version == "0.1.0"
    unit.workload.snap = info("x1", version="7.5")
    assert unit.run("update_status").workload_version == "7.5"


@pytest.mark.parametrize(
    ("event", "step"),
    [
        ("install", "install"),
        ("update_status", "hold"),
        ("update_status", "connect_own"),
        ("config_changed", "configure"),
        ("update_status", "connect"),
        ("update_status", "check_health"),
        ("remove", "remove"),
    ],
)
@pytest.mark.parametrize("error", [snap.TimeoutError("slow"), snap.ConnectionError("gone")])
def test_what_passes_by_itself_fails_the_hook_so_that_juju_tries_again(
    event: str, step: str, error: snap.Error, unit: Unit
) -> None:
    if event != "install":
        unit.run("install")
    unit.workload.failing[step] = error
    with pytest.raises(testing.errors.UncaughtCharmError) as caught:
        unit.run(event)
    assert caught.value.__cause__ is error


# --- remove ---


def warnings(unit: Unit) -> list[str]:
    return [line.message for line in unit.ctx.juju_log if line.level == "WARNING"]


def test_remove_takes_the_snap_away_and_says_nothing(settled: Unit) -> None:
    before = testing.BlockedStatus("as it was")
    after = settled.ctx.run(settled.event("remove"), settled.state(before))
    assert settled.workload.done == ["remove"]
    assert warnings(settled) == []
    assert after.unit_status == before


def test_remove_logs_why_the_snap_stays(settled: Unit) -> None:
    settled.workload.kept = "nova, ovs still hold CPUs or hugepages"
    settled.run("remove")
    assert warnings(settled) == [
        "the snap epa-orchestrator is left on the machine: nova, ovs still hold CPUs or hugepages"
    ]


# --- actions ---


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("list-allocations", {}),
        ("show-machine", {}),
        ("get-status", {}),
        ("release", {"service": "nova", "confirm": True}),
    ],
)
def test_an_action_leaves_the_status_alone(action: str, params: dict[str, Any], settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2")], memory())
    before = testing.BlockedStatus("as it was")
    after = settled.ctx.run(settled.ctx.on.action(action, params=params), settled.state(before))
    assert after.unit_status == before
    assert settled.workload.done == (["release"] if action == "release" else [])


def test_list_allocations_shows_pools_and_hugepages(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2"), listing("general", ceph="0-1")], memory(nova=2))
    text, document = settled.act("list-allocations")
    words = text.split()
    assert [word for word in ("isolated", "general", "nova", "ceph", "Hugepages", "node0") if word not in words] == []
    assert "nova: 2" in text
    assert document["pools"].keys() == {"isolated", "general"}
    assert [claim["allocated_cores"] for claim in document["pools"]["isolated"]["allocations"]] == ["2"]
    assert [claim["service_name"] for claim in document["pools"]["general"]["allocations"]] == ["ceph"]
    assert document["hugepages"] == {
        "node0": {"capacity": [{"total": 8, "free": 6, "size": 2048}], "allocations": {"nova": {"2048": 2}}}
    }


def test_list_allocations_fails_when_the_daemon_is_down(settled: Unit) -> None:
    settled.workload.failing["holdings"] = SnapError("the daemon does not answer: No daemon serves")
    assert settled.failure("list-allocations") == "the daemon does not answer: No daemon serves"


def test_show_machine_shows_nodes_cores_and_hugepages(settled: Unit) -> None:
    text, document = settled.act("show-machine")
    assert "4 of 4: 0-3" in text
    assert "8 x 2048 KiB (6 free)" in text
    assert (document["online"], document["isolated"]) == ("0-3", "2-3")
    assert document["nodes"][0]["hugepages"] == [{"size_kb": 2048, "total": 8, "free": 6}]
    assert document["remarks"] == []


@pytest.mark.parametrize(
    ("shape", "remark"),
    [
        (Shape(), NO_ISOLATION),
        (Shape(isolated="0-3"), "all CPUs are isolated: the kernel and the services have none to run on"),
        (Shape(isolated="2-3", offline="3"), "CPUs 3 are isolated but offline"),
    ],
)
def test_show_machine_judges_the_isolation(shape: Shape, remark: str, settled: Unit) -> None:
    settled.host = Isolation(made_up(shape), container=False)
    text, document = settled.act("show-machine")
    assert remark in " ".join(text.split())
    assert document["remarks"] == [remark]


def test_show_machine_fails_when_there_is_nothing_to_show(settled: Unit) -> None:
    settled.host = Isolation(None, container=False, unreadable="sysfs shows no CPUs")
    assert settled.failure("show-machine") == UNREADABLE


def test_release_says_what_it_took_back(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2-3")], memory())
    text, document = settled.act("release", {"service": "nova", "confirm": True})
    assert text == "released CPUs 2-3 of pool isolated"
    assert document == {"service": "nova", "released": ["CPUs 2-3 of pool isolated"]}


@pytest.mark.parametrize("params", [{"service": "nova"}, {"service": "nova", "confirm": False}])
def test_release_wants_to_be_confirmed(params: dict[str, Any], settled: Unit) -> None:
    settled.workload.held = Holdings([listing(nova="2-3")], memory())
    assert settled.failure("release", params) == (
        "nothing was released: pass confirm=true if nothing of 'nova' runs on its CPUs"
    )
    assert settled.workload.done == []


def test_release_of_a_service_that_holds_nothing_fails(settled: Unit) -> None:
    assert settled.failure("release", {"service": "nova", "confirm": True}) == (
        "the service 'nova' holds nothing: list-allocations shows who does"
    )


def test_release_fails_with_what_the_daemon_said(settled: Unit) -> None:
    settled.workload.failing["release"] = SnapError("released nothing, then failed: the disk is full")
    assert settled.failure("release", {"service": "nova", "confirm": True}) == (
        "released nothing, then failed: the disk is full"
    )


@pytest.mark.parametrize("service", ["", "x" * 256])
def test_release_of_an_impossible_name_fails(service: str, settled: Unit) -> None:
    assert "service" in settled.failure("release", {"service": service, "confirm": True})
    assert settled.workload.done == []


def test_refresh_snap_installs_the_newest_of_the_channel_and_connects_again(settled: Unit) -> None:
    settled.config = {"snap-channel": "latest/edge"}
    settled.run("config_changed")
    settled.workload.done.clear()
    text, document = settled.act("refresh-snap")
    assert settled.workload.done == ["install newest", *STEPS]
    assert text == "revision 2 before, 3 now, version 0.1.0"
    assert document == {"before": "2", "after": "3"}


def test_refresh_snap_leaves_a_snap_that_is_the_one_in_the_charm(settled: Unit) -> None:
    text, document = settled.act("refresh-snap")
    assert settled.workload.done == ["hold", *STEPS]
    assert text == "revision x1 before, x1 now, version 0.1.0"
    assert document == {"before": "x1", "after": "x1"}


def test_refresh_snap_installs_what_is_missing(unit: Unit) -> None:
    text, document = unit.act("refresh-snap")
    assert text == "revision none before, x1 now, version 0.1.0"
    assert document == {"before": "none", "after": "x1"}


def test_refresh_snap_sets_the_status_that_it_finds(settled: Unit) -> None:
    settled.relations.clear()
    after = settled.ctx.run(settled.ctx.on.action("refresh-snap"), settled.state())
    assert after.unit_status == testing.BlockedStatus(NO_RELATION)


def test_refresh_snap_fails_with_the_reason_and_blocks(settled: Unit) -> None:
    settled.config = {"snap-channel": "latest/edge"}
    settled.workload.failing["install"] = SnapError("the store cannot be reached: mend the network")
    with pytest.raises(testing.ActionFailed) as caught:
        settled.ctx.run(settled.ctx.on.action("refresh-snap"), settled.state())
    assert caught.value.message == "the store cannot be reached: mend the network"
    assert isinstance(caught.value.state, testing.State)
    assert caught.value.state.unit_status == testing.BlockedStatus("the store cannot be reached: mend the network")


def test_get_status_tells_all_and_asks_the_daemon(settled: Unit) -> None:
    settled.workload.set = {"cpu-pool": "0", "resize-policy": "in-place"}
    text, document = settled.act("get-status")
    assert document == {
        "health": "the daemon answers",
        "version": "0.1.0",
        "revision": "x1",
        "channel": "none (installed from a file)",
        "held": True,
        "isolated-cpus": "2-3",
        "options": {"cpu-pool": "0", "resize-policy": "in-place"},
        "connections": {
            "epa-orchestrator:topology": ":system-files",
            "openstack-hypervisor:epa-info": "epa-orchestrator:epa-info",
        },
    }
    assert text.splitlines() == [
        "health: the daemon answers",
        "version: 0.1.0",
        "revision: x1",
        "channel: none (installed from a file)",
        "held: True",
        "isolated-cpus: 2-3",
        "options: cpu-pool=0, resize-policy=in-place",
        "connections: epa-orchestrator:topology=:system-files, openstack-hypervisor:epa-info=epa-orchestrator:epa-info",
    ]
    assert settled.workload.isolated == [CpuSet.parse("2-3")]


def test_get_status_tells_what_is_not_well(settled: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    settled.workload.snap = info("7", "latest/edge", held=False)
    settled.workload.failing["check_health"] = SnapError("the daemon does not answer: start it")
    settled.host = Isolation(NONE_ISOLATED, container=False)
    monkeypatch.setattr(orchestrator_snap, "links", lambda: [TOPOLOGY._replace(slot=None)])
    _, document = settled.act("get-status")
    assert document["health"] == "the daemon does not answer: start it"
    assert (document["held"], document["channel"], document["isolated-cpus"]) == (False, "latest/edge", "none")
    assert document["connections"] == {"epa-orchestrator:topology": "not connected"}


def test_get_status_fails_without_a_snap(unit: Unit) -> None:
    assert unit.failure("get-status") == "the snap is not installed: 'juju debug-log' says why"


# --- what Juju's tools can take ---


def check_it_can_be_told(*texts: str) -> None:
    """Linux takes 128 KiB for one argument, and Juju's tools get texts as arguments."""
    subprocess.run(["true", *texts], check=True)


def many_claims() -> Holdings:
    return Holdings([listing(**{f"service-é{number}": str(number) for number in range(3000)})], memory())


def test_a_listing_that_is_too_long_for_juju_is_cut(settled: Unit) -> None:
    settled.workload.held = many_claims()
    settled.ctx.run(settled.ctx.on.action("list-allocations"), settled.state())
    results = settled.ctx.action_results
    assert results is not None
    assert results.keys() == {"text"}
    check_it_can_be_told(f"text={results['text']}")
    assert "sudo epa-orchestrator list --json" in results["text"]
    assert "service-é100 " in results["text"]


def test_a_long_document_is_whole_as_long_as_juju_takes_it(settled: Unit) -> None:
    settled.workload.held = Holdings([listing(**{f"s{number}": str(number) for number in range(500)})], memory())
    _, document = settled.act("list-allocations")
    assert len(document["pools"]["isolated"]["allocations"]) == 500


def test_an_endless_sentence_of_the_daemon_is_cut(settled: Unit) -> None:
    settled.workload.failing["holdings"] = SnapError("é" * 200_000)
    settled.workload.failing["check_health"] = SnapError("é" * 200_000)
    check_it_can_be_told(settled.failure("list-allocations"))
    status = settled.run("update_status").unit_status
    assert isinstance(status, testing.BlockedStatus)
    check_it_can_be_told(status.message)
