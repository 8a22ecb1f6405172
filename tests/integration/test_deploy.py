# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""On a real controller: deploy the charm with its principal, configure it, run its actions, and remove it.

The tests run in order and build on each other. The machines of the cloud may or may not isolate CPUs.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jubilant
import pytest

pytestmark = pytest.mark.skipif(shutil.which("juju") is None, reason="there is no juju program here")

APP: Final = "epa-orchestrator"
PRINCIPAL: Final = "sunbeam-machine"
COLLECTOR: Final = "opentelemetry-collector"
AUTHORITY: Final = "self-signed-certificates"
NOT_ISOLATED: Final = "no isolated CPUs: pinning requests will be refused; "
SOCKET: Final = "/var/snap/epa-orchestrator/current/data/epa.sock"

#: One request to the daemon from a shell, as any client on the machine may send it.
ASK: Final = f"""
import socket
client = socket.socket(socket.AF_UNIX)
client.connect("{SOCKET}")
client.sendall(b'{{"version": "1.0", "action": "list_allocations"}}')
print(client.makefile().read())
"""

#: Prints the daemon's metrics, which only the machine itself can read.
SCRAPE: Final = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9795/metrics', timeout=60).read().decode())"
)


def unit(juju: jubilant.Juju) -> str:
    """The name of the charm's only unit."""
    (name,) = juju.status().get_units(APP)
    return name


def idle_status(status: jubilant.Status) -> tuple[str, str]:
    """The status and message of the charm's unit; empty while there is no unit or while it runs something."""
    units = list(status.get_units(APP).values())
    if len(units) != 1 or units[0].juju_status.current != "idle":
        return "", ""
    return units[0].workload_status.current, units[0].workload_status.message


def is_active(status: jubilant.Status) -> bool:
    """Whether the unit is active, with no message or only that the machine isolates no CPUs."""
    current, message = idle_status(status)
    return current == "active" and (not message or message.startswith(NOT_ISOLATED))


def is_blocked(status: jubilant.Status) -> bool:
    """Whether the unit is blocked."""
    return idle_status(status)[0] == "blocked"


def act(juju: jubilant.Juju, action: str, params: Mapping[str, Any] | None = None) -> Any:
    """The JSON result of an action."""
    results = juju.run(unit(juju), action, params, wait=300).results
    assert results["text"]
    return json.loads(results["json"])


@pytest.mark.juju_setup
def test_deploy(juju: jubilant.Juju, charm: Path) -> None:
    juju.deploy(PRINCIPAL, channel="2024.1/stable", base="ubuntu@24.04")
    juju.deploy(charm, APP)
    juju.integrate(APP, PRINCIPAL)
    juju.wait(is_active, error=jubilant.any_error)
    assert juju.status().apps[APP].version


def test_valid_option_reaches_the_daemon(juju: jubilant.Juju) -> None:
    juju.config(APP, {"resize-policy": "reallocate"})
    juju.wait(lambda status: is_active(status) and act(juju, "get-status")["options"]["resize-policy"] == "reallocate")
    juju.config(APP, reset="resize-policy")


def test_invalid_option_blocks_until_it_is_reset(juju: jubilant.Juju) -> None:
    juju.config(APP, {"numa-policy": "sideways"})
    status = juju.wait(is_blocked)
    assert idle_status(status)[1].startswith("numa-policy='sideways' is not valid: set it to ")
    juju.config(APP, reset="numa-policy")
    juju.wait(is_active)


def test_unknown_cpu_blocks_until_it_is_reset(juju: jubilant.Juju) -> None:
    juju.config(APP, {"reserved-cpus": "65000"})
    status = juju.wait(is_blocked)
    assert "65000, which this machine does not have" in idle_status(status)[1]
    juju.config(APP, reset="reserved-cpus")
    juju.wait(is_active)


def test_actions_show_the_daemon_and_the_machine(juju: jubilant.Juju) -> None:
    status = act(juju, "get-status")
    assert status["health"] == "the daemon answers"
    assert status["held"]
    assert status["connections"]["epa-orchestrator:topology"] == ":system-files"
    online = juju.exec("cat /sys/devices/system/cpu/online", unit=unit(juju)).stdout.strip()
    assert act(juju, "show-machine")["online"] == online
    assert act(juju, "list-allocations")["pools"]["isolated"]["allocations"] == []


def test_impossible_action_reports_the_reason(juju: jubilant.Juju) -> None:
    with pytest.raises(jubilant.TaskError) as caught:
        juju.run(unit(juju), "release", {"service": "nobody", "confirm": True})
    assert caught.value.task.message == "the service 'nobody' holds no CPUs or hugepages: see list-allocations"


def test_shell_on_the_machine_reaches_the_daemon(juju: jubilant.Juju) -> None:
    answer = json.loads(juju.exec(f"python3 -c {shlex.quote(ASK)}", unit=unit(juju)).stdout)
    assert answer["pool"] == "isolated"
    isolated = juju.exec("cat /sys/devices/system/cpu/isolated", unit=unit(juju)).stdout.strip()
    assert answer["cpu_pool"]["configured_cpus"] == isolated


def test_daemon_answers_after_refresh_snap(juju: jubilant.Juju) -> None:
    assert act(juju, "refresh-snap")["after"]
    juju.wait(is_active)


def test_collector_turns_the_metrics_on(juju: jubilant.Juju) -> None:
    """The collector itself stays blocked: it has nobody to send to."""
    juju.deploy(COLLECTOR, channel="2/stable", base="ubuntu@24.04")
    juju.integrate(f"{COLLECTOR}:juju-info", f"{PRINCIPAL}:juju-info")
    juju.integrate(f"{APP}:cos-agent", f"{COLLECTOR}:cos-agent")
    juju.wait(lambda status: is_active(status) and act(juju, "get-status")["options"].get("metrics-port") == 9795)
    assert "epa_build_info" in juju.exec(f"python3 -c {shlex.quote(SCRAPE)}", unit=unit(juju)).stdout
    juju.remove_relation(f"{APP}:cos-agent", f"{COLLECTOR}:cos-agent")
    juju.wait(is_active)


def test_received_certificates_change_nothing(juju: jubilant.Juju) -> None:
    juju.deploy(AUTHORITY, base="ubuntu@24.04")
    juju.integrate(f"{APP}:receive-ca-cert", f"{AUTHORITY}:send-ca-cert")
    juju.wait(lambda status: is_active(status) and status.apps[AUTHORITY].is_active)
    assert act(juju, "get-status")["health"] == "the daemon answers"


@pytest.mark.juju_teardown
def test_remove_removes_the_snap_from_the_machine(juju: jubilant.Juju) -> None:
    juju.remove_application(APP)
    juju.wait(lambda status: APP not in status.apps)
    (principal,) = juju.status().get_units(PRINCIPAL)
    assert "epa-orchestrator" not in juju.exec("snap list", unit=principal).stdout
