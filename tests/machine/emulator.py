# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Runs QEMU, and runs commands and copies files in its guest.

QEMU's emulation with several threads sometimes hangs or crashes while the guest boots. So a boot that shows no progress
is ended, and tried once more with one thread, which is slower. QEMU also ends when its parent does.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack

#: The longest time (seconds) for a boot, and for an answer after a command's own time-out.
BOOT: Final = 600.0
GRACE: Final = 60.0

#: A boot hangs if the console shows nothing new for this time (seconds).
SILENCE: Final = 120.0


class MachineError(Exception):
    """The machine cannot be booted, ended or hangs."""


class CommandError(MachineError):
    """A command in the guest failed."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The exit status and the output of a command in the guest."""

    rc: int
    out: str
    err: str
    seconds: float
    timed_out: bool = False


class How(TypedDict, total=False):
    """How a command runs in the guest. With `check`, a failure or more than `timeout` seconds raise CommandError."""

    env: Mapping[str, str] | None
    cwd: str | None
    stdin: str | None
    timeout: float
    check: bool


class Emulator:
    """A running QEMU whose guest runs the agent `guest.py`; a subclass knows QEMU's command line.

    `silence` is the time (seconds) without progress after which a boot counts as hung, `limit` the time after which
    QEMU is ended in any case.
    """

    def __init__(self, silence: float = SILENCE, limit: float | None = None) -> None:
        self._silence = silence
        self._limit = limit
        self._numbers = itertools.count(1)
        self._pending: dict[int, Future[dict[str, Any]]] = {}
        self._sending = threading.Lock()
        self._qemu: subprocess.Popen[bytes] | None = None

    def _command(self, wire: int, single: bool) -> list[str]:
        """QEMU's whole command line; `wire` is the agent's socket, `single` asks for emulation with one thread."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Make the files that QEMU needs, in the temporary directory."""

    @property
    def screen(self) -> Path:
        """The log of the serial console."""
        return self._directory / "screen.log"

    @property
    def pid(self) -> int | None:
        """The process id of QEMU, while it runs."""
        return self._qemu.pid if self._qemu else None

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="epa-machine-"))
        try:
            self._prepare()
            self._boot()
        except BaseException:
            self.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def _boot(self) -> None:
        """Boot with several threads; if that fails, boot with one."""
        try:
            self._start(single=False)
            self._await_agent()
        except MachineError as error:
            print(f"the boot failed and is tried again with one thread of emulation: {error}", flush=True)
            self._kill()
            self._start(single=True)
            self._await_agent()

    def _start(self, single: bool) -> None:
        self._pending = {}
        self._channel, theirs = socket.socketpair()
        # Without a time-out, a guest that hangs blocks the sender of a large file.
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(GRACE), 0))
        self.screen.unlink(missing_ok=True)
        with theirs, (self._directory / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command(theirs.fileno(), single)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
            )
        if self._limit:
            timer = threading.Timer(self._limit, self._qemu.kill)
            timer.daemon = True
            timer.start()
        threading.Thread(target=self._listen, args=(self._channel, self._pending), daemon=True).start()

    def _await_agent(self) -> None:
        """Wait for the agent's first answer; raises MachineError when the boot hangs or QEMU ends."""
        answer = self._send({"argv": ["true"]})
        start = changed = time.monotonic()
        seen = 0
        while not wait(answer, min(1.0, self._silence / 4)):
            now = time.monotonic()
            size = self.screen.stat().st_size if self.screen.exists() else 0
            if size != seen:
                seen, changed = size, now
            if now - changed > self._silence:
                raise self._broken(f"the boot hangs: the console has shown nothing new for {self._silence:.0f} s")
            if now - start > BOOT:
                raise self._broken(f"the guest did not boot within {BOOT:.0f} s")
        answer.result()

    def _listen(self, channel: socket.socket, pending: dict[int, Future[dict[str, Any]]]) -> None:
        """Pass each answer to the call that waits for it, until QEMU hangs up."""
        with channel.makefile("rb") as lines:
            try:
                for line in lines:
                    answer = json.loads(line)
                    if future := pending.pop(answer["id"], None):
                        future.set_result(answer)
            except (OSError, ValueError):
                pass
        for number in list(pending):
            if future := pending.pop(number, None):
                future.set_exception(self._broken("QEMU ended"))

    def _send(self, request: dict[str, Any]) -> Future[dict[str, Any]]:
        number = next(self._numbers)
        future: Future[dict[str, Any]] = Future()
        self._pending[number] = future
        try:
            with self._sending:
                self._channel.sendall(json.dumps(request | {"id": number}).encode() + b"\n")
        except OSError as error:
            self._pending.pop(number, None)
            raise self._broken("the guest accepts no request") from error
        return future

    def _ask(self, request: dict[str, Any], patience: float) -> dict[str, Any]:
        future = self._send(request)
        if not wait(future, patience):
            raise self._broken(f"the guest did not answer within {patience:.0f} s")
        answer = future.result()
        if "error" in answer:
            raise CommandError(f"the guest failed: {answer['error']}")
        return answer

    def _broken(self, sentence: str) -> MachineError:
        """The error, with the last lines of QEMU's log and of the console."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._qemu:
                sentence = f"QEMU ended with status {self._qemu.wait(1)}"
        return MachineError(f"{sentence}; last lines:\n{tail(self._directory / 'qemu.log', 5)}{tail(self.screen, 25)}")

    def run(self, *argv: str, **how: Unpack[How]) -> Result:
        """Run a command in the guest as root."""
        return self._run({"argv": argv}, " ".join(argv), **how)

    def shell(self, text: str, **how: Unpack[How]) -> Result:
        """Run a script in the guest's bash as root; a bare machine has no bash."""
        return self._run({"shell": text}, text, **how)

    def _run(
        self,
        what: dict[str, Any],
        name: str,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str | None = None,
        timeout: float = 300,
        check: bool = True,
    ) -> Result:
        request = {**what, "env": dict(env or {}), "cwd": cwd, "stdin": stdin, "timeout": timeout}
        answer = self._ask(request, timeout + GRACE)
        result = Result(**{field.name: answer[field.name] for field in dataclasses.fields(Result)})
        if check and (result.rc or result.timed_out):
            how = f"took more than {timeout:.0f} s" if result.timed_out else f"ended with status {result.rc}"
            raise CommandError(f"`{name}` {how}\n{result.out}{result.err}")
        return result

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest, and the directories above it."""
        self._ask({"put": path, "data": base64.b64encode(data).decode(), "mode": mode}, 300 + GRACE)

    def get(self, path: str) -> bytes:
        """Read a file in the guest."""
        return base64.b64decode(self._ask({"get": path}, 300 + GRACE)["data"])

    def shutdown(self) -> None:
        """End the machine."""
        if self._qemu:
            end(self._qemu)
            self._qemu = None
            self._channel.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _kill(self) -> None:
        """Kill a QEMU that hangs."""
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None
            self._channel.close()


def wait(future: Future[dict[str, Any]], seconds: float) -> bool:
    """Wait for an answer or a failure; returns whether it came."""
    with contextlib.suppress(TimeoutError):
        future.exception(seconds)
    return future.done()


def end(process: subprocess.Popen[bytes]) -> None:
    """End QEMU: it may first write its buffers; a QEMU that hangs is killed."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(path: Path, lines: int) -> str:
    """The last lines of a file that may not be there."""
    if not path.exists():
        return ""
    return "".join(f"  {line}\n" for line in path.read_text(errors="replace").splitlines()[-lines:])
