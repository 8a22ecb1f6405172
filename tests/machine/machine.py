# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The virtual machine with systemd and snapd: its shape, its disks and its log.

`python -m tests.machine.build` builds the machine. Most hosts that run tests are virtual machines themselves, where
QEMU has to translate and is about twenty times slower than a real machine. So boot once, and use long time-outs.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.machine.emulator import Emulator, MachineError

REPOSITORY: Final = Path(__file__).resolve().parents[2]

#: The directory of the built machine.
BUILT: Final = Path(os.environ.get("EPA_MACHINE") or REPOSITORY / "build" / "machine")

AGENT: Final = Path(__file__).with_name("guest.py")

#: mke2fs is not on the path of ordinary users.
SEARCH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

MIB: Final = 1 << 20


@dataclasses.dataclass(frozen=True)
class Shape:
    """The guest's hardware and kernel options. Memory is in MiB; hugepages are of 2 MiB, per node.

    QEMU knows clusters of cores for Arm only.
    """

    sockets: int = 2
    clusters: int = 1
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
        return self.sockets * self.clusters * self.cores * self.threads

    def arguments(self) -> list[str]:
        """QEMU's arguments for the hardware."""
        clusters = f",clusters={self.clusters}" if self.clusters > 1 else ""
        smp = f"{self.cpus},sockets={self.sockets}{clusters},cores={self.cores},threads={self.threads}"
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
        parts: list[str] = []
        if self.isolated:
            others = ",".join(str(cpu) for cpu in range(self.cpus) if cpu not in _cpus(self.isolated))
            parts.append(f"isolcpus=domain,managed_irq,{self.isolated} nohz_full={self.isolated}")
            parts.append(f"rcu_nocbs={self.isolated} irqaffinity={others}")
        if self.hugepages:
            pages = ",".join(f"{node}:{self.hugepages}" for node in range(self.nodes))
            parts.append(f"hugepagesz=2M hugepages={pages}")
        return " ".join([*parts, self.append])


def _cpus(text: str) -> set[int]:
    """The CPUs of a list. The build runs without the package, which could read it."""
    ranges = [part.split("-") for part in text.split(",")]
    return {cpu for each in ranges for cpu in range(int(each[0]), int(each[-1]) + 1)}


class Machine(Emulator):
    """A running machine. Its changes to the root disk are discarded unless `kept` is set."""

    def __init__(
        self,
        files: Path | None = None,
        shape: Shape | None = None,
        built: Path = BUILT,
        disk: Path | None = None,
        kept: bool = False,
    ) -> None:
        super().__init__()
        self._built = built
        self._disk = disk or built / "root.img"
        self._kept = kept
        self._files = files
        self._shape = shape or Shape()

    def _prepare(self) -> None:
        if not self._disk.exists():
            raise MachineError(f"there is no machine in {self._built}: `python -m tests.machine.build` builds it")
        make_image(self._files, self._directory / "files.img")

    def _command(self, wire: int, single: bool) -> list[str]:
        snapshot = "off" if self._kept else "on"
        translation = TCG.replace("multi", "single") if single else TCG
        works = (self._built / "accelerator").read_text() == "kvm" and not single
        return [
            *qemu(self._built, ["kvm", translation] if works else [translation]),
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

    def journal(self, *args: str) -> str:
        """Read the journal of this boot; the arguments are journalctl's."""
        return self.run("journalctl", "--boot", "--no-pager", *args).out

    def denials(self) -> list[str]:
        """The log lines of all accesses that AppArmor has denied since the boot."""
        return [line for line in self.journal("--dmesg", "--output=cat").splitlines() if 'apparmor="DENIED"' in line]

    def shutdown(self) -> None:
        """End the machine; a kept disk is left clean."""
        if self._kept and self._qemu and self._qemu.poll() is None:
            self._rest()
        super().shutdown()

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
