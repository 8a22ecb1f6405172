# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A running daemon uses accepted options at once, and a daemon that cannot be notified makes the change fail."""

from __future__ import annotations

import fcntl
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from epa_orchestrator.allocation.settings import load_settings, parse_settings
from epa_orchestrator.configure.hook import ConfigureError, apply_options
from epa_orchestrator.configure.proposal import NotAcceptable
from epa_orchestrator.hardware.sysfs import SysfsTree
from tests.functional.harness import Daemon, wait_until
from tests.unit.configure.builders import USED, Snap


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Two NUMA nodes; CPU n and n + 8 share a core, and CPUs 0, 4, 8 and 12 are not isolated."""
    with Daemon() as started:
        yield started.start()


def put(daemon: Daemon, options: dict[str, Any]) -> None:
    apply_options(options, daemon.settings_path, daemon.common, SysfsTree(daemon.host.root))


def pool(daemon: Daemon, name: str) -> str:
    """The CPUs of a pool that the daemon may grant."""
    answer = daemon.call("list_allocations", pool=name)
    return answer["cpu_pool"]["eligible_cpus"] if "error" not in answer else ""


def test_running_daemon_uses_accepted_options_without_a_restart(daemon: Daemon) -> None:
    pid = daemon.pid
    assert pool(daemon, "general") == ""
    put(daemon, {"cpu-pool": "0,8", "reserved-cpus": "7,15"})
    wait_until(lambda: pool(daemon, "general") == "0,8", "the daemon uses the new pool")
    assert pool(daemon, "isolated") == "1-3,5-6,9-11,13-14"
    put(daemon, {})
    wait_until(lambda: pool(daemon, "general") == "", "the daemon has no general pool any more")
    assert daemon.pid == pid


def test_running_daemon_uses_a_new_log_level(daemon: Daemon) -> None:
    put(daemon, {"log-level": "error", "cpu-pool": "0"})
    wait_until(lambda: pool(daemon, "general") == "0", "the daemon uses the new settings")
    daemon.ok("list_allocations", service_name="unheard")
    put(daemon, {"log-level": "info"})
    wait_until(lambda: pool(daemon, "general") == "", "the daemon uses the new settings")
    daemon.ok("list_allocations", service_name="heard")
    wait_until(lambda: "'heard'" in daemon.log(), "the daemon logs again")
    assert "unheard" not in daemon.log()


def test_refused_options_reach_neither_daemon_nor_file(daemon: Daemon) -> None:
    held = daemon.ok("allocate_cores", service_name="nova", num_of_cores=2)["allocated_cores"]
    before, logged = daemon.settings_path.read_text(), len(daemon.log())
    with pytest.raises(NotAcceptable, match=rf"from their pool: {held} \(held by nova\); release them first"):
        put(daemon, {"reserved-cpus": held})
    daemon.ok("list_allocations")
    assert "settings read again" not in daemon.log()[logged:]
    assert daemon.settings_path.read_text() == before


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_daemon_that_cannot_be_found_makes_the_change_fail(replaced: bool, daemon: Daemon) -> None:
    """It would continue with the earlier settings, and the operator would not notice."""
    put(daemon, {"numa-reclaim": "never"})
    lock = daemon.common / "lock"
    lock.unlink()
    if replaced:
        lock.touch()
    with pytest.raises(ConfigureError, match=r"its lock file in .* was replaced or removed: restart it$"):
        put(daemon, {"numa-reclaim": "always"})
    assert load_settings(daemon.settings_path) == parse_settings({"numa-reclaim": "never"})


def test_claims_and_options_of_a_killed_daemon_count(daemon: Daemon) -> None:
    held = daemon.ok("allocate_cores", service_name="nova", num_of_cores=2)["allocated_cores"]
    daemon.kill()
    with pytest.raises(NotAcceptable, match=r"\(held by nova\)"):
        put(daemon, {"reserved-cpus": held})
    put(daemon, {"cpu-pool": "4"})
    daemon.start()
    assert pool(daemon, "general") == "4"


def test_process_with_the_pid_of_an_earlier_daemon_gets_no_signal(installed: Snap) -> None:
    """SIGHUP would end that process."""
    with subprocess.Popen(["sleep", "60"]) as other:
        (installed.common / "lock").write_text(f"{other.pid}\n")
        installed.put(USED)
        time.sleep(0.1)
        assert other.poll() is None
        other.kill()


def test_daemon_that_has_just_ended_is_no_error(installed: Snap) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with (installed.common / "lock").open("w") as lock:
        lock.write(f"{gone.pid}\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed.put(USED)
    assert load_settings(installed.settings) == parse_settings(USED)


@pytest.mark.parametrize("before", [USED, None])
def test_settings_stay_when_the_daemon_cannot_be_notified(before: dict[str, Any] | None, installed: Snap) -> None:
    if before is not None:
        installed.put(before)
    (installed.common / "lock").mkdir()
    assert installed.refusal({"numa-reclaim": "always"}, ConfigureError) == (
        "The running daemon could not be notified of the options: Is a directory"
    )
