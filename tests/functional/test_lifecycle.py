"""Starting, staying and stopping: the socket file, a second daemon, signals, settings, and what systemd expects."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from epa_orchestrator.state.lock import daemon_pid
from tools.synthetic import Shape

from .harness import (
    PATIENCE,
    READ_TIMEOUT,
    SERVED_WITHIN,
    Daemon,
    Json,
    Process,
    check_listing,
    connect,
    decode,
    encode,
    format_cpus,
    in_threads,
    parse_cpus,
    read_to_end,
    wait_until,
)

LISTING: Final = encode("list_allocations", {})
COMMAND: Final = [sys.executable, "-m", "epa_orchestrator", "serve"]

#: The time in which the socket file must be back (issue 2 and the brief of these tests).
SOCKET_IS_BACK_WITHIN: Final = 5.0


def answers(path: Path) -> bool:
    """Whether somebody serves the socket."""
    try:
        with connect(path) as client:
            client.sendall(LISTING)
            return "error" not in decode(read_to_end(client))
    except OSError:
        return False


def test_socket_file(daemon: Daemon) -> None:
    mode = daemon.socket_path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o666, "who may change claims is decided by SO_PEERCRED, reading is for everybody"


def test_socket_file_is_put_back(daemon: Daemon) -> None:
    held = daemon.cores("svc", 2)
    for _ in range(2):
        with connect(daemon.socket_path) as early:
            daemon.socket_path.unlink()
            wait_until(lambda: answers(daemon.socket_path), "the socket file is back", SOCKET_IS_BACK_WITHIN)
            early.sendall(LISTING)
            assert check_listing(decode(read_to_end(early))) == {"svc": held}, "clients from before are served"
    assert stat.S_IMODE(daemon.socket_path.stat().st_mode) == 0o666
    assert daemon.stop() == 0
    assert not daemon.socket_path.exists()


def test_socket_directory_is_put_back(daemon: Daemon) -> None:
    daemon.socket_path.unlink()
    daemon.socket_path.parent.rename(daemon.data / "moved")
    wait_until(lambda: answers(daemon.socket_path), "the socket file is back", SOCKET_IS_BACK_WITHIN)


def test_socket_file_replaced_by_another(daemon: Daemon) -> None:
    # Every connected snap may write here; its mistakes must not cut the others off.
    daemon.socket_path.unlink()
    daemon.socket_path.write_text("not a socket")
    wait_until(lambda: answers(daemon.socket_path), "the socket file is back", SOCKET_IS_BACK_WITHIN)


@pytest.mark.parametrize("how", ["killed daemon", "closed socket"])
def test_stale_socket_file_is_replaced(how: str) -> None:
    with Daemon() as daemon:
        if how == "killed daemon":
            daemon.start()
            daemon.kill()
        else:
            daemon.socket_path.parent.mkdir()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
                stale.bind(str(daemon.socket_path))
        assert daemon.socket_path.is_socket()
        daemon.start()
        daemon.cores("svc", 1)


def run_to_exit(environment: dict[str, str]) -> str:
    """Start a daemon that is expected to give up; its last words, which must be one sentence."""
    ended = subprocess.run(
        COMMAND,
        env=environment,
        timeout=PATIENCE,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode > 0, (ended.returncode, ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr, ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.strip()]
    assert said, "it says nothing"
    return said[-1]


@pytest.mark.parametrize("shared", ["both", "SNAP_DATA", "SNAP_COMMON"])
def test_second_daemon_gives_up(daemon: Daemon, shared: str) -> None:
    held = daemon.cores("svc", 2)
    before = daemon.socket_path.stat().st_ino
    other = daemon.base / "other"
    other.mkdir()
    environment = dict(daemon.environment)
    for name in ("SNAP_DATA", "SNAP_COMMON"):
        if shared not in ("both", name):
            environment[name] = str(other)
    assert len(run_to_exit(environment)) > 20
    assert daemon.socket_path.stat().st_ino == before
    assert daemon.claims() == {"svc": held}
    assert daemon.cores("svc", 3) > held
    daemon.kill()
    daemon.start()
    assert len(daemon.claims()["svc"]) == 3


def test_two_daemons_with_nothing_in_common(daemon: Daemon) -> None:
    daemon.cores("svc", 12)
    with Daemon() as other:
        other.start()
        assert len(other.cores("svc", 12)) == 12


def test_sigterm(daemon: Daemon) -> None:
    daemon.cores("svc", 2)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert not daemon.socket_path.exists()


def test_sigterm_answers_what_is_in_flight(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        clients = {f"svc-{number:02}": stack.enter_context(connect(daemon.socket_path)) for number in range(12)}
        requests = {name: encode("allocate_cores", {"service_name": name, "num_of_cores": 1}) for name in clients}
        for name, client in clients.items():
            client.sendall(requests[name][:10])
        daemon.claims()  # by now all of them have been accepted
        daemon.send_signal(signal.SIGSTOP)
        for name, client in clients.items():
            client.sendall(requests[name][10:])
        daemon.send_signal(signal.SIGTERM)
        daemon.send_signal(signal.SIGCONT)
        granted = {name: parse_cpus(decode(read_to_end(client))["allocated_cores"]) for name, client in clients.items()}
    assert daemon.wait() == 0
    daemon.start()
    assert daemon.claims() == granted


def test_sigterm_answers_who_is_waiting_to_be_accepted(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        daemon.send_signal(signal.SIGSTOP)
        clients = [stack.enter_context(connect(daemon.socket_path)) for _ in range(300)]
        for client in clients[:-12]:
            client.sendall(LISTING)
        for number, client in enumerate(clients[-12:]):
            client.sendall(encode("allocate_cores", {"service_name": f"svc-{number}", "num_of_cores": 1}))
        daemon.send_signal(signal.SIGTERM)
        daemon.send_signal(signal.SIGCONT)
        for client in clients:
            assert "error" not in decode(read_to_end(client))
    assert daemon.wait() == 0
    daemon.start()
    assert len(daemon.claims()) == 12


def test_sigterm_does_not_wait_for_silent_clients_for_ever(daemon: Daemon) -> None:
    with connect(daemon.socket_path), connect(daemon.socket_path) as stalled:
        stalled.sendall(LISTING[:10])
        daemon.claims()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(READ_TIMEOUT + 5) == 0
    assert not daemon.socket_path.exists()


def test_sigterm_in_a_stream_of_requests(daemon: Daemon) -> None:
    granted: dict[str, int] = {}

    def ask(name: str) -> None:
        for turn in range(100_000):
            count = 1 + turn % 2
            try:
                answer = daemon.request(encode("allocate_cores", {"service_name": name, "num_of_cores": count}))
            except OSError:
                return
            if not answer:
                # It was connected and has sent a whole request, so it was in flight: it must not be left alone.
                raise AssertionError("no answer")
            granted[name] = decode(answer)["cores_allocated"]

    with in_threads(*[lambda name=name: ask(name) for name in ("a", "b", "c")]):
        try:
            wait_until(lambda: len(granted) == 3, "all are served")
            time.sleep(0.2)
        finally:
            assert daemon.stop() == 0
    daemon.start()
    assert {name: len(cpus) for name, cpus in daemon.claims().items()} == granted


def test_answer_that_nobody_reads() -> None:
    shape = Shape(packages=2, cores_per_l3=128, isolated="0-255")
    with Daemon(shape) as daemon:
        daemon.start()
        for number in range(250):
            daemon.cores(f"{number:03}" + "\N{GRINNING FACE}" * 252, 1)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(daemon.socket_path)) for _ in range(20)]
            for client in clients:
                client.sendall(LISTING)
            for _ in range(5):
                for action, fields in (
                    ("get_memory_info", {}),
                    ("allocate_cores", {"service_name": "prompt", "num_of_cores": 2}),
                    ("allocate_cores", {"service_name": "prompt", "num_of_cores": -1}),
                ):
                    started = time.monotonic()
                    daemon.ok(action, **fields)
                    assert time.monotonic() - started < SERVED_WITHIN
            # Those who read after all get all of it.
            for client in clients[:2]:
                answer = read_to_end(client)
                assert len(answer) > 250_000, "too small to fill a socket's buffer"
                assert len(check_listing(decode(answer))) == 250
        assert len(daemon.claims()) == 250


class Notifications:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE)

    def wait_for(self, line: str) -> None:
        """Receive until a message says this."""
        while line not in self.socket.recv(4096).decode().splitlines():
            pass


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_readiness(kind: str) -> None:
    with Daemon() as daemon:
        address = str(daemon.base / "notify") if kind == "path" else f"@epa-test-{os.getpid()}-{id(daemon)}"
        notifications = Notifications(address)
        with notifications.socket:
            daemon.launch({"NOTIFY_SOCKET": address})
            notifications.wait_for("READY=1")
            daemon.cores("svc", 1)  # ready means that the first request succeeds
            daemon.send_signal(signal.SIGTERM)
            notifications.wait_for("STOPPING=1")
            assert daemon.wait() == 0


def test_watchdog() -> None:
    with Daemon() as daemon:
        address = str(daemon.base / "notify")
        notifications = Notifications(address)
        with notifications.socket:
            daemon.launch({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"})
            notifications.wait_for("READY=1")
            notifications.socket.settimeout(0.6)
            for _ in range(5):
                notifications.wait_for("WATCHDOG=1")


def test_no_watchdog_for_another_process() -> None:
    with Daemon() as daemon:
        address = str(daemon.base / "notify")
        notifications = Notifications(address)
        with notifications.socket:
            daemon.launch({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
            notifications.wait_for("READY=1")
            notifications.socket.settimeout(1)
            with pytest.raises(TimeoutError):
                notifications.wait_for("WATCHDOG=1")


def test_notify_socket_that_is_gone() -> None:
    with Daemon() as daemon:
        daemon.start({"NOTIFY_SOCKET": str(daemon.base / "gone")})
        daemon.cores("svc", 1)


#: Does what systemd does between fork and exec: the listening socket becomes descriptor 3, the pid is the daemon's.
ACTIVATE: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=sys.argv[2] or str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""


@contextlib.contextmanager
def listening(path: Path) -> Generator[socket.socket]:
    """A listening socket as systemd would hold it."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o666)  # `socket-mode` in snapcraft.yaml
        listener.listen(128)
        yield listener


def test_socket_activation() -> None:
    with Daemon() as daemon, listening(daemon.socket_path) as listener:
        launcher = [sys.executable, "-c", ACTIVATE, str(listener.fileno()), ""]
        with connect(daemon.socket_path) as early:
            early.sendall(LISTING)  # systemd accepts connections before the daemon runs
            before = daemon.socket_path.stat()
            daemon.start(launcher=launcher, pass_fds=(listener.fileno(),))
            assert check_listing(decode(read_to_end(early))) == {}
        held = daemon.cores("svc", 2)
        time.sleep(2)  # longer than the daemon takes to miss a socket file of its own
        after = daemon.socket_path.stat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode), "the socket file is systemd's"
        assert daemon.stop() == 0
        assert daemon.socket_path.is_socket(), "it is not the daemon's to remove"
        daemon.start(launcher=launcher, pass_fds=(listener.fileno(),))
        assert daemon.claims() == {"svc": held}
        daemon.kill()
        assert daemon.socket_path.is_socket()


def test_activation_where_the_socket_file_had_been_put_back_and_the_daemon_was_killed() -> None:
    """systemd hands over its socket again, but the file leads to the dead daemon's."""
    with Daemon() as daemon, listening(daemon.socket_path) as listener:
        launcher = [sys.executable, "-c", ACTIVATE, str(listener.fileno()), ""]
        daemon.start(launcher=launcher, pass_fds=(listener.fileno(),))
        handed_over = daemon.socket_path.stat().st_ino
        daemon.socket_path.unlink()
        wait_until(daemon.socket_path.is_socket, "the socket file is put back")
        held = daemon.cores("svc", 2)
        daemon.kill()
        assert daemon.socket_path.stat().st_ino != handed_over
        daemon.start(launcher=launcher, pass_fds=(listener.fileno(),))
        assert daemon.claims() == {"svc": held}


def test_activation_meant_for_another_process() -> None:
    with Daemon() as daemon, listening(daemon.base / "foreign.sock") as listener:
        launcher = [sys.executable, "-c", ACTIVATE, str(listener.fileno()), "1"]
        daemon.start(launcher=launcher, pass_fds=(listener.fileno(),))
        daemon.cores("svc", 1)
        assert daemon.stop() == 0
        assert not daemon.socket_path.exists(), "this one was the daemon's own"


def test_sighup_while_the_daemon_starts_is_heard() -> None:
    """Whoever finds the lock held may tell the daemon of settings that it has read already, or not yet."""
    with Daemon() as daemon:
        daemon.launch()
        wait_until(lambda: daemon_pid(daemon.common) is not None, "the daemon holds its lock")
        daemon.configure({"cpu-pool": "0,4"})
        daemon.send_signal(signal.SIGHUP)
        wait_until(daemon.socket_path.is_socket, "the daemon serves")
        wait_until(lambda: "error" not in daemon.call("list_allocations", pool="general"), "the pool is there")


def test_sighup_reads_the_settings_again(daemon: Daemon) -> None:
    held = daemon.cores("svc", 2)
    daemon.refused("list_allocations", pool="general")
    daemon.configure({"cpu-pool": "0,4"})
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "error" not in daemon.call("list_allocations", pool="general"), "the general pool is there")
    daemon.cores("host", 2, pool="general")
    daemon.configure({"cpu-pool": "0,4,8"})
    daemon.send_signal(signal.SIGHUP)
    wait_until(
        lambda: daemon.ok("list_allocations", pool="general")["total_available_cpus"] == 3, "the general pool has grown"
    )
    assert daemon.claims() == {"svc": held}
    assert daemon.claims("general") == {"host": {0, 4}}


def test_general_pool_taken_away_while_claims_are_in_it() -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        daemon.start()
        daemon.cores("host", 2, pool="general")
        daemon.configure({"cpu-pool": "0"})
        daemon.restart()
        assert daemon.ok("list_allocations", pool="general")["cpu_pool"]["unavailable_allocated_cpus"] == "4"
        assert "release it first" in daemon.refused(
            "allocate_cores", service_name="host", num_of_cores=1, pool="general"
        )
        daemon.cores("host", -1, pool="general")
        daemon.cores("host", 1, pool="general")


def test_claimed_cpu_becomes_reserved(daemon: Daemon) -> None:
    held = daemon.numa("svc", 0, 2)
    daemon.configure({"reserved-cpus": str(min(held))})
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.ok("list_allocations")["total_available_cpus"] == 11, "the settings are read")
    assert daemon.claims() == {"svc": held}
    assert daemon.ok("list_allocations")["cpu_pool"]["unavailable_allocated_cpus"] == str(min(held))
    assert "release it first" in daemon.refused("allocate_cores", service_name="svc", num_of_cores=2)
    daemon.cores("svc", -1)
    assert min(held) not in daemon.cores("svc", 11)


#: What is wrong -> (the settings, what the sentence must name).
BAD_SETTINGS: Final[dict[str, tuple[Json | str, tuple[str, ...]]]] = {
    "not JSON": ("{", ("settings.json",)),
    "array": ("[]", ("settings.json",)),
    "empty file": ("", ("settings.json",)),
    "CPU list": ({"cpu-pool": "0-"}, ("cpu-pool",)),
    "CPU list as array": ({"cpu-pool": [0, 1]}, ("cpu-pool",)),
    "endless CPU list": ({"cpu-pool": "0-99999999999"}, ("cpu-pool",)),
    "reserved CPUs": ({"reserved-cpus": "x"}, ("reserved-cpus",)),
    "unknown value": ({"numa-policy": "best"}, ("numa-policy", "best")),
    "wrong type": ({"prefer-closest-numa-nodes": "yes"}, ("prefer-closest-numa-nodes",)),
    "percent": ({"default-allocation-percent": 101}, ("default-allocation-percent",)),
    "percent as text": ({"default-allocation-percent": "80"}, ("default-allocation-percent",)),
    "boolean for a number": ({"large-system-threshold": True}, ("large-system-threshold",)),
    "policy": ({"default-preemption-policy": "never"}, ("default-preemption-policy",)),
    "hugepages": ({"reserved-hugepages": "0:2048"}, ("reserved-hugepages",)),
    "uids": ({"allowed-uids": ["root"]}, ("allowed-uids",)),
    "gids": ({"allowed-gids": {"0": 0}}, ("allowed-gids",)),
    "threads against cores": (
        {"cpu-thread-policy": "require", "cpu-distribution": "cores"},
        ("cpu-thread-policy", "cpu-distribution"),
    ),
    "cache against nodes": (
        {"uncore-cache-alignment": "require", "numa-allocation-strategy": "distribute"},
        ("uncore-cache-alignment", "numa-allocation-strategy"),
    ),
    "cache against caches": (
        {"uncore-cache-alignment": "require", "cpu-distribution": "caches"},
        ("uncore-cache-alignment", "cpu-distribution"),
    ),
}


@pytest.mark.parametrize(("settings", "named"), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_invalid_settings_at_the_start(settings: Json | str, named: tuple[str, ...]) -> None:
    with Daemon() as daemon:
        daemon.configure(settings)
        sentence = run_to_exit(daemon.environment)
        for name in named:
            assert name in sentence
        assert not daemon.socket_path.exists()


def test_invalid_settings_on_sighup() -> None:
    with Daemon(settings={"cpu-pool": "0,4"}) as daemon:
        daemon.start()
        held = daemon.cores("svc", 2)
        for settings, named in BAD_SETTINGS.values():
            said = len(daemon.log())
            daemon.configure(settings)
            daemon.send_signal(signal.SIGHUP)
            wait_until(lambda said=said, named=named: all(name in daemon.log()[said:] for name in named), "it says so")
            assert daemon.ok("list_allocations", pool="general")["cpu_pool"]["configured_cpus"] == "0,4"
        assert daemon.claims() == {"svc": held}
        daemon.configure({"cpu-pool": "0"})
        daemon.send_signal(signal.SIGHUP)
        wait_until(
            lambda: daemon.ok("list_allocations", pool="general")["total_available_cpus"] == 1, "good ones are read"
        )


@pytest.mark.parametrize("how", ["empty object", "no variable", "every default"])
def test_default_settings(how: str) -> None:
    with Daemon() as daemon:
        if how == "no variable":
            del daemon.environment["EPA_SETTINGS"]
        elif how == "every default":
            daemon.configure(
                {
                    "cpu-pool": "",
                    "reserved-cpus": "",
                    "numa-policy": "best-effort",
                    "numa-allocation-strategy": "packed",
                    "prefer-closest-numa-nodes": True,
                    "uncore-cache-alignment": "prefer",
                    "cpu-thread-policy": "prefer",
                    "cpu-distribution": "packed",
                    "prefer-core-type": "none",
                    "numa-reclaim": "if-needed",
                    "resize-policy": "in-place",
                    "default-allocation-percent": 80,
                    "large-system-threshold": 100,
                    "large-system-reserved-cpus": 16,
                    "default-preemption-policy": "legacy",
                    "reserved-hugepages": "",
                    "max-services": 2048,
                    "max-hugepage-records": 8192,
                }
            )
        daemon.start()
        assert len(daemon.cores("svc", 0)) == 9


def test_general_pool_must_not_overlap_the_isolated_cpus() -> None:
    # Which CPUs are isolated may change with every boot, so the daemon starts; but it grants nothing from such a pool.
    with Daemon(settings={"cpu-pool": "0-1,4"}) as daemon:
        daemon.start()
        assert "cpu-pool" in daemon.log()
        assert daemon.cores("svc", 12) == daemon.host.isolated
        for count in (0, 1, 100):
            sentence = daemon.refused("allocate_cores", service_name="host", num_of_cores=count, pool="general")
            assert sentence.startswith("No CPUs available in pool general")
            assert "cpu-pool" in sentence
        daemon.refused("allocate_numa_cores", service_name="host", numa_node=0, num_of_cores=1, pool="general")
        daemon.refused("allocate_cores_percent", service_name="host", percent=1, pool="general")
        daemon.host.set_isolated(daemon.host.isolated - {1})
        daemon.cores("svc", -1)
        assert daemon.cores("host", 3, pool="general") == {0, 1, 4}


def test_host_without_isolated_cpus_is_told_what_to_try() -> None:
    with Daemon() as daemon:
        daemon.host.set_isolated(())
        daemon.start()
        assert "--machine" in daemon.log()


def test_recorded_machine() -> None:
    with Daemon() as daemon:
        recording = daemon.base / "machine.json"
        recorded = subprocess.run(
            [sys.executable, "-m", "epa_orchestrator", "machine", "--record", str(recording)],
            env=daemon.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert recorded.returncode == 0, recorded.stderr
        daemon.host.remove()
        process = Process([*COMMAND, "--machine", str(recording)], daemon.environment)
        daemon.process = process
        wait_until(lambda: answers(daemon.socket_path), "the daemon answers")
        assert daemon.ok("list_allocations")["cpu_pool"]["eligible_cpus"] == format_cpus(daemon.host.isolated)
        assert len(daemon.numa("svc", 1, 6)) == 6
        assert daemon.free_pages(0, 2048) == 64


@pytest.mark.parametrize("files", [10, 12, 14, 16, 18, 20, 22, 23])
def test_too_few_files_end_a_start_in_one_sentence(files: int) -> None:
    with Daemon() as daemon:
        daemon.launch(launcher=["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"])
        assert daemon.wait() == 1
        sentence = f"epa-orchestrator: Only {files} files may be open at once, and the daemon needs 24: see ulimit -n\n"
        assert daemon.log() == sentence


def test_with_the_fewest_files_it_serves_and_a_soft_limit_is_raised() -> None:
    for limit in ("-n 24", "-Sn 12"):
        with Daemon() as daemon:
            daemon.start(launcher=["/bin/sh", "-c", f'ulimit {limit}; exec "$@"', "sh"])
            assert daemon.cores("a", 1)
