# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A real daemon with directories and a host of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.synthetic import Shape

from .asking import Json, check_listing, connect, decode, encode, error_of, read_to_end
from .cpus import parse_cpus
from .host import MEMORY, SMALL, Host
from .process import Process, clean_environment
from .waiting import PATIENCE, wait_until


class Daemon:
    """One daemon with directories of its own; they outlive its process, so that it can be started again."""

    def __init__(self, shape: Shape = SMALL, settings: Json | None = None) -> None:
        # Not pytest's tmp_path: a socket address has room for 107 characters only.
        self.base = Path(tempfile.mkdtemp(prefix="epa-"))
        self.data, self.common = self.base / "data-rev", self.base / "common"
        self.data.mkdir()
        self.common.mkdir()
        self.socket_path = self.data / "data" / "epa.sock"
        self.settings_path = self.base / "settings.json"
        self.configure(settings or {})
        # Its thousands of small files need no disk.
        self._sysfs = Path(tempfile.mkdtemp(prefix="epa-", dir=MEMORY))
        self.host = Host(self._sysfs / "sys", shape)
        self.environment = clean_environment() | {
            "SNAP_DATA": str(self.data),
            "SNAP_COMMON": str(self.common),
            "EPA_SYSFS": str(self.host.root),
            "EPA_SETTINGS": str(self.settings_path),
        }
        self.process: Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.process is not None and self.process.running and kind is None:
                assert self.stop() == 0, self.log()
        finally:
            if self.process is not None:
                self.process.close()
                print(self.log()[-20_000:])  # pytest shows it when the test fails
            shutil.rmtree(self.base, ignore_errors=True)
            shutil.rmtree(self._sysfs, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._running().pid

    def configure(self, settings: Json | str) -> None:
        """Write the operator's settings; the daemon reads them when it starts and on SIGHUP."""
        self.settings_path.write_text(settings if isinstance(settings, str) else json.dumps(settings))

    def reload(self, settings: Json) -> None:
        """Change the settings of the running daemon, and wait until it has read them."""
        said = len(self.log())
        self.configure(settings)
        self.send_signal(signal.SIGHUP)
        wait_until(lambda: "settings read again" in self.log()[said:], "the settings are read")

    def hold(self, service: str, cpus: str, **fields: Any) -> None:
        """Let a service hold exactly these CPUs, by isolating only these for a moment."""
        isolated = self.host.isolated
        self.host.set_isolated(parse_cpus(cpus))
        assert self.cores(service, len(parse_cpus(cpus)), **fields) == parse_cpus(cpus)
        self.host.set_isolated(isolated)

    def launch(
        self,
        environment: Mapping[str, str] | None = None,
        launcher: list[str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Process:
        """Start the process and wait for nothing."""
        assert self.process is None or not self.process.running
        if self.process is not None:
            self.process.close()
        command = [*(launcher or []), sys.executable, "-m", "epa_orchestrator", "serve"]
        self.process = Process(command, self.environment | dict(environment or {}), pass_fds)
        return self.process

    def start(
        self,
        environment: Mapping[str, str] | None = None,
        launcher: list[str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Self:
        """Start the process and wait until it answers."""
        process = self.launch(environment, launcher, pass_fds)

        def answers() -> bool:
            assert process.running, f"exit code {process.popen.returncode}:\n{process.output()}"
            try:
                return "version" in self.call("list_allocations")
            except OSError:
                return False

        wait_until(answers, "the daemon answers")
        return self

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        process = self._running()
        process.signal(signal.SIGTERM)
        code = process.wait()
        assert "Traceback" not in process.output(), process.output()
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self._running().kill()

    def send_signal(self, number: int) -> None:
        """Send a signal and wait for nothing."""
        self._running().signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code, once the process has ended."""
        return self._running().wait(seconds)

    def restart(self, environment: Mapping[str, str] | None = None) -> None:
        """Stop in good order and start again."""
        assert self.stop() == 0, self.log()
        self.start(environment)

    def log(self) -> str:
        """All that the process has printed and logged."""
        assert self.process is not None
        return self.process.output()

    def request(self, request: bytes, timeout: float = PATIENCE) -> bytes:
        """One write, then read to the end of file."""
        with connect(self.socket_path, timeout) as client:
            client.sendall(request)
            return read_to_end(client)

    def call(self, action: str, **fields: Any) -> Json:
        """One request, whatever its answer."""
        return decode(self.request(encode(action, fields)))

    def ok(self, action: str, **fields: Any) -> Json:
        """One request that must be granted."""
        answer = self.call(action, **fields)
        assert "error" not in answer, answer
        return answer

    def refused(self, action: str, **fields: Any) -> str:
        """One request that must be refused and must change nothing; the sentence."""
        before = self.snapshot()
        sentence = error_of(self.call(action, **fields))
        assert self.snapshot() == before
        return sentence

    def claims(self, pool: str = "isolated") -> dict[str, set[int]]:
        """The CPUs of each service; checks that the listing agrees with itself."""
        return check_listing(self.ok("list_allocations", pool=pool))

    def entry(self, service: str, pool: str = "isolated") -> Json:
        """The listing's entry of a service."""
        entries = self.ok("list_allocations", pool=pool)["allocations"]
        (found,) = [entry for entry in entries if entry["service_name"] == service]
        return found

    def snapshot(self) -> tuple[Json, Json, Json]:
        """The answers of all reading actions, without the outdated placements, which come a moment after a change."""
        return (
            self.listing(pool="isolated"),
            self.listing(pool="general"),
            self.call("get_memory_info"),
        )

    def listing(self, **fields: Any) -> Json:
        """The listing of a pool without its outdated placements, or the refusal."""
        answer = self.call("list_allocations", **fields)
        answer.pop("outdated_placements", None)
        return answer

    def cores(self, service: str, count: int, **fields: Any) -> set[int]:
        """The CPUs that `allocate_cores` grants."""
        answer = self.ok("allocate_cores", service_name=service, num_of_cores=count, **fields)
        return parse_cpus(answer["allocated_cores"])

    def numa(self, service: str, node: int, count: int, **fields: Any) -> set[int]:
        """The CPUs that `allocate_numa_cores` grants."""
        answer = self.ok("allocate_numa_cores", service_name=service, numa_node=node, num_of_cores=count, **fields)
        return parse_cpus(answer["cores_allocated"])

    def pages(self, service: str, node: int, size_kb: int, count: int) -> Json:
        """The answer of a granted `allocate_hugepages`."""
        return self.ok(
            "allocate_hugepages", service_name=service, node_id=node, size_kb=size_kb, hugepages_requested=count
        )

    def free_pages(self, node: int, size_kb: int) -> int:
        """The free pages in `get_memory_info`."""
        for page in self.ok("get_memory_info")["numa_hugepages"][f"node{node}"]["capacity"]:
            if page["size"] == size_kb:
                return page["free"]
        raise AssertionError(f"node {node} has no pages of {size_kb} KiB")

    def release_everything(self) -> None:
        """Release every claim and every record by ordinary requests."""
        for pool in ("isolated", "general"):
            for entry in self.call("list_allocations", pool=pool).get("allocations", []):
                self.cores(entry["service_name"], -1, pool=pool)
        for node, memory in self.ok("get_memory_info")["numa_hugepages"].items():
            for service, sizes in memory["allocations"].items():
                for size in sizes:
                    self.pages(service, int(node.removeprefix("node")), int(size), -1)

    def _running(self) -> Process:
        assert self.process is not None
        return self.process


class Reused:
    """A started daemon that tests use in turn, because starting one for each would take most of the time.

    `lent` checks that a test leaves no claim. After a test that ends or starts the process or changes the settings, the
    next test gets a new daemon.
    """

    def __init__(
        self, shape: Shape = SMALL, settings: Json | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._shape, self._settings, self._environment = shape, settings, environment
        self._daemon: Daemon | None = None
        self._process: Process | None = None
        self._said = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @contextlib.contextmanager
    def lent(self) -> Generator[Daemon]:
        """The daemon for one test."""
        daemon = self._daemon
        if daemon is None:
            daemon = self._daemon = Daemon(self._shape, self._settings)
            daemon.start(self._environment)
            self._process, self._said = daemon.process, 0
        settings, before = daemon.settings_path.read_text(), daemon.snapshot()
        try:
            yield daemon
        finally:
            print(daemon.log()[self._said :][-20_000:])  # pytest shows it when the test fails
        process = daemon.process
        if (
            process is not self._process
            or not (process and process.running)
            or settings != daemon.settings_path.read_text()
        ):
            self._close()
            return
        daemon.host.reset()
        daemon.release_everything()
        assert daemon.snapshot() == before, "the test has left a claim or a record"
        self._said = len(daemon.log())

    def _close(self) -> None:
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            with daemon:
                pass
