"""So that the charm is known to work as it is packed and as Juju runs it, from its first hook to its last."""

from __future__ import annotations

import pytest

from epa_orchestrator.state import database_files
from tests.fake_snapd import BASE, CONSUMER, NAME, Service

from .unit import BUNDLED, Host, Told, Unit

ACTIVE = ("active", "")
NO_RELATION = ("blocked", "no relation sunbeam-machine: juju integrate epa-orchestrator sunbeam-machine")
NO_ISOLATED = "no isolated CPUs: pinning requests will be refused; "
PLUG = (CONSUMER, "epa-info")


@pytest.fixture
def installed(unit: Unit) -> Unit:
    """The unit after its first hook."""
    assert unit.hook("install").status == ACTIVE
    return unit


def service_of(host: Host) -> Service:
    assert host.service is not None
    return host.service


def revision_of(host: Host) -> str:
    return host.snapd.snaps[NAME].revision


def blocked(told: Told) -> str:
    """The message of a unit that waits for the operator, and has not been active in between."""
    assert [name for name, _ in told.statuses if name != "maintenance"] == ["blocked"]
    return told.status[1]


def is_removed(host: Host) -> bool:
    return NAME not in host.snapd.snaps and host.snapd.connections == {}


def test_from_the_first_hook_to_the_last(unit: Unit, host: Host) -> None:
    unit.related = False
    told = unit.hook("install")
    assert told.statuses == [("maintenance", f"installing the snap from the file {BUNDLED}"), NO_RELATION]
    assert told.version == "2.0"
    assert host.snapd.commands_of("install") == [["install", "--dangerous", str(unit.charm / BUNDLED)]]
    assert host.snapd.slot_of((NAME, "topology")) == ":system-files"
    unit.related = True
    told = unit.relation("created")
    assert (told.statuses, told.version) == ([ACTIVE], "2.0")
    for event in ("config-changed", "start"):
        assert unit.hook(event).statuses == [ACTIVE]
    assert unit.relation("changed").statuses == [ACTIVE]
    assert host.client.allocate("nova", 2).allocated_cores == "2-3"
    host.snapd.add_consumer()
    assert unit.hook("update-status").statuses == [ACTIVE]
    assert host.snapd.slot_of(PLUG) == f"{NAME}:epa-info"
    assert (revision_of(host), host.snapd.snaps[NAME].held) == ("x1", True)
    assert len(host.snapd.commands_of("install")) == 1

    unit.bundle("2.1")
    told = unit.hook("upgrade-charm")
    assert told.statuses == [("maintenance", f"installing the snap from the file {BUNDLED}"), ACTIVE]
    assert told.version == "2.1"
    assert (revision_of(host), host.snapd.snaps[NAME].held) == ("x2", True)
    assert [claim.service_name for claim in host.client.list_allocations().allocations] == ["nova"]
    assert f"/{NAME}/x2/data" in (host.snapd.mounts / f"snap.{CONSUMER}.fstab").read_text()

    assert unit.hook("stop").statuses == []
    told = unit.hook("remove")
    assert told.statuses == []
    (warning,) = [text for level, text in told.log if level == "WARNING"]
    assert warning.startswith(f"the snap {NAME} is left on the machine: nova still hold CPUs or hugepages; ")
    assert not host.snapd.snaps[NAME].held
    assert [plug for plug, _ in host.snapd.connections] == [(NAME, "network-bind")]


def test_removing_leaves_nothing_where_nobody_holds_anything(installed: Unit, host: Host) -> None:
    host.snapd.add_consumer()
    assert installed.hook("update-status").status == ACTIVE
    installed.hook("stop")
    assert installed.hook("remove").statuses == []
    assert is_removed(host)
    assert sorted(host.snapd.commands_of("disconnect")) == [
        ["disconnect", "--forget", f"{NAME}:topology", ":system-files"],
        ["disconnect", "--forget", f"{CONSUMER}:epa-info", f"{NAME}:epa-info"],
    ]


def test_removing_leaves_a_snap_whose_daemon_does_not_answer(installed: Unit, host: Host) -> None:
    service_of(host).kill()
    (warning,) = [text for level, text in installed.hook("remove").log if level == "WARNING"]
    assert warning.startswith(
        f"the snap {NAME} is left on the machine: it is not known who holds what: the daemon does"
    )
    assert NAME in host.snapd.snaps
    assert not host.snapd.snaps[NAME].held


def test_actions_show_release_and_refresh(installed: Unit, host: Host) -> None:
    host.client.allocate("nova", 2)
    host.client.set_hugepages("nova", 0, 2048, 16)
    told = installed.action("list-allocations")
    assert told.failure is None
    assert "nova" in told.results["text"]
    assert [claim["service_name"] for claim in told.document["pools"]["isolated"]["allocations"]] == ["nova"]
    assert told.document["hugepages"]["node0"]["allocations"] == {"nova": {"2048": 16}}
    told = installed.action("get-status")
    assert told.document["health"] == "the daemon answers"
    assert told.document["revision"] == "x1"
    assert told.document["isolated-cpus"] == "2-7"
    assert told.document["connections"] == {
        f"{NAME}:network-bind": ":network-bind",
        f"{NAME}:topology": ":system-files",
    }
    assert "health: the daemon answers" in told.results["text"]

    told = installed.action("release", service="nova")
    assert told.failure == "nothing was released: pass confirm=true if nothing of 'nova' runs on its CPUs"
    assert installed.action("release", service="", confirm=True).failure is not None
    told = installed.action("release", service="cinder", confirm=True)
    assert told.failure == "the service 'cinder' holds nothing: list-allocations shows who does"
    assert host.client.list_allocations().total_allocated_cpus == 2
    told = installed.action("release", service="nova", confirm=True)
    assert told.failure is None
    assert told.results["text"] == "released CPUs 2-3 of pool isolated, 16 hugepages of 2048 KiB on node0"
    assert host.client.list_allocations().total_allocated_cpus == 0

    told = installed.action("refresh-snap")
    assert told.failure is None
    assert told.results["text"] == "revision x1 before, x1 now, version 2.0"
    assert told.document == {"before": "x1", "after": "x1"}
    assert told.status == ACTIVE


def test_actions_that_cannot_be_done_fail_with_a_sentence(unit: Unit, host: Host) -> None:
    assert unit.action("get-status").failure == "the snap is not installed: 'juju debug-log' says why"
    assert str(unit.action("list-allocations").failure).startswith("the daemon does not answer: No daemon serves")
    told = unit.action("release", service="nova", confirm=True)
    assert str(told.failure).startswith("the daemon does not answer: No daemon serves")
    unit.bundle("")
    told = unit.action("refresh-snap")
    assert str(told.failure).startswith(f"the charm carries no snap ({BUNDLED}): attach the resource")
    assert blocked(told) == told.failure
    told = unit.action("show-machine")
    assert told.failure is None
    assert "2-7" in told.results["text"]
    assert told.document["remarks"] == []


def test_an_invalid_option_blocks_and_leaves_the_daemon_alone(installed: Unit, host: Host) -> None:
    before, requests = host.settings(), len(host.snapd.requests)
    for options, sentence in (
        ({"numa_policy": "best"}, "numa-policy='best' is not valid: set it to "),
        ({"connect_plugs": "nova"}, "connect-plugs='nova' is not valid: 'nova' is not snap:plug; give such pairs"),
        ({"snap_revision": 4}, "snap-revision=4 needs a snap-channel: set both, or reset snap-revision"),
    ):
        told = installed.configure(**options, log_level="debug")
        assert blocked(told).startswith(sentence)
        installed.config.clear()
    assert host.settings() == before
    assert host.snapd.asked("PUT conf") == 1, "the one of the first hook"
    assert len(host.snapd.requests) == requests
    assert host.client.allocate("nova", 1).cores_allocated == 1
    assert installed.hook("config-changed").statuses == [ACTIVE]


def test_options_reach_the_daemon_unless_they_would_orphan_claims(installed: Unit, host: Host) -> None:
    host.client.allocate("nova", 2)
    assert installed.configure(reserved_cpus="7", default_allocation_percent=50).statuses == [ACTIVE]
    before = host.settings()
    assert (before["reserved-cpus"], before["default-allocation-percent"]) == ("7", 50)
    sentence = blocked(installed.configure(reserved_cpus="2,7"))
    assert "reserved-cpus" in sentence
    assert "nova" in sentence
    assert "run hook" not in sentence
    assert host.settings() == before
    assert host.client.list_allocations().cpu_pool.eligible_cpus == "2-6"
    assert installed.configure(reserved_cpus="").statuses == [ACTIVE]
    assert host.settings()["reserved-cpus"] == ""
    assert host.client.list_allocations().cpu_pool.eligible_cpus == "2-7"


def test_a_resource_is_taken_while_it_is_attached(installed: Unit, host: Host) -> None:
    host.client.allocate("nova", 2)
    installed.attach("2.5")
    told = installed.hook("upgrade-charm")
    assert told.statuses == [("maintenance", "installing the snap from the file attached.snap"), ACTIVE]
    assert (told.version, revision_of(host)) == ("2.5", "x2")
    installed.attach("")
    told = installed.hook("upgrade-charm")
    assert (told.status, told.version, revision_of(host)) == (ACTIVE, "2.0", "x3")
    assert host.client.list_allocations().total_allocated_cpus == 2


def test_a_channel_is_taken_while_it_is_set(installed: Unit, host: Host) -> None:
    snapd = host.snapd
    snapd.store.publish(NAME, "latest/edge", 7, "3.0")
    host.client.allocate("nova", 2)
    told = installed.configure(snap_channel="edge")
    assert told.statuses == [("maintenance", "installing the snap from latest/edge in the store"), ACTIVE]
    assert (told.version, revision_of(host), snapd.snaps[NAME].tracking) == ("3.0", "7", "latest/edge")
    assert snapd.commands_of("refresh") == [["refresh", "--amend", "--channel", "latest/edge", NAME]]
    assert snapd.snaps[NAME].held
    told = installed.configure(snap_channel="2.4/stable")
    sentence = blocked(told)
    assert sentence.startswith("there is no 2.4/stable in the store (")
    assert sentence.endswith("set another channel or revision, or reset snap-channel")
    assert told.version == "3.0"
    told = installed.configure(snap_channel="")
    assert (told.status, told.version, revision_of(host)) == (ACTIVE, "2.0", "x2")
    told = installed.configure(snap_channel="edge")
    assert (told.status, told.version, revision_of(host)) == (ACTIVE, "3.0", "7")
    assert host.client.list_allocations().total_allocated_cpus == 2


def test_a_unit_without_isolated_cpus_says_so_and_blocks_if_told_to(installed: Unit, host: Host) -> None:
    host.isolate("")
    here = NO_ISOLATED + "set isolcpus= on the kernel command line and reboot"
    assert installed.hook("update-status").statuses == [("active", here)]
    assert installed.configure(require_isolated_cpus=True).statuses == [("blocked", here)]
    assert installed.action("show-machine").document["remarks"] == [here]
    host.isolate("4-7")
    assert installed.hook("update-status").statuses == [ACTIVE]


def test_in_a_container_the_isolation_is_the_hosts(installed: Unit, host: Host) -> None:
    installed.be_container()
    host.isolate("")
    status, message = installed.hook("update-status").status
    assert status == "active"
    assert message == NO_ISOLATED + "this is a container, and isolation belongs to its host: set isolcpus= there"


def test_a_daemon_that_is_down_blocks_until_it_is_back(installed: Unit, host: Host) -> None:
    service_of(host).kill()
    told = installed.hook("update-status")
    sentence = blocked(told)
    assert sentence.startswith("the daemon does not answer (No daemon serves ")
    assert sentence.endswith(f"see 'snap logs {NAME}', then 'sudo snap start --enable {NAME}'")
    told = installed.action("get-status")
    assert told.failure is None
    assert told.document["health"] == sentence
    service_of(host).start()
    assert installed.hook("update-status").statuses == [ACTIVE]


def test_a_state_that_cannot_be_read_blocks(installed: Unit, host: Host) -> None:
    service = service_of(host)
    service.stop()
    for file in service.log.parent.glob(f"{database_files.FILE_NAME}*"):
        file.unlink()
    (service.log.parent / database_files.FILE_NAME).write_text("no database", encoding="utf-8")
    service.start()
    sentence = blocked(installed.hook("update-status"))
    assert sentence.startswith("the daemon serves reading requests only: The state database ")
    assert "restart this daemon" in sentence


def test_a_broken_relation_is_missed_at_once(installed: Unit, host: Host) -> None:
    assert installed.relation("broken").statuses == [NO_RELATION]
    installed.related = False
    assert installed.hook("update-status").statuses == [NO_RELATION]
    assert NAME in host.snapd.snaps


def test_a_consumer_that_cannot_be_connected_is_named(installed: Unit, host: Host) -> None:
    host.snapd.add_consumer(plug="other")
    sentence = blocked(installed.hook("update-status"))
    assert sentence.startswith(f"{CONSUMER}:epa-info cannot be connected (")
    assert sentence.endswith("correct connect-plugs")
    assert installed.configure(connect_plugs=f"{CONSUMER}:other").statuses == [ACTIVE]
    assert host.snapd.slot_of((CONSUMER, "other")) == f"{NAME}:epa-info"


def test_the_models_proxies_reach_the_command_snap(unit: Unit, host: Host) -> None:
    unit.proxies = {"JUJU_CHARM_HTTP_PROXY": "http://proxy.test:3128", "JUJU_CHARM_NO_PROXY": "localhost"}
    assert unit.hook("install").status == ACTIVE
    (install,) = [command for command in host.snapd.commands if command.arguments[0] == "install"]
    for name in ("http_proxy", "HTTP_PROXY"):
        assert install.environment[name] == "http://proxy.test:3128"
    assert install.environment["no_proxy"] == "localhost"
    assert "https_proxy" not in install.environment


def test_what_cannot_be_installed_is_never_active_until_it_can(unit: Unit, host: Host) -> None:
    bundled = (unit.charm / BUNDLED).read_bytes()
    unit.bundle("")
    sentence = blocked(unit.hook("install"))
    assert sentence == (f"the charm carries no snap ({BUNDLED}): attach the resource {NAME}-snap, or set snap-channel")
    (unit.charm / BUNDLED).write_bytes(b"not a snap")
    assert blocked(unit.hook("config-changed")).startswith(f"the snap cannot be installed from the file {BUNDLED}: ")
    (unit.charm / BUNDLED).write_bytes(bundled)
    del host.snapd.snaps[BASE]
    host.snapd.store.down = True
    assert blocked(unit.hook("start")).startswith(f"the base snap {BASE} is not installed and could not be fetched")
    sentence = blocked(unit.configure(snap_channel="latest/stable"))
    assert sentence.startswith("the store cannot be reached for latest/stable in the store (")
    assert NAME not in host.snapd.snaps
    host.snapd.store.down = False
    assert blocked(unit.hook("update-status")).startswith(f"the store has no snap {NAME}: reset snap-channel")
    told = unit.configure(snap_channel="")
    assert (told.status, told.version) == (ACTIVE, "2.0")


def test_without_snapd_the_unit_blocks_until_it_is_there(unit: Unit, host: Host) -> None:
    socket = host.root / "run" / "snapd.socket"
    socket.rename(socket.with_name("elsewhere"))
    assert blocked(unit.hook("install")) == "snapd is not on this machine: 'sudo apt install snapd'"
    socket.with_name("elsewhere").rename(socket)
    assert unit.hook("install").status == ACTIVE
