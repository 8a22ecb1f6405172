# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The packed charm works as Juju runs it, from its first hook to its last."""

from __future__ import annotations

import json

import pytest

from epa_orchestrator.state import database_files
from tests.fake_snapd.snaps import BASE, CONSUMER, NAME
from tests.service import Service

from .unit import BUNDLED, Host, Outcome, Unit

ACTIVE = ("active", "")


def used(free: int, total: int = 6) -> tuple[str, str]:
    """The status of a unit on which one service holds the CPUs that are not free."""
    return "active", f"{free} of {total} CPUs free, 1 service"


NO_RELATION = ("blocked", "missing relation sunbeam-machine: run 'juju integrate epa-orchestrator sunbeam-machine'")
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


def blocked(outcome: Outcome) -> str:
    """The message of a blocked unit that was not active in between."""
    assert [name for name, _ in outcome.statuses if name != "maintenance"] == ["blocked"]
    return outcome.status[1]


def is_removed(host: Host) -> bool:
    return NAME not in host.snapd.snaps and host.snapd.connections == {}


def test_from_the_first_hook_to_the_last(unit: Unit, host: Host) -> None:
    unit.related = False
    outcome = unit.hook("install")
    assert outcome.statuses == [("maintenance", f"installing the snap from the file {BUNDLED}"), NO_RELATION]
    assert outcome.version == "2.0"
    assert host.snapd.commands_of("install") == [["install", "--dangerous", str(unit.charm / BUNDLED)]]
    assert host.snapd.slot_of((NAME, "topology")) == ":system-files"
    assert host.snapd.slot_of((NAME, "sys-devices-system-node")) == ":system-files"
    unit.related = True
    outcome = unit.relation("created")
    assert (outcome.statuses, outcome.version) == ([ACTIVE], "2.0")
    for event in ("config-changed", "start"):
        assert unit.hook(event).statuses == [ACTIVE]
    assert unit.relation("changed").statuses == [ACTIVE]
    assert host.client.allocate("nova", 2).allocated_cores == "2-3"
    host.snapd.add_consumer()
    assert unit.hook("update-status").statuses == [used(4)]
    assert host.snapd.slot_of(PLUG) == f"{NAME}:epa-info"
    assert (revision_of(host), host.snapd.snaps[NAME].held) == ("x1", True)
    assert len(host.snapd.commands_of("install")) == 1

    unit.bundle("2.1")
    outcome = unit.hook("upgrade-charm")
    assert outcome.statuses == [("maintenance", f"installing the snap from the file {BUNDLED}"), used(4)]
    assert outcome.version == "2.1"
    assert (revision_of(host), host.snapd.snaps[NAME].held) == ("x2", True)
    assert [claim.service_name for claim in host.client.list_allocations().allocations] == ["nova"]
    assert f"/{NAME}/x2/data" in (host.snapd.mounts / f"snap.{CONSUMER}.fstab").read_text()

    assert unit.hook("stop").statuses == []
    outcome = unit.hook("remove")
    assert outcome.statuses == []
    (warning,) = [text for level, text in outcome.log if level == "WARNING"]
    assert warning.startswith(f"the snap {NAME} stays on the machine: CPUs or hugepages are still held by nova; ")
    assert not host.snapd.snaps[NAME].held
    assert [plug for plug, _ in host.snapd.connections] == [(NAME, "network-bind")]


def test_remove_leaves_nothing_without_claims(installed: Unit, host: Host) -> None:
    host.snapd.add_consumer()
    assert installed.hook("update-status").status == ACTIVE
    installed.hook("stop")
    assert installed.hook("remove").statuses == []
    assert is_removed(host)
    assert sorted(host.snapd.commands_of("disconnect")) == [
        ["disconnect", "--forget", f"{NAME}:isolation", ":system-files"],
        ["disconnect", "--forget", f"{NAME}:sys-devices-system-node", ":system-files"],
        ["disconnect", "--forget", f"{NAME}:system-observe", ":system-observe"],
        ["disconnect", "--forget", f"{NAME}:topology", ":system-files"],
        ["disconnect", "--forget", f"{CONSUMER}:epa-info", f"{NAME}:epa-info"],
    ]


def test_remove_keeps_a_snap_whose_daemon_does_not_answer(installed: Unit, host: Host) -> None:
    service_of(host).kill()
    (warning,) = [text for level, text in installed.hook("remove").log if level == "WARNING"]
    assert warning.startswith(
        f"the snap {NAME} stays on the machine: its claims cannot be read: the daemon does not answer"
    )
    assert NAME in host.snapd.snaps
    assert not host.snapd.snaps[NAME].held


def test_actions_show_release_and_refresh(installed: Unit, host: Host) -> None:
    host.client.allocate("nova", 2)
    host.client.set_hugepages("nova", 0, 2048, 16)
    outcome = installed.action("list-allocations")
    assert outcome.failure is None
    assert "nova" in outcome.results["text"]
    assert [claim["service_name"] for claim in outcome.document["pools"]["isolated"]["allocations"]] == ["nova"]
    assert outcome.document["hugepages"]["node0"]["allocations"] == {"nova": {"2048": 16}}
    outcome = installed.action("get-status")
    assert outcome.document["health"] == "the daemon answers"
    assert outcome.document["revision"] == "x1"
    assert outcome.document["isolated-cpus"] == "2-7"
    assert outcome.document["connections"] == {
        f"{NAME}:isolation": ":system-files",
        f"{NAME}:network-bind": ":network-bind",
        f"{NAME}:sys-devices-system-node": ":system-files",
        f"{NAME}:system-observe": ":system-observe",
        f"{NAME}:topology": ":system-files",
    }
    assert "health: the daemon answers" in outcome.results["text"]

    outcome = installed.action("release", service="nova")
    assert outcome.failure == "nothing was released: stop all that uses the CPUs of 'nova', then pass confirm=true"
    assert installed.action("release", service="", confirm=True).failure is not None
    outcome = installed.action("release", service="cinder", confirm=True)
    assert outcome.failure == "the service 'cinder' holds no CPUs or hugepages: see list-allocations"
    assert host.client.list_allocations().total_allocated_cpus == 2
    outcome = installed.action("release", service="nova", confirm=True)
    assert outcome.failure is None
    assert outcome.results["text"] == "released CPUs 2-3 of pool isolated, 16 hugepages of 2M on node0"
    assert host.client.list_allocations().total_allocated_cpus == 0

    outcome = installed.action("refresh-snap")
    assert outcome.failure is None
    assert outcome.results["text"] == "revision x1 before, x1 now, version 2.0"
    assert outcome.document == {"before": "x1", "after": "x1", "problems": []}
    assert outcome.status == ACTIVE


def test_actions_show_what_the_command_line_shows(installed: Unit, host: Host) -> None:
    host.client.allocate("nova", 2)
    explained = installed.action("explain", service="ceph", **{"count": 2, "cpu-thread-policy": "require"})
    assert explained.failure is None
    assert explained.results["text"].startswith("ceph would get CPUs 4-5\n")
    assert "nova" in installed.action("history", service="nova").results["text"]
    assert "nova" in installed.action("show-machine", format="svg").results["svg"]
    recorded = installed.action("record")
    assert json.loads(recorded.results["recording"])["files"]["devices/system/cpu/isolated"] == "2-7"
    reported = json.loads(installed.action("report").results["report"])
    assert [claim["service_name"] for claim in reported["pools"]["isolated"]["allocations"]] == ["nova"]
    assert "history" in reported


def test_impossible_actions_fail_with_a_sentence(unit: Unit, host: Host) -> None:
    assert unit.action("get-status").failure == "the snap is not installed: see 'juju debug-log'"
    assert str(unit.action("list-allocations").failure).startswith("the daemon does not answer: No daemon serves")
    outcome = unit.action("release", service="nova", confirm=True)
    assert str(outcome.failure).startswith("the daemon does not answer: No daemon serves")
    unit.bundle("")
    outcome = unit.action("refresh-snap")
    assert str(outcome.failure).startswith(f"attach the resource {NAME}-snap, or set snap-channel: the charm contains")
    assert blocked(outcome) == outcome.failure
    outcome = unit.action("show-machine")
    assert outcome.failure is None
    assert "2-7" in outcome.results["text"]
    assert outcome.document["remarks"] == []


def test_audit_names_what_is_broken(installed: Unit, host: Host) -> None:
    host.tick_on("2-7", without=False)
    (level, sentence) = installed.hook("update-status").status
    assert level == "active"
    assert sentence.startswith("isolation is broken: C1 (")
    assert sentence.endswith("; run the action audit-isolation")
    outcome = installed.action("audit-isolation")
    assert outcome.failure is None
    results = {check["id"]: check["result"] for check in outcome.document["checks"]}
    assert results["C1"] == "fail"
    assert "FAIL C1 " in outcome.results["text"]
    host.tick_on("2-7", without=True)
    assert installed.hook("update-status").status == ACTIVE


def test_invalid_option_blocks_and_stops_neither_hold_nor_repair(installed: Unit, host: Host) -> None:
    host.snapd.add_consumer()
    before = host.settings()
    for options, sentence in (
        ({"numa_policy": "best"}, "numa-policy='best' is not valid: set it to "),
        ({"connect_plugs": "nova"}, "connect-plugs='nova' is not valid: 'nova' is not snap:plug; separate such pairs"),
        ({"snap_revision": 4}, "snap-revision=4 needs a snap-channel: set both, or reset snap-revision"),
        ({"snap_name": "other"}, "snap-name='other' is not valid: the snap is always epa-orchestrator"),
    ):
        host.snapd.snaps[NAME].held = False
        host.snapd.connections.pop(((NAME, "topology"), ("", "system-files")))
        outcome = installed.configure(**options)
        assert blocked(outcome).startswith(sentence)
        assert host.snapd.snaps[NAME].held
        assert host.snapd.slot_of((NAME, "topology")) == ":system-files"
        installed.config.clear()
    assert host.settings() == before
    assert revision_of(host) == "x1"
    assert host.client.allocate("nova", 1).cores_allocated == 1
    assert installed.hook("config-changed").statuses == [used(5)]


def test_options_of_snap_set_stay_and_those_of_juju_go_when_reset(installed: Unit, host: Host) -> None:
    host.snapd.handle("PUT", f"/v2/snaps/{NAME}/conf", {"allowed-uids": "64060", "resize-policy": "reallocate"})
    assert installed.configure(reserved_cpus="7", allowed_gids="64060").statuses == [ACTIVE]
    assert host.settings() == {
        "allowed-gids": "64060",
        "allowed-uids": "64060",
        "reserved-cpus": "7",
        "resize-policy": "reallocate",
    }
    installed.config.clear()
    assert installed.hook("config-changed").statuses == [ACTIVE]
    assert host.settings() == {"allowed-uids": "64060", "resize-policy": "reallocate"}
    assert host.snapd.snaps[NAME].options["charm"]["unit"] == "epa-orchestrator/0"


def test_second_application_on_the_machine_is_blocked(installed: Unit, host: Host) -> None:
    (host.root / "var/lib/juju/agents/unit-first-0").mkdir()
    host.snapd.snaps[NAME].options["charm"]["unit"] = "first/0"
    requests = len(host.snapd.commands)
    sentence = blocked(installed.configure(reserved_cpus="7"))
    assert sentence.startswith("run 'juju remove-application epa-orchestrator': the unit first/0 already runs the snap")
    assert len(host.snapd.commands) == requests
    assert "reserved-cpus" not in host.settings()
    installed.hook("remove")
    assert NAME in host.snapd.snaps
    (host.root / "var/lib/juju/agents/unit-first-0").rmdir()
    assert installed.hook("update-status").statuses == [ACTIVE]
    assert host.settings()["reserved-cpus"] == "7"


def test_options_reach_the_daemon_unless_they_take_cpus_from_claims(installed: Unit, host: Host) -> None:
    host.client.allocate("nova", 2)
    assert installed.configure(reserved_cpus="7", default_allocation_percent=50).statuses == [used(3, 5)]
    before = host.settings()
    assert (before["reserved-cpus"], before["default-allocation-percent"]) == ("7", 50)
    sentence = blocked(installed.configure(reserved_cpus="2,7"))
    assert "reserved-cpus" in sentence
    assert "nova" in sentence
    assert "run hook" not in sentence
    assert host.settings() == before
    assert host.client.list_allocations().cpu_pool.eligible_cpus == "2-6"
    assert installed.configure(reserved_cpus="").statuses == [used(4)]
    assert "reserved-cpus" not in host.settings()
    assert host.client.list_allocations().cpu_pool.eligible_cpus == "2-7"


def test_snap_comes_from_the_resource_while_it_is_attached(installed: Unit, host: Host) -> None:
    host.client.allocate("nova", 2)
    installed.attach("2.5")
    outcome = installed.hook("upgrade-charm")
    assert outcome.statuses == [("maintenance", "installing the snap from the file attached.snap"), used(4)]
    assert (outcome.version, revision_of(host)) == ("2.5", "x2")
    installed.attach("")
    outcome = installed.hook("upgrade-charm")
    assert (outcome.status, outcome.version, revision_of(host)) == (used(4), "2.0", "x3")
    assert host.client.list_allocations().total_allocated_cpus == 2


def test_snap_comes_from_the_channel_while_it_is_set(installed: Unit, host: Host) -> None:
    snapd = host.snapd
    snapd.store.publish(NAME, "latest/edge", 7, "3.0")
    host.client.allocate("nova", 2)
    outcome = installed.configure(snap_channel="edge")
    assert outcome.statuses == [
        ("maintenance", "installing the snap from revision 7 in latest/edge in the store"),
        used(4),
    ]
    assert (outcome.version, revision_of(host), snapd.snaps[NAME].tracking) == ("3.0", "7", "latest/edge")
    pinned = ["--revision", "7"]
    assert snapd.commands_of("refresh") == [["refresh", "--amend", "--channel", "latest/edge", *pinned, NAME]]
    assert snapd.snaps[NAME].held
    outcome = installed.configure(snap_channel="2.4/stable")
    sentence = blocked(outcome)
    remedy = "set another channel or revision, or reset snap-channel"
    assert sentence.startswith(f"{remedy}: there is no 2.4/stable in the store (")
    assert outcome.version == "3.0"
    outcome = installed.configure(snap_channel="")
    assert (outcome.status, outcome.version, revision_of(host)) == (used(4), "2.0", "x2")
    outcome = installed.configure(snap_channel="edge")
    assert (outcome.status, outcome.version, revision_of(host)) == (used(4), "3.0", "7")
    assert host.client.list_allocations().total_allocated_cpus == 2


def test_missing_isolation_is_shown_and_blocks_if_required(installed: Unit, host: Host) -> None:
    host.isolate("")
    here = NO_ISOLATED + "set isolcpus= on the kernel command line and reboot"
    assert installed.hook("update-status").statuses == [("active", here)]
    assert installed.configure(require_isolated_cpus=True).statuses == [("blocked", here)]
    assert installed.action("show-machine").document["remarks"] == [here]
    host.isolate("4-7")
    assert installed.hook("update-status").statuses == [ACTIVE]


def test_unit_in_a_container_is_active_and_says_what_is_different(installed: Unit, host: Host) -> None:
    installed.become_container()
    here = "this is a container: isolation belongs to the host, and an orchestrator there would grant the same CPUs"
    assert installed.hook("update-status").statuses == [("active", here)]
    host.isolate("")
    remedy = "set isolcpus= on the host's kernel command line and reboot the host"
    assert installed.hook("update-status").statuses == [("active", f"{NO_ISOLATED}{remedy}; {here}")]


def test_stopped_daemon_blocks_until_it_runs_again(installed: Unit, host: Host) -> None:
    service_of(host).kill()
    outcome = installed.hook("update-status")
    sentence = blocked(outcome)
    assert sentence.startswith(f"run 'sudo snap start --enable {NAME}': the daemon does not answer (No daemon serves ")
    assert sentence.endswith(f"; 'snap logs {NAME}' may say why")
    outcome = installed.action("get-status")
    assert outcome.failure is None
    assert outcome.document["health"] == sentence
    service_of(host).start()
    assert installed.hook("update-status").statuses == [ACTIVE]


def test_unreadable_state_blocks(installed: Unit, host: Host) -> None:
    service = service_of(host)
    service.stop()
    for file in service.log.parent.glob(f"{database_files.FILE_NAME}*"):
        file.unlink()
    (service.log.parent / database_files.FILE_NAME).write_text("no database", encoding="utf-8")
    service.start()
    sentence = blocked(installed.hook("update-status"))
    assert sentence.startswith("the daemon answers read requests only: The state database ")
    assert "restart this daemon" in sentence


def test_broken_relation_blocks_at_once(installed: Unit, host: Host) -> None:
    assert installed.relation("broken").statuses == [NO_RELATION]
    installed.related = False
    assert installed.hook("update-status").statuses == [NO_RELATION]
    assert NAME in host.snapd.snaps


def test_failed_connection_is_reported(installed: Unit, host: Host) -> None:
    host.snapd.add_consumer(plug="other")
    sentence = blocked(installed.hook("update-status"))
    assert sentence.startswith(f"correct connect-plugs: failed to connect {CONSUMER}:epa-info (")
    assert installed.configure(connect_plugs=f"{CONSUMER}:other").statuses == [ACTIVE]
    assert host.snapd.slot_of((CONSUMER, "other")) == f"{NAME}:epa-info"


def test_model_proxies_reach_the_command_snap(unit: Unit, host: Host) -> None:
    unit.proxies = {"JUJU_CHARM_HTTP_PROXY": "http://proxy.test:3128", "JUJU_CHARM_NO_PROXY": "localhost"}
    assert unit.hook("install").status == ACTIVE
    (install,) = [command for command in host.snapd.commands if command.arguments[0] == "install"]
    for name in ("http_proxy", "HTTP_PROXY"):
        assert install.environment[name] == "http://proxy.test:3128"
    assert install.environment["no_proxy"] == "localhost"
    assert "https_proxy" not in install.environment


def test_failed_install_blocks_until_it_succeeds(unit: Unit, host: Host) -> None:
    bundled = (unit.charm / BUNDLED).read_bytes()
    unit.bundle("")
    sentence = blocked(unit.hook("install"))
    assert sentence == f"attach the resource {NAME}-snap, or set snap-channel: the charm contains no snap ({BUNDLED})"
    (unit.charm / BUNDLED).write_bytes(b"not a snap")
    failed = f"see 'snap changes' on the machine: failed to install the snap from the file {BUNDLED}: "
    assert blocked(unit.hook("config-changed")).startswith(failed)
    (unit.charm / BUNDLED).write_bytes(bundled)
    del host.snapd.snaps[BASE]
    host.snapd.store.down = True
    assert blocked(unit.hook("start")).startswith(f"run 'sudo snap install {BASE}', or without a network ")
    assert blocked(unit.configure(snap_channel="latest/stable")).startswith(f"run 'sudo snap install {BASE}'")
    assert NAME not in host.snapd.snaps
    host.snapd.store.down = False
    assert blocked(unit.hook("update-status")).startswith("reset snap-channel to use the snap in the charm: ")
    outcome = unit.configure(snap_channel="")
    assert (outcome.status, outcome.version) == (ACTIVE, "2.0")


def test_missing_snapd_blocks_until_it_is_installed(unit: Unit, host: Host) -> None:
    socket = host.root / "run" / "snapd.socket"
    socket.rename(socket.with_name("elsewhere"))
    assert blocked(unit.hook("install")) == "snapd is not installed: run 'sudo apt install snapd'"
    socket.with_name("elsewhere").rename(socket)
    assert unit.hook("install").status == ACTIVE
