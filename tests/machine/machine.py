# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Boots the virtual machine, and runs commands and copies files in it.

`python -m tests.machine.build` builds the machine. Most hosts that run tests are virtual machines themselves, where
QEMU has to translate and is about twenty times slower than a real machine. So boot once, and use long time-outs.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

REPOSITORY: Final = Path(__file__).resolve().parents[2]

#: The directory of the built machine.
BUILT: Final = Path(os.environ.get("EPA_MACHINE") or REPOSITORY / "build" / "machine")

AGENT: Final = Path(__file__).with_name("guest.py")

#: The longest time (seconds) for a boot, and for an answer after a command's own time-out.
BOOT: Final = 600.0
GRACE: Final = 60.0

#: mke2fs is not on the path of ordinary users.
SEARCH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

MIB: Final = 1 << 20


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


@dataclasses.dataclass(frozen=True)
class Shape:
    """The guest's hardware and kernel options. Memory is in MiB; hugepages are of 2 MiB, per node."""

    sockets: int = 2
    cores: int = 4
    threads: int = 2
    nodes: int = 2
    memory: int = 4096
    isolated: str = "4-7,12-15"
    hugepages: int = 64
    append: str = ""

    @property
    def cpus(self) -> int:
        """The number of logical CPUs."""
        return self.sockets * self.cores * self.threads

    def arguments(self) -> list[str]:
        """QEMU's arguments for the hardware."""
        smp = f"{self.cpus},sockets={self.sockets},cores={self.cores},threads={self.threads}"
        arguments = ["-smp", smp, "-m", f"{self.memory}M"]
        share = self.cpus // self.nodes
        for node in range(self.nodes):
            cpus = f"{node * share}-{(node + 1) * share - 1}"
            arguments += ["-object", f"memory-backend-ram,id=memory{node},size={self.memory // self.nodes}M"]
            arguments += ["-numa", f"node,nodeid={node},cpus={cpus},memdev=memory{node}"]
        for one, other in itertools.combinations(range(self.nodes), 2):
            arguments += ["-numa", f"dist,src={one},dst={other},val=20"]
        return arguments

    def kernel_line(self) -> str:
        """The kernel's command line for the isolation and the hugepages."""
        parts = [f"isolcpus={self.isolated}"] if self.isolated else []
        if self.hugepages:
            pages = ",".join(f"{node}:{self.hugepages}" for node in range(self.nodes))
            parts.append(f"hugepagesz=2M hugepages={pages}")
        return " ".join([*parts, self.append])


class Machine:
    """A running machine. Its changes to the root disk are discarded unless `kept` is set."""

    def __init__(
        self,
        files: Path | None = None,
        shape: Shape | None = None,
        built: Path = BUILT,
        disk: Path | None = None,
        kept: bool = False,
    ) -> None:
        self._built = built
        self._disk = disk or built / "root.img"
        self._kept = kept
        self._files = files
        self._shape = shape or Shape()
        self._numbers = itertools.count(1)
        self._pending: dict[int, Future[dict[str, Any]]] = {}
        self._sending = threading.Lock()
        self._qemu: subprocess.Popen[bytes] | None = None

    @property
    def screen(self) -> Path:
        """The log of the serial console."""
        return self._directory / "screen.log"

    def __enter__(self) -> Self:
        if not self._disk.exists():
            raise MachineError(f"there is no machine in {self._built}: `python -m tests.machine.build` builds it")
        self._directory = Path(tempfile.mkdtemp(prefix="epa-machine-"))
        try:
            make_image(self._files, self._directory / "files.img")
            self._start()
            self._ask({"argv": ["true"]}, BOOT)
        except BaseException:
            self.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair()
        # Without a time-out, a guest that hangs blocks the sender of a large file.
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(GRACE), 0))
        with theirs, (self._directory / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(
                self._command(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
            )
        threading.Thread(target=self._listen, daemon=True).start()

    def _command(self, wire: int) -> list[str]:
        """QEMU's whole command line."""
        snapshot = "off" if self._kept else "on"
        return [
            *qemu(self._built, ["kvm", TCG] if (self._built / "accelerator").read_text() == "kvm" else [TCG]),
            *self._shape.arguments(),
            *("-drive", f"file={self._disk},if=virtio,format=raw,cache=unsafe,snapshot={snapshot}"),
            *("-drive", f"file={self._directory / 'files.img'},if=virtio,format=raw,cache=unsafe"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=wire,fd={wire}", "-device", "virtserialport,chardev=wire,name=epa.agent"),
            *("-fw_cfg", f"name=opt/epa.agent,file={AGENT}"),
            *("-object", "rng-random,filename=/dev/urandom,id=random", "-device", "virtio-rng-pci,rng=random"),
            *("-serial", f"file:{self.screen}"),
            *("-append", f"{KERNEL_LINE} {self._shape.kernel_line()}"),
        ]

    def _listen(self) -> None:
        """Pass each answer to the call that waits for it, until QEMU hangs up."""
        with self._channel.makefile("rb") as lines:
            try:
                for line in lines:
                    answer = json.loads(line)
                    if future := self._pending.pop(answer["id"], None):
                        future.set_result(answer)
            except (OSError, ValueError):
                pass
        for number in list(self._pending):
            if future := self._pending.pop(number, None):
                future.set_exception(self._broken("QEMU ended"))

    def _ask(self, request: dict[str, Any], patience: float) -> dict[str, Any]:
        number = next(self._numbers)
        future: Future[dict[str, Any]] = Future()
        self._pending[number] = future
        try:
            with self._sending:
                self._channel.sendall(json.dumps(request | {"id": number}).encode() + b"\n")
            answer = future.result(patience)
        except OSError as error:  # TimeoutError is an OSError too
            self._pending.pop(number, None)
            raise self._broken(f"the guest did not answer within {patience:.0f} s") from error
        if "error" in answer:
            raise CommandError(f"the guest failed: {answer['error']}")
        return answer

    def _broken(self, sentence: str) -> MachineError:
        """The error, with the last lines of QEMU's log and of the console."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._qemu:
                sentence = f"QEMU ended with status {self._qemu.wait(1)}"
        return MachineError(f"{sentence}; last lines:\n{tail(self._directory / 'qemu.log', 5)}{tail(self.screen, 25)}")

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str | None = None,
        timeout: float = 300,
        check: bool = True,
    ) -> Result:
        """Run a command in the guest as root."""
        what = {"argv": argv, "env": dict(env or {}), "cwd": cwd, "stdin": stdin, "timeout": timeout}
        return self._run(what, " ".join(argv), timeout, check)

    def shell(
        self,
        text: str,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str | None = None,
        timeout: float = 300,
        check: bool = True,
    ) -> Result:
        """Run a script in the guest's bash as root."""
        what = {"shell": text, "env": dict(env or {}), "cwd": cwd, "stdin": stdin, "timeout": timeout}
        return self._run(what, text, timeout, check)

    def _run(self, request: dict[str, Any], name: str, timeout: float, check: bool) -> Result:
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

    def journal(self, *args: str) -> str:
        """Read the journal of this boot; the arguments are journalctl's."""
        return self.run("journalctl", "--boot", "--no-pager", *args).out

    def denials(self) -> list[str]:
        """The log lines of all accesses that AppArmor has denied since the boot."""
        return [line for line in self.journal("--dmesg", "--output=cat").splitlines() if 'apparmor="DENIED"' in line]

    def shutdown(self) -> None:
        """End the machine; a kept disk is left clean."""
        if self._qemu:
            if self._kept and self._qemu.poll() is None:
                self._rest()
            end(self._qemu)
            self._qemu = None
            self._channel.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _rest(self) -> None:
        """Let the kernel sync all file systems and mount them read-only, quicker than stopping all services."""
        self.shell("sync; echo u >/proc/sysrq-trigger; until grep -q ' / .* ro,' /proc/mounts; do sleep 1; done")


#: The serial console is a file on the host. No rate limit, so that every denial of AppArmor is logged.
KERNEL_LINE: Final = (
    "console=ttyS0 root=/dev/vda rw panic=-1 mitigations=off apparmor=1 security=apparmor"
    " systemd.show_status=0 sysctl.kernel.printk_ratelimit=0"
)

#: QEMU's own translation, if KVM does not work.
TCG: Final = "tcg,thread=multi,tb-size=1024"

#: An Intel model: the kernel finds no SMT on QEMU's AMD models.
CPU: Final = "max,vendor=GenuineIntel,family=6,model=94,stepping=3,-arch-capabilities"


def qemu(built: Path, accelerators: Sequence[str]) -> list[str]:
    """The part of QEMU's command line that does not depend on the machine's shape."""
    program = shutil.which("qemu-system-x86_64")
    if not program:
        raise MachineError("there is no qemu-system-x86_64: `python -m tests.machine.build` installs it")
    return [
        program,
        *(word for accelerator in accelerators for word in ("-accel", accelerator)),
        *("-machine", "q35", "-cpu", CPU, "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot"),
        *("-kernel", str(built / "vmlinuz"), "-initrd", str(built / "initrd.gz")),
    ]


def end(process: subprocess.Popen[bytes]) -> None:
    """End QEMU: it may first write its buffers; a QEMU that hangs is killed."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def make_image(files: Path | None, image: Path) -> None:
    """Make a file system image of a directory, with free space of its size and 256 MiB more."""
    content = sum(path.lstat().st_size for path in files.rglob("*")) if files else 0
    source = ["-d", str(files)] if files else []
    size = f"{256 + 2 * content // MIB}M"
    make = ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", *source, str(image), size]
    try:
        subprocess.run(make, env=os.environ | {"PATH": SEARCH}, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise MachineError("there is no mke2fs: `python -m tests.machine.build` installs it") from None
    except subprocess.CalledProcessError as error:
        raise MachineError(f"mke2fs could not make a file system of {files}: {error.stderr.strip()}") from None


def tail(path: Path, lines: int) -> str:
    """The last lines of a file that may not be there."""
    if not path.exists():
        return ""
    return "".join(f"  {line}\n" for line in path.read_text(errors="replace").splitlines()[-lines:])
