# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`report` prints or writes one JSON document, also without a daemon, and its machine can be served."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.unit.cli.builders import Command, Daemon
from tools.synthetic import Device, Shape, build, write_tree


@pytest.fixture
def host(offline: Command) -> Command:
    """A command line on a host of its own, without a daemon."""
    shape = Shape(packages=2, isolated="2-3", hugepages={2048: (9, 8)}, devices=[Device("0000:17:00.0", 1, "eth0")])
    write_tree(build(shape), offline.base / "sys")
    offline.environment["EPA_SYSFS"] = str(offline.base / "sys")
    return offline


def report(command: Command, *arguments: str) -> dict[str, Any]:
    result = command.run("report", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_report_has_everything(daemon: Daemon) -> None:
    daemon.client.allocate("nova", 2)
    found = report(daemon)
    assert found["missing"] == {}
    assert [claim["service_name"] for claim in found["pools"]["isolated"]["allocations"]] == ["nova"]
    assert found["pools"].keys() == {"isolated", "general"}
    assert found["history"][-1]["service"] == "nova"
    assert found["settings"]["unusable"] == {}
    assert "node0" in found["hugepages"]
    assert found["machine_of_the_daemon"]["states"]["claimed"] == found["history"][-1]["after"]["cpus"]
    assert any(line.startswith("Pool isolated: ") for line in found["summary"])


def test_report_without_a_daemon_says_so_and_has_the_rest(host: Command) -> None:
    result = host.run("report")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["missing"]["pools"].startswith("No daemon serves ")
    assert "missing: pools, hugepages, machine_of_the_daemon: No daemon serves " in result.stderr
    assert found["recording"]["files"]["devices/system/cpu/isolated"] == "2-3"
    assert "epa-orchestrator" in found["versions"]


def test_report_names_unusable_options(host: Command) -> None:
    settings = host.base / "settings.json"
    settings.write_text('{"numa-policy": "sideways", "reserved-cpus": "1"}')
    host.environment["EPA_SETTINGS"] = str(settings)
    found = report(host)["settings"]
    assert found["options"] == {"numa-policy": "sideways", "reserved-cpus": "1"}
    assert "numa-policy='sideways' is not valid" in found["unusable"]["numa-policy"]


def test_missing_settings_file_is_named(host: Command) -> None:
    host.environment["EPA_SETTINGS"] = str(host.base / "settings.json")
    assert "does not exist, or this user may not read it" in report(host)["missing"]["settings"]


def test_report_to_a_file_can_be_served(host: Command) -> None:
    path = host.base / "report.json"
    result = host.run("report", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"epa-orchestrator serve --machine {path}" in result.stderr
    shown = host.run("machine", "--json").stdout  # no daemon answers, which stderr says
    del host.environment["EPA_SYSFS"]
    assert host.text("machine", "--json", "--machine", str(path)) == shown


def test_report_to_a_dash_is_printed(host: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(host.base)
    assert report(host, "-").keys() == report(host).keys()
    assert "reported to" not in host.run("report", "-").stderr
    assert not (host.base / "-").exists()


def test_report_has_the_devices(host: Command) -> None:
    files = report(host)["recording"]["files"]
    assert files["bus/pci/devices/0000:17:00.0/numa_node"] == "1"
    assert files["class/net/eth0/device/numa_node"] == "1"


def test_report_has_no_name_of_the_host(host: Command) -> None:
    assert report(host)["recording"]["name"] == "reported-machine"


def test_report_of_a_recorded_machine(host: Command) -> None:
    found = report(host, "--machine", "demo-48")
    assert found["recording"]["files"]["devices/system/cpu/isolated"] == "0-47"


def test_unreadable_machine_is_missing(host: Command) -> None:
    (host.base / "sys/devices/system/cpu/online").write_text("x\n")
    found = report(host)
    assert "devices/system/cpu/online" in found["missing"]["parts of the machine"]
    assert found["recording"]["files"]["devices/system/cpu/online"] == "x"


def test_report_of_a_read_only_daemon_exits_with_4(read_only: Daemon) -> None:
    result = read_only.run("report")
    assert result.exit_code == 4
    assert "state_error" in json.loads(result.stdout)["pools"]["isolated"]


def test_unwritable_file_is_an_error(host: Command) -> None:
    assert host.run("report", str(host.base / "missing" / "x.json")).exit_code == 1


def test_failure_is_json_if_asked_for(host: Command) -> None:
    result = host.run("report", "--json", str(host.base / "missing" / "x.json"))
    assert json.loads(result.stdout)["error"].endswith("No such file or directory")


def test_the_snap_says_where_it_may_write(host: Command) -> None:
    host.environment |= {"SNAP_NAME": "epa-orchestrator", "SNAP_USER_COMMON": "/home/me/snap/epa-orchestrator/common"}
    result = host.run("report", str(host.base / "missing" / "x.json"))
    assert result.exit_code == 1
    assert "the snap may write below /home/me/snap/epa-orchestrator/common" in result.stderr


def test_report_has_no_environment(host: Command) -> None:
    secret = "s3cret-in-the-environment"
    host.environment["OS_PASSWORD"] = secret
    assert secret not in json.dumps(report(host))
    assert os.uname().nodename not in report(host)["summary"][0]


def test_report_about_a_given_socket_has_no_history_of_another_daemon(daemon: Daemon) -> None:
    daemon.client.allocate("nova", 2)
    socket = str(daemon.base / "none.sock")
    result = daemon.run("report", "--socket", socket)
    assert result.exit_code == 0
    assert "history" not in json.loads(result.stdout)
    assert f"machine_of_the_daemon, history: No daemon serves {socket}" in result.stderr
