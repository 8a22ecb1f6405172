# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Options, connections and removal of the snap, against a stand-in for snapd."""

from __future__ import annotations

from typing import Any

import pytest
from charmlibs import snap

import installation
import orchestrator_snap
from charm_record import Record
from snap_sources import FileSource
from tests.fake_snapd.snapd import Snapd, mount_profile
from tests.fake_snapd.snaps import CONSUMER, NAME
from tests.fake_snapd.troubles import BUSY, ChangeFails
from tests.service import Service

from .workload import ATTEMPTS, PLUG, add_claims, error_of


def values(fake: Snapd) -> dict[str, object]:
    """The options in the snap, without the charm's record."""
    return {name: value for name, value in fake.snaps[NAME].options.items() if name != "charm"}


def test_options_are_set_in_one_step_and_only_if_they_differ(ours: Snapd) -> None:
    orchestrator_snap.ensure_config({"reserved-cpus": "2", "default-allocation-percent": 50})
    orchestrator_snap.ensure_config({"reserved-cpus": "2", "default-allocation-percent": 60})
    orchestrator_snap.ensure_config({"reserved-cpus": "2", "default-allocation-percent": 60})
    assert ours.request_count("PUT conf") == 2
    assert orchestrator_snap.options() == {"reserved-cpus": "2", "default-allocation-percent": 60}


def test_option_that_was_set_with_snap_set_stays(ours: Snapd) -> None:
    ours.snaps[NAME].options = {"allowed-uids": "64060", "cpu-pool": "0-1"}
    orchestrator_snap.ensure_config({"reserved-cpus": "2"})
    assert values(ours) == {"allowed-uids": "64060", "cpu-pool": "0-1", "reserved-cpus": "2"}
    orchestrator_snap.ensure_config({})
    assert values(ours) == {"allowed-uids": "64060", "cpu-pool": "0-1"}


def test_option_that_somebody_else_changed_stays_when_it_is_reset_in_juju(ours: Snapd) -> None:
    orchestrator_snap.ensure_config({"reserved-cpus": "2", "cpu-pool": "0"})
    ours.snaps[NAME].options["reserved-cpus"] = "3"
    orchestrator_snap.ensure_config({})
    assert values(ours) == {"reserved-cpus": "3"}
    assert orchestrator_snap.record().options == {}


def test_refused_options_leave_the_record_as_it_is(ours: Snapd) -> None:
    orchestrator_snap.ensure_config({"reserved-cpus": "2"})
    ours.configure_hook = lambda _: "no"
    assert error_of(lambda: orchestrator_snap.ensure_config({})) == "no"
    assert orchestrator_snap.record().options == {"reserved-cpus": "2"}


NO_METRICS = "there is no option 'metrics-port'; the options are cpu-pool, reserved-cpus"


def refusing(options: dict[str, Any]) -> str | None:
    """An older hook that looks at all options."""
    if "metrics-port" in options:
        return NO_METRICS
    return "reserved-cpus=9 names CPUs 9" if options.get("reserved-cpus") == "9" else None


def test_optional_option_that_is_refused_keeps_no_other_from_the_snap(ours: Snapd) -> None:
    ours.configure_hook = refusing
    requested = {"reserved-cpus": "2", "metrics-port": 9795}
    assert orchestrator_snap.ensure_config(requested, "metrics-port") == ["metrics-port"]
    assert values(ours) == orchestrator_snap.record().options == {"reserved-cpus": "2"}


def test_newer_snap_gets_the_option_that_an_older_one_refused(ours: Snapd) -> None:
    ours.configure_hook = refusing
    orchestrator_snap.ensure_config({"metrics-port": 9795}, "metrics-port")
    ours.configure_hook = lambda _: None
    assert orchestrator_snap.ensure_config({"metrics-port": 9795}, "metrics-port") == []
    assert values(ours) == {"metrics-port": 9795}


def test_mistake_in_another_option_is_still_an_error(ours: Snapd) -> None:
    ours.configure_hook = refusing
    requested = {"reserved-cpus": "9", "metrics-port": 9795}
    assert (
        error_of(lambda: orchestrator_snap.ensure_config(requested, "metrics-port")) == "reserved-cpus=9 names CPUs 9"
    )
    ours.configure_hook = lambda options: "no" if "reserved-cpus" in options else None
    assert error_of(lambda: orchestrator_snap.ensure_config(requested, "metrics-port")) == "no"
    assert values(ours) == {}


def test_options_that_the_hook_has_not_stored_are_unknown(ours: Snapd, service: Service) -> None:
    """The older hook asks snapd only for the options that it knows, so it silently accepts all others."""
    del ours
    (service.socket.parents[1] / "settings.json").write_text('{"cpu-pool": "0"}', encoding="utf-8")
    assert orchestrator_snap.ensure_config({"cpu-pool": "0", "metrics-port": 9795}) == ["metrics-port"]


@pytest.mark.usefixtures("ours")
def test_without_stored_options_none_is_unknown() -> None:
    assert orchestrator_snap.ensure_config({"metrics-port": 9795}) == []


def test_record_is_written_only_if_it_differs(ours: Snapd) -> None:
    for _ in range(2):
        orchestrator_snap.save(Record(unit="epa-orchestrator/0", model="m", offered=4))
    assert ours.request_count("PUT conf") == 1
    assert ours.snaps[NAME].options["charm"]["unit"] == "epa-orchestrator/0"
    assert orchestrator_snap.record() == Record(unit="epa-orchestrator/0", model="m", offered=4)


@pytest.mark.usefixtures("fake")
def test_record_of_a_missing_snap_is_empty() -> None:
    assert orchestrator_snap.record() == Record()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("reserved-cpus=2 would take CPU 2 from nova", "reserved-cpus=2 would take CPU 2 from nova"),
        ("a (b) c", "a (b) c"),
        ("line one\nline two", "line one line two"),
        ("the options:\n- one (1)\n- two (2)", "the options: - one (1) - two (2)"),
    ],
)
def test_error_of_the_configure_hook_is_shown_without_snapds_words(ours: Snapd, said: str, sentence: str) -> None:
    ours.configure_hook = lambda options: said if "reserved-cpus" in options else None
    orchestrator_snap.ensure_config({"log-level": "info"})
    assert error_of(lambda: orchestrator_snap.ensure_config({"reserved-cpus": "2", "log-level": "debug"})) == sentence
    assert orchestrator_snap.options() == {"log-level": "info"}


def test_other_error_of_a_change_is_shown_whole(ours: Snapd) -> None:
    ours.fail_next("PUT conf", ChangeFails("the disk\nis full"))
    assert error_of(lambda: orchestrator_snap.ensure_config({"log-level": "debug"})) == "the disk is full"


@pytest.mark.usefixtures("fake")
def test_options_of_a_missing_snap_are_an_error() -> None:
    with pytest.raises(snap.NotInstalledError):
        orchestrator_snap.options()


def test_host_plugs_are_connected_once(ours: Snapd) -> None:
    for _ in range(2):
        assert orchestrator_snap.connect_host() == ""
    assert ours.slot_of((NAME, "sys-devices-system-node")) == ":system-files"
    assert ours.slot_of((NAME, "topology")) == ":system-files"
    assert ours.slot_of((NAME, "isolation")) == ":system-files"
    assert ours.slot_of((NAME, "system-observe")) == ":system-observe"
    assert ours.request_count("POST connect") == 4


def test_missing_optional_plugs_are_no_problem(ours: Snapd) -> None:
    for plug in orchestrator_snap.OPTIONAL_PLUGS:
        del ours.snaps[NAME].plugs[plug]
    assert orchestrator_snap.connect_host() == ""
    assert ours.request_count("POST connect") == 1


@pytest.mark.parametrize(
    ("plug", "slot", "missing"),
    [
        ("topology", "system-files", "requests for CPUs near a device are refused until then"),
        ("isolation", "system-files", "the daemon's audit lacks interrupts and partitions until then"),
        ("system-observe", "system-observe", "the daemon's audit knows no owners of threads until then"),
    ],
)
def test_refused_optional_plug_is_a_remark(plug: str, slot: str, missing: str, ours: Snapd) -> None:
    orchestrator_snap.connect_host()
    del ours.connections[(NAME, plug), ("", slot)]
    ours.fail_next("POST connect", ChangeFails("cannot perform the following tasks:\n- Connect (no)"))
    assert orchestrator_snap.connect_host() == (
        f"run 'sudo snap connect {NAME}:{plug}': failed to connect {NAME}:{plug} (cannot perform the following"
        f" tasks: - Connect (no)); {missing}"
    )
    assert orchestrator_snap.connect_host() == ""


def test_consumer_is_connected_once(ours: Snapd) -> None:
    ours.add_consumer()
    for _ in range(2):
        orchestrator_snap.connect_consumers([PLUG])
    assert ours.slot_of(PLUG) == f"{NAME}:epa-info"
    assert ours.request_count("POST connect") == 1


def test_missing_consumer_is_connected_after_its_install(ours: Snapd) -> None:
    ours.add_consumer("ovn-dpdk", "cpus")
    orchestrator_snap.connect_consumers([PLUG, ("ovn-dpdk", "cpus")])
    assert ours.slot_of(("ovn-dpdk", "cpus")) == f"{NAME}:epa-info"
    ours.add_consumer()
    orchestrator_snap.connect_consumers([PLUG, ("ovn-dpdk", "cpus")])
    assert ours.slot_of(PLUG) == f"{NAME}:epa-info"


def test_failed_connection_does_not_stop_others(ours: Snapd) -> None:
    ours.add_consumer("ovn-dpdk", "cpus")
    ours.add_consumer()
    sentence = error_of(lambda: orchestrator_snap.connect_consumers([("ovn-dpdk", "typo"), PLUG]))
    assert sentence.startswith("correct connect-plugs: failed to connect ovn-dpdk:typo (")
    assert ours.slot_of(PLUG) == f"{NAME}:epa-info"


def test_consumer_without_the_plug_is_named(ours: Snapd) -> None:
    ours.add_consumer(plug="other")
    assert error_of(lambda: orchestrator_snap.connect_consumers([PLUG])) == (
        "correct connect-plugs: failed to connect openstack-hypervisor:epa-info (snap"
        ' "openstack-hypervisor" has no plug named "epa-info")'
    )


def test_refused_connection_is_reported(ours: Snapd) -> None:
    ours.add_consumer()
    ours.fail_next("POST connect", ChangeFails("cannot perform the following tasks:\n- Connect (no)"))
    sentence = error_of(lambda: orchestrator_snap.connect_consumers([PLUG]))
    assert sentence.startswith(
        f"correct connect-plugs: failed to connect {CONSUMER}:epa-info (cannot perform the following"
    )
    assert ours.slot_of(PLUG) is None


def test_refused_node_plug_is_not_blamed_on_connect_plugs(ours: Snapd) -> None:
    ours.fail_next("POST connect", ChangeFails("cannot perform the following tasks:\n- Connect (no)"))
    sentence = error_of(orchestrator_snap.connect_host)
    assert sentence.startswith(f"run 'sudo snap connect {NAME}:sys-devices-system-node': failed to connect")
    assert "connect-plugs" not in sentence


def test_busy_snapd_is_raised_while_connecting(ours: Snapd) -> None:
    ours.add_consumer()
    ours.fail_next("POST connect", BUSY, ATTEMPTS)
    with pytest.raises(snap.APIError, match="change in progress"):
        orchestrator_snap.connect_consumers([PLUG])
    assert ours.request_count("POST connect") == ATTEMPTS


def test_connection_that_a_refresh_left_stale_is_renewed(connected: Snapd, other_file: FileSource) -> None:
    profile = connected.mounts / f"snap.{CONSUMER}.fstab"
    installation.install(other_file)
    assert "/x1/" in profile.read_text()
    orchestrator_snap.connect_consumers([PLUG])
    assert f"/var/snap/{NAME}/x2/data" in profile.read_text()
    assert connected.request_count("POST disconnect") == 1
    assert connected.slot_of(PLUG) == f"{NAME}:epa-info"
    orchestrator_snap.connect_consumers([PLUG])
    assert connected.request_count("POST disconnect") == 1


def test_connection_without_a_mount_is_renewed(connected: Snapd) -> None:
    profile = connected.mounts / f"snap.{CONSUMER}.fstab"
    profile.write_text("tmpfs / tmpfs x-snapd.origin=rootfs 0 0\n", encoding="utf-8")
    orchestrator_snap.connect_consumers([PLUG])
    assert profile.read_text() == mount_profile(CONSUMER, NAME, "x1", "7")


def test_stale_connection_of_a_plug_that_is_not_listed_is_renewed(connected: Snapd, other_file: FileSource) -> None:
    installation.install(other_file)
    orchestrator_snap.connect_consumers([])
    assert f"/var/snap/{NAME}/x2/data" in (connected.mounts / f"snap.{CONSUMER}.fstab").read_text()


def test_consumer_that_has_never_run_is_not_reconnected(connected: Snapd) -> None:
    (connected.mounts / f"snap.{CONSUMER}.fstab").unlink()
    orchestrator_snap.connect_consumers([PLUG])
    assert connected.request_count("POST *connect") == 0


def test_missing_snap_is_not_removed(fake: Snapd) -> None:
    assert orchestrator_snap.remove() is None
    assert fake.requests == ["GET snap"]


@pytest.mark.usefixtures("daemon")
def test_unused_snap_is_removed_with_its_connections(connected: Snapd) -> None:
    orchestrator_snap.connect_host()
    assert orchestrator_snap.remove() is None
    assert NAME not in connected.snaps
    assert sorted(connected.commands_of("disconnect")) == [
        ["disconnect", "--forget", f"{NAME}:isolation", ":system-files"],
        ["disconnect", "--forget", f"{NAME}:sys-devices-system-node", ":system-files"],
        ["disconnect", "--forget", f"{NAME}:system-observe", ":system-observe"],
        ["disconnect", "--forget", f"{NAME}:topology", ":system-files"],
        ["disconnect", "--forget", f"{CONSUMER}:epa-info", f"{NAME}:epa-info"],
    ]
    assert connected.connections == {}


def is_left_alone(fake: Snapd) -> bool:
    """Whether the snap is installed, not held, and has only the connections that snapd makes."""
    own = {((NAME, "network-bind"), ("", "network-bind")): "-"}
    return NAME in fake.snaps and not fake.snaps[NAME].held and fake.connections == own


def test_snap_with_claims_stays_and_the_reason_names_the_services(connected: Snapd, daemon: Service) -> None:
    add_claims(daemon)
    assert orchestrator_snap.remove() == (
        "CPUs or hugepages are still held by ceph, nova, ovs-dpdk; when these services have stopped, run"
        " 'sudo epa-orchestrator release' for each, then 'sudo snap remove epa-orchestrator'"
    )
    assert is_left_alone(connected)
    assert connected.request_count("POST remove") == 0


@pytest.mark.usefixtures("service")
def test_snap_stays_if_the_daemon_does_not_answer(connected: Snapd) -> None:
    reason = orchestrator_snap.remove()
    assert reason is not None
    assert reason.startswith("its claims cannot be read: the daemon does not answer: No daemon serves")
    assert is_left_alone(connected)


@pytest.mark.usefixtures("damaged_daemon")
def test_snap_stays_if_the_state_cannot_be_read(connected: Snapd) -> None:
    reason = orchestrator_snap.remove()
    assert reason is not None
    assert reason.startswith("its claims cannot be read: The state database ")
    assert is_left_alone(connected)


@pytest.mark.usefixtures("daemon")
def test_remove_retries_a_busy_snapd_then_raises(ours: Snapd) -> None:
    ours.fail_next("POST remove", BUSY, ATTEMPTS)
    with pytest.raises(snap.APIError, match="change in progress"):
        orchestrator_snap.remove()
    assert ours.request_count("POST remove") == ATTEMPTS
    assert orchestrator_snap.remove() is None
    assert NAME not in ours.snaps


def test_installed_snap_needs_no_store(ours: Snapd) -> None:
    ours.store.down = True
    installation.hold()
    orchestrator_snap.connect_host()
    slots = {each.slot for each in orchestrator_snap.connections() if each.plug[1] != "network-bind"}
    assert slots == {":system-files", ":system-observe"}
