# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Builds the kernel and the initrd of a bare machine from Debian's packages for its architecture.

    python -m tests.architectures.build [WORKDIR]

It takes about 20 s, and root only if QEMU is missing. Existing parts are kept: remove a file to build it again.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from tests.architectures.bare import ARM64, Platform, append_archive
from tests.machine.machine import AGENT
from tests.machine.parts import SUITE, BuildError, Parts, find, remove, run_build, strip, write

#: Python needs the libraries that it depends on; busybox is the shell.
PACKAGES: Final = ("busybox-static", "python3")

TOOLS: Final = {"cpio": "cpio", "mksquashfs": "squashfs-tools"}

BALLAST: Final = ("usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/zoneinfo", "var")

#: The agent finds its port under the name that udev would give it.
INIT: Final = """\
#!/usr/bin/busybox sh
b=/usr/bin/busybox
$b mkdir -p /proc /sys /dev /tmp /run /root
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
$b mount -t cgroup2 cgroup2 /sys/fs/cgroup
$b --install -s /usr/bin
mkdir /dev/virtio-ports
ln -s ../vport0p1 /dev/virtio-ports/epa.agent
export PATH=/usr/bin:/usr/sbin HOME=/root LANG=C.UTF-8
python3 /agent.py
poweroff -f
"""

#: apt for another architecture, in directories of its own, with the keys of this host's apt.
APT: Final = """\
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
APT::Install-Recommends "false";
pkgCacheGen::ForceEssential ",";
Dir::State "{apt}/state";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
Dir::Etc::sourcelist "{apt}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""


class Builder(Parts):
    """The steps of the build; each makes one file or directory below the work directory."""

    def __init__(self, platform: Platform, work: Path) -> None:
        super().__init__(work)
        self._platform = platform

    def build(self) -> None:
        """Build all parts."""
        self._work.mkdir(parents=True, exist_ok=True)
        self.install({self._platform.program: self._platform.package, **TOOLS})
        self.make("packages", self.packages)
        self.make("vmlinuz", self.vmlinuz)
        self.make("initrd.gz", self.initrd)
        self.say(f"ready: {self._work}")

    def packages(self, part: Path) -> None:
        """Download and unpack the packages of the kernel and of the root file system."""
        apt = part.resolve() / "apt"
        for name in ("state/lists/partial", "cache/archives/partial", "kernel"):
            (apt / name).mkdir(parents=True)
        write(apt / "status", "")
        write(apt / "sources.list", f"deb {self.mirror()} {SUITE} main\n")
        write(apt / "apt.conf", APT.format(architecture=self._platform.architecture, apt=apt))
        environment = ("env", f"APT_CONFIG={apt / 'apt.conf'}")
        self.call(*environment, "apt-get", "update")
        depends = self.call(*environment, "apt-cache", "depends", self._platform.kernel).split()
        kernel = next((word for word in depends[1:] if word.startswith("linux-image-")), None)
        if not kernel:
            raise BuildError(f"{self.mirror()} has no {self._platform.kernel}")
        self.call(*environment, "apt-get", "download", kernel, cwd=apt / "kernel")
        self.call(*environment, "apt-get", "install", "-y", "--download-only", *PACKAGES)
        for source, target in (("kernel", "kernel"), ("cache/archives", "root")):
            for package in sorted((apt / source).glob("*.deb")):
                self.call("dpkg-deb", "-x", package, part / target)
        remove(apt)

    def vmlinuz(self, part: Path) -> None:
        """Copy the kernel."""
        shutil.copy(find(self._work / "packages/kernel", "boot/vmlinuz-*"), part)

    def initrd(self, part: Path) -> None:
        """Pack the root file system with the agent, and a script that starts it."""
        tree = self._work / "initrd"
        remove(tree)
        shutil.copytree(self._work / "packages/root", tree, symlinks=True)
        strip(tree, BALLAST)
        for name in ("bin", "sbin", "lib", "lib64"):  # Debian's package base-files makes these links
            if (tree / "usr" / name).exists():
                (tree / name).symlink_to(f"usr/{name}")
        shutil.copy(AGENT, tree / "agent.py")
        (tree / "boot").mkdir(exist_ok=True)
        shutil.copy(find(self._work / "packages/kernel", "boot/config-*"), tree / "boot")
        write(tree / "init", INIT, 0o755)
        append_archive(tree, part)
        remove(tree)


def main() -> int:
    """Build the arm64 machine, or print why that is not possible."""
    return build_bare(ARM64, "python -m tests.architectures.build")


def build_bare(platform: Platform, program: str) -> int:
    """Build a bare machine for a program of this name, or print why that is not possible; returns the exit code."""
    description = f"Make the {platform.architecture} machine."
    return run_build(program, description, platform.built, lambda work: Builder(platform, work).build())


if __name__ == "__main__":
    sys.exit(main())
