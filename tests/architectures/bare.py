# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A bare machine of another architecture: a kernel, an initrd with Python, and files; no systemd, no snapd, no disk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.machine.emulator import Emulator, MachineError
from tests.machine.machine import REPOSITORY, Shape

#: The directory of the built kernel and initrd.
BUILT: Final = REPOSITORY / "build" / "arm64"

PROGRAM: Final = "qemu-system-aarch64"

#: cortex-a72 is emulated quicker than newer models.
HARDWARE: Final = ("-machine", "virt,gic-version=3", "-cpu", "cortex-a72")

#: A boot takes 10 s on two CPUs; all tests of the module take less than 2 minutes.
SILENCE: Final = 60.0
LIMIT: Final = 600.0


class BareMachine(Emulator):
    """A running arm64 machine, with a copy of a directory at /job."""

    def __init__(self, files: Path, shape: Shape, built: Path = BUILT) -> None:
        super().__init__(silence=SILENCE, limit=LIMIT)
        self._files = files
        self._shape = shape
        self._built = built

    def _prepare(self) -> None:
        """Append the files to the initrd: the kernel unpacks one archive after the other."""
        tree = self._directory / "tree"
        shutil.copytree(self._files, tree / "job", symlinks=True)
        initrd = self._directory / "initrd.gz"
        shutil.copyfile(self._built / "initrd.gz", initrd)
        append_archive(tree, initrd)
        shutil.rmtree(tree)

    def _command(self, wire: int, single: bool) -> list[str]:
        program = shutil.which(PROGRAM)
        if not program:
            raise MachineError(f"there is no {PROGRAM}: `python -m tests.architectures.build` installs it")
        return [
            *(program, "-accel", f"tcg,thread={'single' if single else 'multi'}", *HARDWARE, *self._shape.arguments()),
            *("-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=wire,fd={wire}", "-device", "virtserialport,chardev=wire,name=epa.agent"),
            *("-serial", f"file:{self.screen}"),
            *("-kernel", str(self._built / "vmlinuz"), "-initrd", str(self._directory / "initrd.gz")),
            *("-append", f"console=ttyAMA0 panic=-1 {self._shape.kernel_line()}"),
        ]


def append_archive(tree: Path, initrd: Path) -> None:
    """Append a directory to an initrd."""
    script = 'find . | cpio -o -H newc --quiet | gzip -1 >>"$0"'
    subprocess.run(["sh", "-c", script, str(initrd.resolve())], cwd=tree, check=True)
