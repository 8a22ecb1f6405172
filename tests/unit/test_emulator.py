# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Boots that hang or crash, with small processes in place of QEMU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.machine.emulator import Emulator, MachineError

#: Each stand-in gets the agent's socket and the file of the console as arguments.
HANGS = "import signal, sys; open(sys.argv[2], 'w').write('sched_clock\\n'); signal.pause()"

#: It ignores SIGTERM, as a QEMU does whose main thread waits for a lock.
HANGS_DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {HANGS}"

CRASHES = "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"

#: It shows a line every 0.1 s, and answers after 1.5 s, which is longer than the silence that counts as a hang.
SLOW = """
import json, socket, sys, time
with open(sys.argv[2], "w", buffering=1) as screen:
    for second in range(15):
        print(second, file=screen)
        time.sleep(0.1)
channel = socket.socket(fileno=int(sys.argv[1]))
for line in channel.makefile():
    answer = {"id": json.loads(line)["id"], "rc": 0, "out": "", "err": "", "seconds": 0.0, "timed_out": False}
    channel.sendall(json.dumps(answer).encode() + b"\\n")
"""


class StandIn(Emulator):
    """Starts one program with several threads of emulation, another with one."""

    def __init__(self, several: str, one: str, limit: float | None = None) -> None:
        super().__init__(silence=0.8, limit=limit)
        self._programs = (several, one)
        self.pids: list[int] = []

    def _command(self, wire: int, single: bool) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", self._programs[single], str(wire), str(self.screen)]

    def _start(self, single: bool) -> None:
        super()._start(single)
        assert self.pid
        self.pids.append(self.pid)


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_slow_boot_with_progress_is_left_alone() -> None:
    with StandIn(SLOW, CRASHES) as emulator:
        assert emulator.run("true").rc == 0
        assert emulator.pids == [emulator.pid]


@pytest.mark.parametrize("hang", [HANGS, HANGS_DEAF], ids=["ends on SIGTERM", "ignores SIGTERM"])
def test_hung_boot_is_killed_and_tried_with_one_thread(hang: str, capsys: pytest.CaptureFixture[str]) -> None:
    with StandIn(hang, SLOW) as emulator:
        assert emulator.run("true").rc == 0
        hung, running = emulator.pids
        assert running == emulator.pid
        assert not exists(hung)
    assert (
        "the boot hangs: the console has shown nothing new for 1 s; last lines:\n  sched_clock"
        in capsys.readouterr().out
    )


def test_crashed_boot_is_tried_with_one_thread(capsys: pytest.CaptureFixture[str]) -> None:
    with StandIn(CRASHES, SLOW) as emulator:
        assert emulator.run("true").rc == 0
    assert "QEMU ended with status -6" in capsys.readouterr().out


def test_second_hang_is_an_error_and_leaves_no_process() -> None:
    emulator = StandIn(HANGS, HANGS)
    with pytest.raises(MachineError, match="the boot hangs"), emulator:
        pass
    assert emulator.pid is None
    assert len(emulator.pids) == 2
    assert not any(exists(pid) for pid in emulator.pids)
    assert not emulator.screen.exists()


def test_limit_ends_the_process() -> None:
    with StandIn(SLOW, SLOW, limit=3) as emulator:
        pid = emulator.pid
        assert pid
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" and time.monotonic() < deadline:
            time.sleep(0.1)
        with pytest.raises(MachineError, match="status -9"):
            emulator.run("true")


def test_process_ends_with_its_parent(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = f"""
import os, pathlib, signal
from tests.unit.test_emulator import SLOW, StandIn
with StandIn(SLOW, SLOW) as emulator:
    pathlib.Path({str(note)!r}).write_text(str(emulator.pid))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == -9
    deadline = time.monotonic() + 20
    while exists(int(note.read_text())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not exists(int(note.read_text()))
