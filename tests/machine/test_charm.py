# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The packed charm on a real machine: its hooks, snapd, confinement, a kernel that isolates CPUs, a daemon.

The tests run in order: each continues from the machine as the test before left it.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

import pytest

from epa_orchestrator import __version__
from tests.machine.host import (
    CONSUMER,
    CONSUMER_APP,
    ISOLATED,
    SNAP,
    SOCKET,
    active,
    ask,
    claims,
    connection,
    daemon_pid,
    from_inside,
    option,
    snap_row,
)
from tests.machine.machine import Machine
from tests.machine.unit import CHARM, CONSUMER_CHARM, Unit

#: The program of the consumer charm.
CONSUMER_SERVICE: Final = "epa-consumer.service"

#: The state file of the older daemon.
OLDER_STATE: Final[dict[str, Any]] = {
    "version": 1,
    "allocations_db": {
        "allocations": {"ceph-osd": "14-15"},
        "explicit_allocations": {},
        "preemption_policies": {"ceph-osd": "legacy"},
        "allocation_pools": {"ceph-osd": "isolated"},
    },
    "hugepages_db": {"allocations": {}},
}

#: Sends requests from the host, with Python alone, for as long as another command runs.
REQUEST_LOOP: Final = f"""
import json, socket, subprocess, sys, threading
refused = []
answered = 0
over = threading.Event()
def ask():
    global answered
    while not over.is_set():
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(300)
                connection.connect({SOCKET!r})
                connection.sendall(b'{{"action": "list_allocations"}}')
                json.loads(connection.makefile().read())
            answered += 1
        except (OSError, ValueError) as error:
            refused.append(repr(error))
        over.wait(0.2)
asking = threading.Thread(target=ask)
asking.start()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
over.set()
asking.join()
print(json.dumps({{"rc": done.returncode, "err": done.stderr, "answered": answered, "refused": refused}}))
"""

#: Prints the metrics, with Python alone.
SCRAPE: Final = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9795/metrics', timeout=60).read().decode())"
)


@pytest.fixture(scope="module")
def consumer(machine: Machine) -> Unit:
    """A unit of the consumer charm."""
    return Unit(machine, {"cpus": 2}, charm=CONSUMER_CHARM, name="epa-consumer/0", related=False)


def test_older_daemon_leaves_its_state(machine: Machine) -> None:
    machine.run("snap", "install", "--dangerous", "/job/older.snap", timeout=900)
    machine.run("mkdir", "-p", f"/var/snap/{SNAP}/current/data")
    machine.put(f"/var/snap/{SNAP}/current/data/state.json", json.dumps(OLDER_STATE).encode())


def test_install_installs_the_charms_snap(machine: Machine, unit: Unit) -> None:
    outcome = unit.hook("install")
    assert [name for name, _ in outcome.statuses] == ["maintenance", "active"]
    assert (outcome.status, outcome.version) == (active(machine), __version__)
    row = snap_row(machine)
    assert row[1] == __version__
    assert row[2].startswith("x")
    assert "held" in row[-1]
    assert "devmode" not in row[-1]


def test_later_hooks_of_the_deployment_change_nothing(machine: Machine, unit: Unit) -> None:
    before = snap_row(machine)
    for outcome in (unit.relation("created"), unit.hook("config-changed"), unit.hook("start")):
        assert outcome.status == active(machine)
    assert snap_row(machine) == before


def test_daemon_is_strictly_confined(machine: Machine) -> None:
    profiles = machine.run("cat", "/sys/kernel/security/apparmor/profiles").out.splitlines()
    assert f"snap.{SNAP}.daemon (enforce)" in profiles
    assert (
        machine.run("cat", f"/proc/{daemon_pid(machine)}/attr/current").out.strip() == f"snap.{SNAP}.daemon (enforce)"
    )


def test_daemon_offers_the_isolated_cpus(machine: Machine) -> None:
    assert machine.run("cat", "/sys/devices/system/cpu/isolated").out.strip() == ISOLATED
    assert ask(machine, action="list_allocations")["cpu_pool"]["eligible_cpus"] == ISOLATED
    nodes = ask(machine, action="get_memory_info")["numa_hugepages"]
    assert [(pages["total"], pages["size"]) for pages in nodes["node0"]["capacity"] if pages["total"]] == [(64, 2048)]


def test_claims_of_the_older_daemon_were_imported(machine: Machine) -> None:
    assert claims(machine) == {"ceph-osd": "14-15"}


def test_consumer_is_connected_after_its_install(machine: Machine, unit: Unit) -> None:
    machine.run("snap", "install", "--dangerous", "/job/consumer.snap", timeout=900)
    assert connection(machine, f"{CONSUMER}:epa-info") == "-"
    outcome = unit.hook("update-status")
    assert outcome.status == active(machine)
    assert connection(machine, f"{CONSUMER}:epa-info") == f"{SNAP}:epa-info"
    assert connection(machine, f"{SNAP}:topology") == ":system-files"


def test_consumer_allocates_from_inside_its_confinement(machine: Machine) -> None:
    assert from_inside(machine, "claim", "hypervisor", "4", "--dry-run") == ["4-7"]
    assert claims(machine) == {"ceph-osd": "14-15"}
    assert from_inside(machine, "claim", "hypervisor", "4") == ["4-7"]
    assert claims(machine) == {"ceph-osd": "14-15", "hypervisor": "4-7"}


def test_consumer_charm_pins_its_program(machine: Machine, consumer: Unit) -> None:
    assert consumer.hook("start").status == ("active", "pinned to CPUs 12-13")
    assert claims(machine) == {"ceph-osd": "14-15", "epa-consumer/0": "12-13", "hypervisor": "4-7"}
    pid = machine.run("systemctl", "show", "-P", "MainPID", CONSUMER_SERVICE).out.strip()
    assert "Cpus_allowed_list:\t12-13\n" in machine.run("cat", f"/proc/{pid}/status").out
    assert consumer.hook("update-status").status == ("active", "pinned to CPUs 12-13")
    assert machine.run("systemctl", "show", "-P", "MainPID", CONSUMER_SERVICE).out.strip() == pid


def test_consumer_charm_says_why_it_is_refused(machine: Machine, consumer: Unit) -> None:
    consumer.config["cpus"] = 4
    status = ("blocked", "Insufficient CPUs available. Requested: 4, Available: 2")
    assert consumer.hook("config-changed").status == status
    assert claims(machine)["epa-consumer/0"] == "12-13"


def test_removed_consumer_charm_releases_its_cpus(machine: Machine, consumer: Unit) -> None:
    assert consumer.hook("remove").code == 0
    assert claims(machine) == {"ceph-osd": "14-15", "hypervisor": "4-7"}
    assert machine.run("systemctl", "is-active", CONSUMER_SERVICE, check=False).out.strip() == "inactive"


def test_option_reaches_the_running_daemon(machine: Machine, unit: Unit) -> None:
    pid = daemon_pid(machine)
    unit.config["reserved-cpus"] = "12"
    outcome = unit.hook("config-changed")
    assert outcome.status == active(machine)
    assert ask(machine, action="list_allocations")["cpu_pool"]["configured_cpus"] == "4-7,13-15"
    assert daemon_pid(machine) == pid


def dry_run(machine: Machine, **wishes: Any) -> dict[str, Any]:
    """The answer for a new service with one CPU; CPU 13 is free, and its sibling 12 is reserved."""
    request = {"action": "allocate_cores", "service_name": "ovs-dpdk", "num_of_cores": 1}
    return ask(machine, **request, dry_run=True, explain=True, **wishes)


def test_juju_config_shapes_placement(machine: Machine, unit: Unit) -> None:
    assert dry_run(machine)["allocated_cores"] == "13"
    unit.config["cpu-thread-policy"] = "isolate"
    assert unit.hook("config-changed").status == active(machine)
    assert "cpu-thread-policy=isolate allows" in dry_run(machine)["error"]


def test_snap_set_shapes_placement(machine: Machine, unit: Unit) -> None:
    machine.run("snap", "set", SNAP, "cpu-thread-policy=share", "cpu-distribution=caches", timeout=600)
    policy = dry_run(machine)["explanation"]["policy"]
    assert (policy["cpu-thread-policy"], policy["cpu-distribution"]) == ("share", "caches")
    refused = machine.run("snap", "set", SNAP, "uncore-cache-alignment=require", timeout=600, check=False)
    assert refused.rc != 0
    assert "uncore-cache-alignment=require contradicts cpu-distribution=caches" in refused.err
    unit.config["cpu-thread-policy"] = "prefer"
    assert unit.hook("config-changed").status == active(machine)
    assert dry_run(machine)["allocated_cores"] == "13"


def test_confined_daemon_finds_the_node_of_a_device(machine: Machine) -> None:
    device = max(machine.run("ls", "/sys/bus/pci/devices").out.split())
    machine.shell(f"echo 1 > /sys/bus/pci/devices/{device}/numa_node")
    assert dry_run(machine, near=device)["explanation"]["policy"]["near"] == 1
    assert "no PCI device 0000:ff:1f.7" in dry_run(machine, near="ff:1f.7")["error"]
    assert "is not a device itself" in dry_run(machine, near="lo")["error"]


def test_confined_daemon_knows_who_asks(machine: Machine) -> None:
    """Debian's kernel shows no AppArmor labels of peers, so that the snap here is that of the control group."""
    (event,) = ask(machine, action="get_history", service_name="hypervisor")["events"]
    assert (event["snap"], event["comm"], event["after"]["cpus"]) == (CONSUMER, CONSUMER_APP, "4-7")
    assert event["unit"].startswith(f"snap.{CONSUMER}.{CONSUMER_APP}-")
    assert CONSUMER in machine.run(f"/snap/bin/{SNAP}", "why", "hypervisor", timeout=600).out


def test_confined_daemon_serves_its_metrics(machine: Machine, unit: Unit) -> None:
    unit.config["metrics-port"] = 9795
    assert unit.hook("config-changed").status == active(machine)
    metrics = machine.run("python3", "-c", SCRAPE, timeout=600).out
    assert 'epa_service_cpus{pool="isolated",service="hypervisor"} 4.0' in metrics.splitlines()
    opened = next(line for line in metrics.splitlines() if line.startswith("process_open_fds "))
    assert float(opened.split()[1]) > 5
    unit.config["metrics-port"] = 0
    assert unit.hook("config-changed").status == active(machine)
    assert "refused" in machine.run("python3", "-c", SCRAPE, timeout=600, check=False).err


def test_confined_commands_show_the_machine_and_report(machine: Machine) -> None:
    """The snap's own command runs in its confinement, as an operator starts it."""
    assert "hypervisor 4" in machine.run(f"/snap/bin/{SNAP}", "map", "--width", "80", timeout=600).out
    printed = json.loads(machine.run(f"/snap/bin/{SNAP}", "report", timeout=600).out)
    assert not printed["missing"]
    assert "hypervisor" in [claim["service_name"] for claim in printed["pools"]["isolated"]["allocations"]]
    assert printed["recording"]["files"]["devices/system/cpu/isolated"] == ISOLATED
    written = f"/var/snap/{SNAP}/common/report.json"
    machine.run(f"/snap/bin/{SNAP}", "report", written, timeout=600)
    assert json.loads(machine.get(written)).keys() == printed.keys()


def test_actions_report_and_draw(machine: Machine, unit: Unit) -> None:
    reported = json.loads(unit.action("report").results["report"])
    assert reported["recording"]["files"]["devices/system/cpu/isolated"] == ISOLATED
    assert "hypervisor" in unit.action("show-machine", format="svg").results["svg"]
    recorded = json.loads(unit.action("record").results["recording"])
    assert recorded["files"]["devices/system/cpu/isolated"] == ISOLATED
    history = unit.action("history", service="hypervisor").results["text"]
    assert CONSUMER in history


def test_snap_brings_its_manual_and_its_completion(machine: Machine) -> None:
    assert machine.get(f"/snap/{SNAP}/current/share/man/man1/{SNAP}.1").startswith(b".TH")
    complete = f"source /snap/{SNAP}/current/share/bash-completion/completions/{SNAP}; complete -p {SNAP}"
    assert SNAP in machine.run("bash", "-c", complete, timeout=600).out


def test_option_that_takes_cpus_from_a_claim_is_refused(machine: Machine, unit: Unit) -> None:
    unit.config["reserved-cpus"] = "6,12"
    outcome = unit.hook("config-changed")
    status, message = outcome.status
    assert status == "blocked"
    assert "reserved-cpus=6,12" in message
    assert "6 (held by hypervisor)" in message
    assert ask(machine, action="list_allocations")["cpu_pool"]["configured_cpus"] == "4-7,13-15"
    assert str(option(machine, "reserved-cpus")) == "12"


def test_invalid_option_is_refused_before_snapd_gets_it(machine: Machine, unit: Unit) -> None:
    unit.config.update({"reserved-cpus": "12", "numa-policy": "strict"})
    outcome = unit.hook("config-changed")
    status, message = outcome.status
    assert status == "blocked"
    assert "numa-policy='strict'" in message
    assert "single-numa-node" in message
    assert option(machine, "numa-policy") is None, "Juju has the default"
    unit.config["numa-policy"] = "best-effort"
    assert unit.hook("config-changed").status == active(machine)


def test_killed_daemon_restarts_without_a_refused_connection(machine: Machine) -> None:
    before = daemon_pid(machine)
    found = json.loads(
        machine.run("python3", "-c", REQUEST_LOOP, "sh", "-c", f"kill -9 {before}; sleep 30", timeout=900).out
    )
    assert (found["rc"], found["refused"]) == (0, [])
    assert found["answered"] > 1
    assert claims(machine) == {"ceph-osd": "14-15", "hypervisor": "4-7"}
    assert daemon_pid(machine) not in (0, before)


def test_restart_of_the_service_refuses_no_connection(machine: Machine) -> None:
    before = daemon_pid(machine)
    command = ["snap", "restart", "--reload", f"{SNAP}.daemon"]
    found = json.loads(machine.run("python3", "-c", REQUEST_LOOP, *command, timeout=900).out)
    assert (found["rc"], found["refused"]) == (0, [])
    assert found["answered"] > 1
    assert daemon_pid(machine) != before


def test_charm_upgrade_installs_its_snap_and_keeps_the_claims(machine: Machine, unit: Unit) -> None:
    revision = snap_row(machine)[2]
    machine.run("cp", "/job/newer.snap", f"{CHARM}/epa-orchestrator.snap")
    outcome = unit.hook("upgrade-charm")
    assert (outcome.status, outcome.version) == (active(machine), "99.0.0")
    row = snap_row(machine)
    assert row[2] != revision
    assert "held" in row[-1]
    assert claims(machine) == {"ceph-osd": "14-15", "hypervisor": "4-7"}
    assert ask(machine, action="list_allocations")["cpu_pool"]["configured_cpus"] == "4-7,13-15"


def test_consumer_reaches_the_daemon_after_the_upgrade(machine: Machine) -> None:
    assert from_inside(machine, "list") == ["ceph-osd 14-15", "hypervisor 4-7"]


def test_stale_connection_is_renewed(machine: Machine, unit: Unit) -> None:
    profile = f"/run/snapd/ns/snap.{CONSUMER}.fstab"
    current = machine.run("readlink", f"/var/snap/{SNAP}/current").out.strip()
    text = machine.get(profile).decode()
    machine.put(profile, text.replace(f"/{current}/data /", "/x0/data /").encode())
    assert unit.hook("update-status").status == active(machine)
    assert f"/var/snap/{SNAP}/{current}/data /" in machine.get(profile).decode()
    assert from_inside(machine, "list") == ["ceph-osd 14-15", "hypervisor 4-7"]


def test_revert_keeps_later_claims(machine: Machine) -> None:
    from_inside(machine, "claim", "hypervisor", "2")
    machine.run("snap", "revert", SNAP, timeout=900)
    assert snap_row(machine)[1] == __version__
    held = claims(machine)
    assert held["ceph-osd"] == "14-15"
    assert held["hypervisor"] in ("4-5", "6-7")
    assert from_inside(machine, "list") == [f"ceph-osd {held['ceph-osd']}", f"hypervisor {held['hypervisor']}"]


def test_actions_show_and_release(machine: Machine, unit: Unit) -> None:
    shown = unit.action("list-allocations")
    assert "ceph-osd" in shown.results["text"]
    assert shown.document["pools"]["isolated"]["total_allocated_cpus"] == 4
    assert ISOLATED in unit.action("show-machine").results["text"].replace(", ", ",")
    assert "the daemon answers" in unit.action("get-status").results["text"]
    assert "confirm=true" in str(unit.action("release", service="ceph-osd").failure)
    assert unit.action("release", service="ceph-osd", confirm=True).results["text"].startswith("released CPUs 14-15")
    assert list(claims(machine)) == ["hypervisor"]


def test_refresh_snap_installs_the_charms_snap_again(machine: Machine, unit: Unit) -> None:
    outcome = unit.action("refresh-snap")
    assert outcome.failure is None
    assert (outcome.status, outcome.version) == (active(machine), "99.0.0")
    assert list(claims(machine)) == ["hypervisor"]


def test_stopped_daemon_blocks_with_a_remedy(machine: Machine, unit: Unit) -> None:
    machine.run("snap", "stop", "--disable", SNAP, timeout=600)
    outcome = unit.hook("update-status")
    status, message = outcome.status
    assert status == "blocked"
    assert "snap start --enable" in message
    machine.run("snap", "start", "--enable", SNAP, timeout=600)
    assert unit.hook("update-status").status == active(machine)


def test_apparmor_denied_no_access_of_the_snap(machine: Machine) -> None:
    """The hooks run before the charm has connected the plugs, so they may not read the list of NUMA nodes."""
    denials = [line for line in machine.denials() if f'profile="snap.{SNAP}.' in line]
    early = [line for line in denials if ".hook." in line and 'name="/sys/devices/system/node/' in line]
    assert [line for line in denials if line not in early] == []


def test_remove_keeps_the_snap_while_a_service_holds_cpus(machine: Machine, unit: Unit) -> None:
    unit.hook("stop")
    outcome = unit.hook("remove")
    assert any("still held by hypervisor" in text for _, text in outcome.log)
    assert "held" not in snap_row(machine)[-1]
    assert connection(machine, f"{CONSUMER}:epa-info") == "-"


def test_remove_removes_the_snap_without_claims(machine: Machine, unit: Unit) -> None:
    ask(machine, action="allocate_cores", service_name="hypervisor", num_of_cores=-1)
    unit.hook("remove")
    assert machine.run("snap", "list", SNAP, check=False).rc != 0
    deadline = time.monotonic() + 60
    while machine.run("test", "-e", SOCKET, check=False).rc == 0 and time.monotonic() < deadline:
        time.sleep(1)
    assert machine.run("test", "-e", SOCKET, check=False).rc != 0
