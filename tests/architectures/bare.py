# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A bare machine of any architecture: a kernel, an initrd with Python, and files; no systemd, no snapd, no disk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from tests.machine.emulator import Emulator, MachineError
from tests.machine.machine import CPU, REPOSITORY, Shape


class Platform(NamedTuple):
    """An architecture, by Debian's name for it: the kernel that runs on it, and the QEMU that emulates it.

    `kernel` is the metapackage of a kernel whose drivers for virtio and the console are built in. `package` has the
    `program`. With `single`, each boot is emulated with one thread: it is slower on several CPUs, and never hangs.
    """

    architecture: str
    kernel: str
    program: str
    package: str
    hardware: tuple[str, ...]
    console: str
    single: bool = False

    @property
    def built(self) -> Path:
        """The directory of the built kernel and initrd."""
        return REPOSITORY / "build" / self.architecture

    @property
    def is_built(self) -> bool:
        """Whether a machine can boot on this host."""
        return (self.built / "initrd.gz").exists() and bool(shutil.which(self.program))


#: cortex-a72 is emulated quicker than newer models.
ARM64: Final = Platform(
    architecture="arm64",
    kernel="linux-image-cloud-arm64",
    program="qemu-system-aarch64",
    package="qemu-system-arm",
    hardware=("-machine", "virt,gic-version=3", "-cpu", "cortex-a72"),
    console="ttyAMA0",
)

AMD64: Final = Platform(
    architecture="amd64",
    kernel="linux-image-cloud-amd64",
    program="qemu-system-x86_64",
    package="qemu-system-x86",
    hardware=("-machine", "q35", "-cpu", CPU),
    console="ttyS0",
    single=True,
)

#: A boot takes 10 s on two CPUs; all tests of a machine take less than 2 minutes.
SILENCE: Final = 60.0
LIMIT: Final = 600.0


class BareMachine(Emulator):
    """A running machine, with a copy of a directory at /job."""

    def __init__(self, platform: Platform, files: Path, shape: Shape) -> None:
        super().__init__(silence=SILENCE, limit=LIMIT)
        self._platform = platform
        self._files = files
        self._shape = shape

    def _prepare(self) -> None:
        """Append the files to the initrd: the kernel unpacks one archive after the other."""
        tree = self._directory / "tree"
        shutil.copytree(self._files, tree / "job", symlinks=True)
        initrd = self._directory / "initrd.gz"
        shutil.copyfile(self._platform.built / "initrd.gz", initrd)
        append_archive(tree, initrd)
        shutil.rmtree(tree)

    def _command(self, wire: int, single: bool) -> list[str]:
        platform = self._platform
        program = shutil.which(platform.program)
        if not program:
            raise MachineError(f"there is no {platform.program}: install {platform.package}")
        threads = "single" if single or platform.single else "multi"
        return [
            *(program, "-accel", f"tcg,thread={threads}", *platform.hardware, *self._shape.arguments()),
            *("-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=wire,fd={wire}", "-device", "virtserialport,chardev=wire,name=epa.agent"),
            *("-serial", f"file:{self.screen}"),
            *("-kernel", str(platform.built / "vmlinuz"), "-initrd", str(self._directory / "initrd.gz")),
            *("-append", f"console={platform.console} panic=-1 {self._shape.kernel_line()}"),
        ]


def append_archive(tree: Path, initrd: Path) -> None:
    """Append a directory to an initrd."""
    script = 'find . | cpio -o -H newc --quiet | gzip -1 >>"$0"'
    subprocess.run(["sh", "-c", script, str(initrd.resolve())], cwd=tree, check=True)
