# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Starts the processes that are measured, the daemon and the echoes, waits for them, and always ends them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.load import LoadError, ask
from benchmarks.requests import LIST

_START_S: Final = 30.0
_STOP_S: Final = 10.0
_RETRY_S: Final = 0.0005

#: Variables that a service manager sets for the daemon that it starts. It does not start ours.
_OF_A_MANAGER: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "EPA_SETTINGS")
#: It would make every start compile its modules, while those of an installed daemon are compiled.
_NO_BYTECODE: Final = "PYTHONDONTWRITEBYTECODE"


class Process:
    """A server process. As a context manager it ends the process."""

    def __init__(self, arguments: list[str], socket_path: Path, log: Path, environment: dict[str, str]) -> None:
        self.socket_path = str(socket_path)
        self._log = log
        left_out = {*_OF_A_MANAGER, _NO_BYTECODE}
        inherited = {name: value for name, value in os.environ.items() if name not in left_out}
        inherited["PYTHONPYCACHEPREFIX"] = str(log.parents[1] / "compiled")  # not among the sources
        with log.open("wb") as output:
            begin = time.monotonic_ns()
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=inherited | environment,
                cwd=Path(__file__).parents[1],
            )
        try:
            self._await_answer()
        except BaseException:
            self.stop()
            raise
        #: The time from the start of the process to the first answer.
        self.start_seconds = (time.monotonic_ns() - begin) / 1e9

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def resident_mib(self) -> float:
        """The resident memory of the process now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s*([0-9]+) kB", status)
        return int(found[1]) / 1024 if found else 0.0

    @property
    def cpu_seconds(self) -> float:
        """The processor time of the process so far, in user space and in the kernel."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End the process: with SIGTERM, and if that takes too long with SIGKILL."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        Path(self.socket_path).unlink(missing_ok=True)

    def _await_answer(self) -> None:
        end = time.monotonic() + _START_S
        while True:
            with suppress(LoadError):
                if ask(self.socket_path, LIST):
                    return
            if self._process.poll() is not None or time.monotonic() > end:
                said = self._log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
                raise LoadError(f"a server did not start: {said or 'it logged nothing'}")
            time.sleep(_RETRY_S)


class OtherWork:
    """The processor time that other processes take from now on. Benchmarks on a busy machine say little."""

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float:
        """The share of all processor time that neither we nor our ended processes have used."""
        total, other = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return max(other, 0) / total if total else 0.0

    @staticmethod
    def _now() -> tuple[float, float]:
        """The seconds of all processors so far, and the busy ones that others used."""
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(field) for field in stat.readline().split()[1:9]]
        per_second = os.sysconf("SC_CLK_TCK")
        idle = ticks[3] + ticks[4]
        return sum(ticks) / per_second, (sum(ticks) - idle) / per_second - sum(os.times()[:4])


def start_daemon(directory: Path, sysfs: Path, source: Path | None = None) -> Process:
    """Start the daemon, with its socket and its state below `directory`, on the machine below `sysfs`.

    `source` is the directory of its modules; None for those of this checkout.
    """
    data, common = directory / "d", directory / "c"
    for place in (data / "data", common):
        place.mkdir(parents=True, exist_ok=True)
    environment = {"SNAP_DATA": str(data), "SNAP_COMMON": str(common), "EPA_SYSFS": str(sysfs)}
    if source is not None:
        environment["PYTHONPATH"] = str(source.resolve())
        environment["EPA_LOOP"] = "asyncio"  # an earlier daemon would choose uvloop where that is installed
    return Process(
        ["-m", "epa_orchestrator", "serve"], data / "data" / "epa.sock", directory / "daemon.log", environment
    )


def start_echo(directory: Path, size: int) -> Process:
    """Start an echo server that answers `size` bytes."""
    path = directory / "echo.sock"
    return Process(["-m", "benchmarks.echo", str(path), str(size)], path, directory / "echo.log", {})
