# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""CPUs that a request takes from other services: the answer, the log and both services' history name them."""

from __future__ import annotations

from epa_orchestrator.state.database_files import FILE_NAME
from epa_orchestrator.state.events import Event
from epa_orchestrator.state.reading import Wanted, read_events

from .harness import Daemon, format_cpus, parse_cpus

ASKED = {"service_name": "ovs", "numa_node": 0, "num_of_cores": 2}


def last_event(daemon: Daemon, service: str) -> Event:
    (event,) = read_events(daemon.common / FILE_NAME, 1, Wanted(service))
    return event


def test_a_taking_is_named_in_the_answer_the_log_and_both_histories(daemon: Daemon) -> None:
    held = daemon.cores("nova", 12)  # the whole pool
    answer = daemon.ok("allocate_numa_cores", **ASKED)
    cpus = answer["cores_allocated"]
    assert answer["taken"] == {"nova": cpus}
    assert daemon.claims() == {"nova": held - parse_cpus(cpus), "ovs": parse_cpus(cpus)}
    assert f"allocate_numa_cores 'ovs': served, took CPUs {cpus} from 'nova'" in daemon.log()
    assert last_event(daemon, "ovs").taken_from == {"nova": cpus}
    lost = last_event(daemon, "nova")
    assert (lost.action, lost.taken_by) == ("allocate_numa_cores", {"ovs": cpus})
    assert lost.before is not None
    assert lost.before["cpus"] == format_cpus(held)


def test_a_dry_run_names_whom_it_would_take_from_and_leaves_no_event(daemon: Daemon) -> None:
    daemon.cores("nova", 12)
    before = last_event(daemon, "nova")
    answer = daemon.ok("allocate_numa_cores", dry_run=True, explain=True, **ASKED)
    assert answer["taken"] == {"nova": answer["cores_allocated"]}
    assert answer["explanation"]["decided_by"].endswith(f" It takes CPUs {answer['cores_allocated']} from 'nova'.")
    assert last_event(daemon, "nova") == before


def test_a_request_from_free_cpus_names_nobody(daemon: Daemon) -> None:
    daemon.cores("nova", 2)
    assert "taken" not in daemon.ok("allocate_numa_cores", **{**ASKED, "numa_node": 1})
    assert last_event(daemon, "ovs").taken_from == {}
