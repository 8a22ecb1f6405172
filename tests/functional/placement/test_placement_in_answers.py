# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""`placement` in answers, on made-up and recorded machines."""

from __future__ import annotations

from typing import Final

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.sysfs import SysfsTree
from tests.functional.harness import parse_cpus
from tools.synthetic import Shape

from .asking import ask, cores, numa, outcome, percent
from .hosts import CLUSTERS, EIGHT, EPYC, FOUR_CORES, KUNPENG, POWER, XEON, hybrid_daemon, machine_daemon, real_daemon
from .whereabouts import check_placement

#: Machines, each with its reserved CPUs.
MADE_UP: Final = {
    "eight": (EIGHT, "3"),
    "clusters": (CLUSTERS, ""),
    "power": (POWER, "1,9"),
    "epyc": (EPYC, ""),
    "xeon": (XEON, "1"),
    "kunpeng": (KUNPENG, "5"),
    "four cores": (FOUR_CORES, ""),
}
REAL: Final = {
    "epyc9654-2s-nps4-384t": "",
    "clx-2s-snc2-80t": "1",
    "raptorlake-i7-1370p-20t": "0,13",
    "power8-8247-22l-deconf-80p": "",
    "kunpeng920-2s4n-128c": "5",
    "opteron-magnycours-48c-sparse": "",
    "s390-z16-8t": "",
}


@pytest.mark.parametrize(("machine", "reserved"), [*MADE_UP.values(), *REAL.items()], ids=[*MADE_UP, *REAL])
def test_answers_say_where_the_cpus_are(machine: str | Shape, reserved: str) -> None:
    with machine_daemon(machine, {"reserved-cpus": reserved}) as daemon:
        daemon.start()
        refused = 0
        machine_ = read_machine(SysfsTree(daemon.host.root))
        node = min(node.id for node in machine_.nodes if node.cpus - CpuSet.parse(reserved))
        for service, (action, fields) in [
            ("a", cores(3)), ("b", percent(15)), ("c", numa(node, 1)), ("d", cores(1, cpu_thread_policy="share")),
            ("a", cores(1, cpu_thread_policy="isolate")), ("e", cores(1, cpu_thread_policy="isolate")), ("b", cores(2)),
            ("c", numa(node, 2)), ("f", cores(0)), ("e", cores(1, cpu_thread_policy="share")),
        ]:  # fmt: skip
            answer = daemon.call(action, service_name=service, **fields)
            if "error" in answer:
                refused += 1
            else:
                check_placement(daemon, machine_, answer, parse_cpus(reserved))
        assert refused == (2 if machine in (FOUR_CORES, "s390-z16-8t") else 0), (
            "only four cores are too few for service e"
        )
        for service, (action, fields) in [("a", cores(-1)), ("b", percent(0)), ("c", numa(node, -1))]:
            assert "placement" not in daemon.ok(action, service_name=service, **fields)


@pytest.mark.parametrize("real", [False, True], ids=["made up", "real"])
def test_core_types_of_a_hybrid_machine_are_known(real: bool) -> None:
    # CPUs 0-11 are the threads of six performance cores, CPUs 12-19 are efficiency cores.
    with real_daemon("raptorlake-i7-1370p-20t", {}) if real else hybrid_daemon() as daemon:
        daemon.start()
        for value, expected in (("none", "0-1"), ("performance", "0-1"), ("efficiency", "12-13")):
            daemon.reload({"prefer-core-type": value})
            assert outcome(ask(daemon, cores(2), dry_run=True)) == expected
