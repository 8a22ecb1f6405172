# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Each way to break that docs/how-to/recover.md describes: the daemon shows what it prints, and the steps end it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from .documented import ROOT
from .harness import Daemon, wait_until
from .recovering import PAGE, Patient, sections, shows
from .test_storage_faults import fill, mounted

SECTIONS: Final = sections()
#: What happens in snapd or in the journal, of which a test has none.
NOT_HERE: Final = {"A consumer has an old mount", "The unit is blocked"}


@pytest.fixture
def patient() -> Iterator[Patient]:
    """A daemon that has not been started yet."""
    with Daemon() as daemon:
        yield Patient(daemon)


def read_only(patient: Patient, line: str) -> None:
    """Check that readings and changes say this line, and end with 4."""
    beginning = line.removeprefix("READ-ONLY: ").partition("…")[0]
    for command in ("list", "allocate vm 2"):
        assert beginning in patient.output(f"epa-orchestrator {command}", 4)
    assert shows(patient.status(4), line)


def write_older_state(patient: Patient, allocations: dict[str, str]) -> None:
    """Write what the older daemon would have left."""
    file = patient.daemon.data / "data" / "state.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"version": 1, "allocations_db": {"allocations": allocations}}))


# --- the daemon does not run ----------------------------------------------------------------------------------------


def test_no_daemon_answers(patient: Patient) -> None:
    page = SECTIONS["No daemon answers"]
    for command in ("status", "list", "allocate vm 2"):
        assert shows(patient.output(f"epa-orchestrator {command}", 3), page.shown[0])
    assert "all is well" in patient.follow(page.commands)


@pytest.mark.parametrize(("line", "own_data"), [(0, True), (1, False)], ids=["same state", "same socket"])
def test_a_second_daemon_runs(patient: Patient, line: int, own_data: bool) -> None:
    page, daemon = SECTIONS["A second daemon runs"], patient.daemon
    other = {"SNAP_DATA": str(daemon.base / "other")} if own_data else {"SNAP_COMMON": str(daemon.base / "other")}
    with subprocess.Popen([sys.executable, "-m", "epa_orchestrator", "serve"], env=daemon.environment | other) as first:
        served = daemon.base / "other" / "data" / "epa.sock" if own_data else daemon.socket_path
        wait_until(served.exists, "the first daemon serves")
        daemon.launch()
        assert daemon.wait() == 1
        assert shows(patient.log(), page.shown[line])
        by_hand = {
            "sudo fuser -v /var/snap/epa-orchestrator/common/lock": lambda: None,
            "sudo kill PID": lambda: (first.terminate(), first.wait()),
        }
        assert "all is well" in patient.follow(page.commands, by_hand)


def test_the_socket_cannot_be_made(patient: Patient) -> None:
    page, daemon = SECTIONS["The socket cannot be made"], patient.daemon
    (daemon.data / "data").symlink_to(patient.home)
    daemon.launch()
    assert daemon.wait() == 1
    assert shows(patient.log(), page.shown[0])
    assert "all is well" in patient.follow(page.commands)


def test_a_replaced_socket_file_comes_back(patient: Patient) -> None:
    daemon = patient.daemon.start()
    daemon.socket_path.unlink()
    daemon.socket_path.mkdir()
    wait_until(lambda: "put back the socket file" in daemon.log(), "the socket is put back")
    assert "`put back the socket file …`" in PAGE.read_text(encoding="utf-8")
    patient.until_well()


# --- the database ---------------------------------------------------------------------------------------------------


def break_header(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(bytes(4096))


def change_a_row(database: Path) -> None:
    content = database.read_bytes()
    assert b"nova" in content
    database.write_bytes(content.replace(b"nova", b"nave", 1))


def make_empty(database: Path) -> None:
    os.truncate(database, 0)


DAMAGE: Final[dict[str, Callable[[Path], None]]] = {
    "cannot be read: file is not a database": break_header,
    "does not verify: the checksum of a row is wrong": change_a_row,
    "is empty, although it once held the claims": make_empty,
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_the_database_is_damaged(patient: Patient, reason: str) -> None:
    page, daemon = SECTIONS["The database is damaged"], patient.daemon.start()
    granted = {"nova": daemon.cores("nova", 4)}
    daemon.stop()
    shutil.copy(daemon.common / "state.db", patient.home / "copy.db")
    DAMAGE[reason](daemon.common / "state.db")
    daemon.start()
    read_only(patient, page.shown[0])
    assert f"state.db {reason}:" in patient.status(4)
    assert reason in " ".join(PAGE.read_text(encoding="utf-8").split())
    assert "nova" in patient.follow(page.commands)
    assert daemon.claims() == granted
    patient.until_well()
    assert daemon.cores("vm", 2)


def test_a_history_is_often_left(patient: Patient) -> None:
    daemon = patient.daemon.start()
    daemon.cores("nova", 4)
    daemon.stop()
    change_a_row(daemon.common / "state.db")
    daemon.start()
    patient.follow(SECTIONS["The database is damaged"].steps[0])
    assert "1-2,9-10" in (patient.home / "history.txt").read_text()


def test_claims_are_rebuilt_from_what_runs(patient: Patient) -> None:
    page, daemon = SECTIONS["The claims are lost while services run"], patient.daemon
    daemon.configure({"cpu-pool": "0,4"})
    daemon.start().cores("nova", 4)
    daemon.stop()
    break_header(daemon.common / "state.db")
    daemon.start()
    assert "nova: 8" in patient.follow(page.commands).replace("openstack-hypervisor", "nova")
    assert daemon.claims() == {"openstack-hypervisor": {1, 2, 9, 10}, "ovs-dpdk": {5, 6, 13}}
    assert daemon.claims("general") == {"ceph-osd-0": {0}}
    entry = daemon.entry("ovs-dpdk")
    assert (entry["preemption_policy"], entry["is_explicit"]) == ("non-preemptive", True)
    (remove,) = re.findall(r"`(sudo rm [^`]*)`", PAGE.read_text(encoding="utf-8"))
    patient.run(remove)
    daemon.restart()
    patient.until_well()
    assert set(daemon.claims()) == {"openstack-hypervisor", "ovs-dpdk"}


def set_schema_version(database: Path, version: int) -> int:
    """Set the version, as a newer daemon would; returns the one that was there."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        (before,) = db.execute("PRAGMA user_version").fetchone()
        db.execute(f"PRAGMA user_version = {version}")
    return before


def test_a_newer_daemon_wrote_the_database(patient: Patient) -> None:
    page, daemon = SECTIONS["A newer daemon wrote the database"], patient.daemon.start()
    daemon.cores("nova", 4)
    daemon.stop()
    ours = set_schema_version(daemon.common / "state.db", 99)
    daemon.start()
    read_only(patient, page.shown[0])
    daemon.stop()
    set_schema_version(daemon.common / "state.db", ours)
    daemon.start()
    patient.until_well()
    assert set(daemon.claims()) == {"nova"}


def replace(daemon: Daemon) -> None:
    copy = daemon.common / "copy"
    shutil.copy(daemon.common / "state.db", copy)
    copy.replace(daemon.common / "state.db")


def remove(daemon: Daemon) -> None:
    (daemon.common / "state.db").rename(daemon.base / "state.db")


@pytest.mark.parametrize("change", [replace, remove])
def test_the_database_was_replaced(patient: Patient, change: Callable[[Daemon], None]) -> None:
    page, daemon = SECTIONS["The database was replaced or changed"], patient.daemon.start()
    daemon.cores("nova", 4)
    daemon.restart()  # which puts all changes into the one file
    change(daemon)
    wait_until(lambda: "no longer be written" in daemon.log(), "the daemon notices")
    read_only(patient, page.shown[0])
    back = (daemon.base / "state.db", daemon.common / "state.db")
    by_hand = {"sudo ls -l /var/snap/epa-orchestrator/common": lambda: back[0].exists() and shutil.copy(*back)}
    shown = patient.follow(page.commands, by_hand)
    assert "nova" in shown
    assert (patient.home / "claims.txt").read_text().splitlines()[:2] == shown.splitlines()[:2]
    patient.until_well()


def test_the_database_was_written_by_another_process(patient: Patient) -> None:
    page, daemon = SECTIONS["The database was replaced or changed"], patient.daemon.start()
    daemon.cores("nova", 4)
    with sqlite3.connect(daemon.common / "state.db") as other:
        other.execute("DELETE FROM claim")
    other.close()
    wait_until(lambda: "no longer be written" in daemon.log(), "the daemon notices")
    read_only(patient, page.shown[0])


def test_the_lock_file_cannot_be_used(patient: Patient) -> None:
    page, daemon = SECTIONS["The lock file cannot be used"], patient.daemon.start()
    daemon.cores("nova", 4)
    daemon.stop()
    (daemon.common / "lock").unlink()
    (daemon.common / "lock").mkdir()
    daemon.start()
    read_only(patient, page.shown[0])
    assert "all is well" in patient.follow(page.commands)
    assert set(daemon.claims()) == {"nova"}


def test_the_disk_is_full(patient: Patient) -> None:
    page, daemon = SECTIONS["The disk is full"], patient.daemon
    with mounted(daemon.common, "size=1m"):
        daemon.start().cores("nova", 4)
        fill(daemon.common / "filler")
        # Some changes may still fit into the files that there are.
        answers = (daemon.call("allocate_cores", service_name="busy", num_of_cores=1 + n % 3) for n in range(20_000))
        refusal = next(answer["error"] for answer in answers if "error" in answer)
        assert shows(f"epa-orchestrator: {refusal}", page.shown[0])
        assert "all is well" in patient.status(), "the page says that status does not show it"
        assert re.search("(99|100)%", patient.follow(page.commands))
        assert set(daemon.claims()) >= {"nova"}
        (daemon.common / "filler").unlink()
        assert daemon.cores("vm", 2)
        daemon.stop()


def test_the_disk_is_full_at_the_first_start(patient: Patient) -> None:
    daemon = patient.daemon
    with mounted(daemon.common, "size=64k"):
        fill(daemon.common / "filler")
        daemon.start()
        assert "cannot be created" in patient.status(4)
        (daemon.common / "filler").unlink()
        daemon.stop()
    daemon.start()
    patient.until_well()


def test_another_process_locks_the_database(patient: Patient) -> None:
    page, daemon = SECTIONS["Another process locks the database"], patient.daemon.start()
    other = sqlite3.connect(daemon.common / "state.db")
    other.execute("BEGIN IMMEDIATE")
    assert shows(patient.output("epa-orchestrator allocate vm 2", 1), page.shown[0])
    by_hand = {"sudo fuser -v /var/snap/epa-orchestrator/common/state.db": lambda: None, "sudo kill PID": other.close}
    patient.follow(page.commands, by_hand)
    assert daemon.cores("vm", 2)


# --- what the older daemon left -------------------------------------------------------------------------------------


def test_the_older_state_cannot_be_imported(patient: Patient) -> None:
    page, daemon = SECTIONS["The older state cannot be imported"], patient.daemon
    write_older_state(patient, {"ceph": "5-6", "nova": "6-7"})
    daemon.start()
    read_only(patient, page.shown[0])
    edit = "sudo nano /var/snap/epa-orchestrator/current/data/state.json"
    correct = {"ceph": "5-6", "nova": "7"}
    patient.follow(page.commands, {edit: lambda: write_older_state(patient, correct)})
    assert daemon.claims() == {"ceph": {5, 6}, "nova": {7}}


def test_records_were_left_out_of_the_import(patient: Patient) -> None:
    page = SECTIONS["Records were left out of the import"]
    write_older_state(patient, {"ceph": "5-6", "": "1", "none": ""})
    patient.daemon.start()
    shown = patient.status()
    assert [line for line in page.shown if not shows(shown, line)] == []
    assert "all is well" in patient.follow(page.commands)


def test_the_older_state_was_written_later(patient: Patient) -> None:
    page, daemon = SECTIONS["The older state was written later"], patient.daemon.start()
    daemon.stop()
    write_older_state(patient, {"ceph": "5-6"})
    os.utime(daemon.data / "data" / "state.json", (2e9, 2e9))
    daemon.start()
    assert shows(patient.status(), page.shown[0])
    assert "all is well" in patient.follow(page.commands)


# --- options --------------------------------------------------------------------------------------------------------


def test_an_option_cannot_be_used(patient: Patient) -> None:
    page, daemon = SECTIONS["An option cannot be used"], patient.daemon
    daemon.configure({"reserved-cpus": "1-x"})
    daemon.start()
    assert shows(patient.status(), page.shown[0])
    assert "No CPUs can be granted" in daemon.refused("allocate_cores", service_name="vm", num_of_cores=2)
    patient.follow(page.commands)
    patient.until_well()
    assert daemon.cores("vm", 2)


def test_the_settings_file_cannot_be_read(patient: Patient) -> None:
    patient.daemon.configure("{")
    patient.daemon.start()
    assert shows(patient.status(), SECTIONS["An option cannot be used"].shown[1])


def test_an_option_becomes_unusable_while_the_daemon_runs(patient: Patient) -> None:
    page, daemon = SECTIONS["An option cannot be used"], patient.daemon.start()
    patient.run("sudo snap set epa-orchestrator reserved-cpus=1-x")
    wait_until(lambda: "the settings in use stay" in daemon.log(), "the settings are read")
    assert shows(patient.status(), page.shown[2])
    assert daemon.cores("vm", 2)
    patient.follow(page.commands)
    patient.until_well()


@pytest.mark.parametrize(("line", "cpus"), [(0, "0-1"), (1, "0,64"), (2, "4")], ids=["isolated", "gone", "offline"])
def test_cpu_pool_does_not_fit_the_host(patient: Patient, line: int, cpus: str) -> None:
    page, daemon = SECTIONS["cpu-pool does not fit the host"], patient.daemon
    daemon.configure({"cpu-pool": cpus})
    daemon.host.set_offline([4])
    daemon.start()
    assert shows(patient.status(), page.shown[line])
    patient.follow(page.commands)
    patient.until_well()


def test_the_metrics_port_is_taken(patient: Patient) -> None:
    page, daemon = SECTIONS["The metrics port is taken"], patient.daemon
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        port, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        daemon.configure({"metrics-port": port})
        daemon.start()
        line = page.shown[0].replace("9795", str(port))
        wait_until(lambda: shows(patient.status(), line), "the warning is shown")
        patient.follow([command.replace("9796", str(free)) for command in page.commands])
        patient.until_well()


# --- the host -------------------------------------------------------------------------------------------------------

ONLINE: Final = "echo 1 | sudo tee /sys/devices/system/cpu/cpu{}/online"


def test_claimed_cpus_went_away(patient: Patient) -> None:
    page, daemon = SECTIONS["Claimed CPUs went away"], patient.daemon.start()
    daemon.cores("nova", 4)
    daemon.host.set_offline([2, 10])
    assert shows(patient.status(), page.shown[0])
    assert "CPUs 2,10 are unavailable: they are offline" in patient.run("sudo epa-orchestrator why nova")
    both = ONLINE.format(2) + " /sys/devices/system/cpu/cpu10/online"
    assert "all is well" in patient.follow(page.steps[0], {both: lambda: daemon.host.set_offline([])})
    daemon.host.set_offline([2, 10])
    patient.follow(page.steps[1])
    assert "all is well, but" in patient.status(), "these CPUs are only not usable now"
    assert len(daemon.cores("nova", 4)) == 4


def test_cpus_of_a_pool_cannot_be_used(patient: Patient) -> None:
    page, daemon = SECTIONS["CPUs of a pool cannot be used"], patient.daemon.start()
    daemon.host.set_offline([3])
    assert shows(patient.status(), page.shown[0])
    online = {ONLINE.format(3): lambda: daemon.host.set_offline([])}
    assert "all is well\n" in patient.follow(page.commands, online)


def test_no_cpus_are_isolated(patient: Patient) -> None:
    page, daemon = SECTIONS["No CPUs are isolated"], patient.daemon
    isolated = daemon.host.isolated
    daemon.host.set_isolated([])
    daemon.start()
    assert shows(patient.status(), page.shown[0])
    assert "`No CPUs available: No Isolated CPUs configured`" in PAGE.read_text(encoding="utf-8")
    refusal = daemon.refused("allocate_cores", service_name="vm", num_of_cores=2)
    assert refusal == "No CPUs available: No Isolated CPUs configured"
    daemon.host.set_isolated(isolated)
    patient.until_well()


def test_hugepages_went_away(patient: Patient) -> None:
    page, daemon = SECTIONS["Hugepages went away"], patient.daemon.start()
    daemon.pages("nova", 0, 2048, 60)
    daemon.host.set_pages(0, 2048, 32, 0)
    assert shows(patient.output("epa-orchestrator hugepages nova --node 0 --size 2M --count 61", 1), page.shown[0])
    assert "all is well" in patient.status(), "the page says that status does not warn"
    back, show = page.steps[0]
    assert re.search(r"2M +64 +4 +nova: 60", patient.follow([back, show], {back: daemon.host.reset}))
    daemon.host.set_pages(0, 2048, 32, 0)
    patient.follow(page.steps[1])
    assert re.search(r"2M +32 +0 +nova: 20", patient.run("sudo epa-orchestrator hugepages"))


def test_a_plug_is_not_connected(patient: Patient) -> None:
    page, daemon = SECTIONS["A plug is not connected"], patient.daemon
    daemon.host.remove("devices/system/node")
    daemon.start()
    assert shows(patient.status(), page.shown[0])
    connect = "sudo snap connect epa-orchestrator:sys-devices-system-node"
    assert page.shown[0].endswith(connect)
    assert "all is well" in patient.follow(page.commands, {connect: daemon.host.restore})


def test_the_log_lost_lines() -> None:
    (line,) = SECTIONS["The log lost lines"].shown
    source = (ROOT / "src" / "epa_orchestrator" / "daemon" / "logs.py").read_text(encoding="utf-8")
    assert line.partition("…")[2].strip().replace("were ", "{were} ") in source


# --- the page -------------------------------------------------------------------------------------------------------


def test_each_section_is_provoked_here() -> None:
    used = re.findall(r'SECTIONS\["([^"]+)"\]', Path(__file__).read_text(encoding="utf-8"))
    assert set(used) == SECTIONS.keys() - NOT_HERE


def test_each_section_is_in_the_table_at_the_top() -> None:
    top = PAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    linked = set(re.findall(r"\(#([a-z-]+)\)", top))
    assert linked == {re.sub(r"[^a-z]+", "-", heading.lower()) for heading in SECTIONS}


def test_statuses_of_the_unit_are_in_the_reference_of_the_charm() -> None:
    page = PAGE.read_text(encoding="utf-8").partition("| the unit's status |")[2]
    statuses = [re.findall("`([^`]+)`", row.split("|")[1])[0] for row in page.splitlines()[2:] if row.startswith("|")]
    reference = (ROOT / "docs" / "reference" / "charm.md").read_text(encoding="utf-8")
    known = [re.sub("`.*", "", row) for row in reference.split("| `")]
    patterns = [".*".join(map(re.escape, status.split("…"))) for status in statuses]
    assert len(statuses) == 8
    assert [pattern for pattern in patterns if not any(re.match(pattern, each) for each in known)] == []
