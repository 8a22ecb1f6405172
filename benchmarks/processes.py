"""The processes that are measured: the daemon and the echoes, each started, waited for and always ended."""

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

from benchmarks.echo import Loop
from benchmarks.load import LoadError, ask
from benchmarks.requests import LIST

_START_S: Final = 30.0
_STOP_S: Final = 10.0
_RETRY_S: Final = 0.0005

#: What the service manager says to a daemon that it starts; ours are not started by it.
_NOT_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "EPA_SETTINGS")
#: This would keep a start from finding its modules compiled, as those of an installed daemon are.
_NOT_AS_INSTALLED: Final = "PYTHONDONTWRITEBYTECODE"


class Process:
    """A server process; a context that ends it."""

    def __init__(self, arguments: list[str], socket_path: Path, log: Path, environment: dict[str, str]) -> None:
        self.socket_path = str(socket_path)
        self._log = log
        left_out = {*_NOT_OURS, _NOT_AS_INSTALLED}
        inherited = {name: value for name, value in os.environ.items() if name not in left_out}
        inherited["PYTHONPYCACHEPREFIX"] = str(log.parents[1] / "compiled")  # nothing is written beside the sources
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
        #: From the start of the process to the first answer.
        self.start_seconds = (time.monotonic_ns() - begin) / 1e9

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def resident_mib(self) -> float:
        """The memory that it has now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s*([0-9]+) kB", status)
        return int(found[1]) / 1024 if found else 0.0

    @property
    def cpu_seconds(self) -> float:
        """The processor time that it has used, in user space and in the kernel."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it: kindly, then not."""
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
                raise LoadError(f"a server did not start: {said or 'it said nothing'}")
            time.sleep(_RETRY_S)


class OtherWork:
    """How busy others keep the processors, from when this is made: a benchmark on a busy machine says little."""

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float:
        """The part of all processor time that went to neither us nor our processes (those that have ended)."""
        total, other = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return max(other, 0) / total if total else 0.0

    @staticmethod
    def _now() -> tuple[float, float]:
        """Seconds that have passed on all processors, and those of them that others were busy."""
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(field) for field in stat.readline().split()[1:9]]
        per_second = os.sysconf("SC_CLK_TCK")
        idle = ticks[3] + ticks[4]
        return sum(ticks) / per_second, (sum(ticks) - idle) / per_second - sum(os.times()[:4])


def start_daemon(directory: Path, sysfs: Path, loop: Loop, source: Path | None = None) -> Process:
    """The daemon, with its socket and its state below `directory`, on the machine below `sysfs`.

    `source` is where its modules are, if not where this program's are.
    """
    data, common = directory / "d", directory / "c"
    for place in (data / "data", common):
        place.mkdir(parents=True, exist_ok=True)
    environment = {"SNAP_DATA": str(data), "SNAP_COMMON": str(common), "EPA_SYSFS": str(sysfs)}
    if source is not None:
        environment["PYTHONPATH"] = str(source.resolve())
    if loop == "asyncio":
        environment["EPA_LOOP"] = "asyncio"
    return Process(
        ["-m", "epa_orchestrator", "serve"], data / "data" / "epa.sock", directory / "daemon.log", environment
    )


def start_echo(directory: Path, loop: Loop, size: int) -> Process:
    """An echo that answers `size` bytes."""
    path = directory / f"{loop}.sock"
    return Process(["-m", "benchmarks.echo", loop, str(path), str(size)], path, directory / f"{loop}.log", {})
