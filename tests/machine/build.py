# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Builds the machine that the tests boot, from Debian's packages alone: a kernel, systemd, snapd.

    python -m tests.machine.build [WORKDIR]

Existing parts are kept: remove a file or a directory to build it again. snapd needs the snaps `snapd` and `core24`
before it installs any other. Both are stand-ins made of Debian's packages, because no snap store is used.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.machine.machine import BUILT, MIB, Machine, Shape, qemu
from tests.machine.parts import SUITE, BuildError, Parts, find, remove, run_build, strip, write

DISK_SIZE: Final = 3072 * MIB

#: The keys of Debian's archive, from the package that debootstrap needs too.
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"

#: The required programs, each with its package.
TOOLS: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "debootstrap": "debootstrap",
    "mksquashfs": "squashfs-tools",
    "mke2fs": "e2fsprogs",
    "modprobe": "kmod",
    "cpio": "cpio",
}

#: snapd needs dbus-user-session or another package; debootstrap cannot choose, so the list names it.
ROOT_PACKAGES: Final = (
    "systemd,systemd-sysv,udev,dbus,dbus-user-session,libpam-systemd,snapd,apparmor,"
    "python3,python3-venv,squashfs-tools,kmod,iproute2,procps,ca-certificates"
)

#: Units that are slow under emulation and not needed here; snapd itself loads the AppArmor profiles of snaps.
MASKED: Final = (
    "apparmor.service",
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@ttyS0.service",
    "snapd.aa-prompt-listener.service",
    "snapd.recovery-chooser-trigger.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-journal-flush.service",
    "systemd-timesyncd.service",
    "systemd-udev-load-credentials.service",
)

#: Modules that udev would load because of features that the CPU model claims.
BLACKLISTED: Final = (
    "acpi_cpufreq",
    "aesni_intel",
    "ghash_clmulni_intel",
    "intel_rapl_common",
    "kvm",
    "kvm_amd",
    "kvm_intel",
    "powernow_k8",
    "sha512_ssse3",
)

#: Modules that the guest needs; the initrd loads all of them.
MODULES: Final = (
    "virtio_pci",
    "virtio_blk",
    "virtio_rng",
    "virtio_console",
    "qemu_fw_cfg",
    "ext4",
    "squashfs",
    "loop",
    "fuse",
    "overlay",
)

#: snapd must not run the snapd of the snap, and its runtime must not start 16 threads on two real CPUs.
SNAPD_ENVIRONMENT: Final = "SNAP_REEXEC=0 GOMAXPROCS=2"

AGENT_UNIT: Final = f"""\
[Unit]
Description=Run the commands of the host
Wants=snapd.socket
After=snapd.socket snapd.service
[Service]
User=root
Environment={SNAPD_ENVIRONMENT} LANG=C.UTF-8
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin
ExecStartPre=mount -o noatime /dev/vdb /job
ExecStart=python3 /sys/firmware/qemu_fw_cfg/by_name/opt/epa.agent/raw
KillMode=process
"""

#: udev handles only the few devices that are used here, not the hundreds that exist at boot.
TRIGGER: Final = """\
[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --subsystem-match=block --subsystem-match=virtio-ports --subsystem-match=misc
"""

INIT: Final = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
if $b grep -q epa.probe /proc/cmdline; then echo epa.probe.passed; $b poweroff -f; fi
while read module; do $b insmod /modules/$module; done </modules/order
until [ -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 -o noatime /dev/vda /disk
$b mount --move /dev /disk/dev
$b umount /sys
$b umount /proc
exec $b switch_root /disk /sbin/init
"""

#: Directories of a base on which snapd mounts something.
MOUNT_POINTS: Final = (
    "lib/firmware",
    "lib/modules",
    "media",
    "meta",
    "mnt",
    "snap",
    "usr/lib/snapd",
    "usr/src",
    "var/lib/snapd",
    "var/log",
    "var/snap",
    "var/tmp",
)

#: Files of the base that no test needs; a smaller base is installed faster.
BASE_BALLAST: Final = (
    "debootstrap",
    "usr/lib/python3*/ensurepip",
    "usr/lib/python3*/idlelib",
    "usr/lib/python3*/pydoc_data",
    "usr/lib/python3*/test",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/share/bash-completion",
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl5",
    "usr/share/zoneinfo",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/lib/dpkg/info",
)

ROOT_BALLAST: Final = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists")

#: Files to leave out of the snap `snapd`: only its snap-confine and helpers are used; snapd itself is the guest's.
SNAPD_BALLAST: Final = ("snapd", "snapd-aa-*", "snap-gdb*", "snapd-apparmor", "snap-seccomp")

#: The time (seconds) in which KVM must reach the initrd; otherwise it counts as broken.
PROBE: Final = 20


class Builder(Parts):
    """The steps of the build; each makes one file or directory below the work directory."""

    def build(self) -> None:
        """Build all parts."""
        self._work.mkdir(parents=True, exist_ok=True)
        self.install(TOOLS)
        self.make("kernel", self.kernel)
        with ThreadPoolExecutor() as pool:
            trees = [
                pool.submit(self.make, "rootfs", lambda part: self.debootstrap(part, ROOT_PACKAGES)),
                pool.submit(self.make, "base", lambda part: self.debootstrap(part, "python3")),
            ]
        for tree in trees:
            tree.result()
        self.make("vmlinuz", self.vmlinuz)
        self.make("initrd.gz", self.initrd)
        self.make("snapd.snap", self.snapd)
        self.make("core24.snap", self.core24)
        self.make("accelerator", self.accelerator)
        self.make("root.img", self.disk)
        self.say(f"ready: {self._work}")

    def kernel(self, part: Path) -> None:
        """Unpack the guest's kernel for virtual machines, and a static busybox for the initrd.

        An older one, such as the host's, would not prove which process is connected (SO_PEERPIDFD, Linux 6.5).
        """
        lists = part / "apt"
        (lists / "lists/partial").mkdir(parents=True)
        write(lists / "sources.list", f"deb [signed-by={KEYRING}] {self.mirror()} {SUITE} main\n")
        places = {"Dir::Etc::SourceList": "sources.list", "Dir::State": ".", "Dir::Cache": "."}
        apt = [f"-o{name}={lists / path}" for name, path in places.items()] + ["-oDir::Etc::SourceParts=-"]
        self.call("apt-get", *apt, "update")
        depends = self.call("apt-cache", *apt, "depends", "linux-image-cloud-amd64").split()
        images = [word for word in depends if word.startswith("linux-image-")][1:]
        if not images:
            raise BuildError("apt knows no linux-image-cloud-amd64")
        self.call("apt-get", *apt, "download", images[0], "busybox-static", cwd=part)
        remove(lists)
        for package in part.glob("*.deb"):
            self.call("dpkg", "-x", package, part)
            package.unlink()

    def debootstrap(self, part: Path, packages: str) -> None:
        """Unpack a small Debian from the mirror of this host's apt."""
        self.call("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, part, self.mirror())

    def modules(self) -> Path:
        """The directory of the kernel's modules, named after its release."""
        return find(self._work / "kernel", "**/lib/modules/*")

    def vmlinuz(self, part: Path) -> None:
        """Copy the kernel."""
        shutil.copy(find(self._work / "kernel", "boot/vmlinuz-*"), part)

    def initrd(self, part: Path) -> None:
        """Pack busybox, the modules in the order of their dependencies, and a script that mounts the root disk."""
        tree = self._work / "initrd"
        remove(tree)
        for name in ("bin", "proc", "sys", "dev", "disk", "modules"):
            (tree / name).mkdir(parents=True)
        shutil.copy(find(self._work / "kernel", "**/bin/busybox"), tree / "bin")
        write(tree / "init", INIT, 0o755)
        modules = self.modules()
        root = modules.parents[2]
        self.call("depmod", "-b", root, modules.name)
        order: list[str] = []
        for module in MODULES:
            depends = self.call("modprobe", "-S", modules.name, "-d", root, "--show-depends", module)
            paths = [Path(line.split()[1]) for line in depends.splitlines() if line.startswith("insmod")]
            order += [name for name in (unpack(path, tree / "modules") for path in paths) if name not in order]
        write(tree / "modules" / "order", "".join(f"{name}\n" for name in order))
        self.call("sh", "-c", 'find . | cpio -o -H newc --quiet | gzip -1 >"$0"', part.resolve(), cwd=tree)
        remove(tree)

    def snapd(self, part: Path) -> None:
        """Pack the helpers of the guest's snapd, with the profile of snap-confine that snapd expects in the snap."""
        tree, root = self._work / "snapd", self._work / "rootfs"
        remove(tree)
        shutil.copytree(root / "usr/lib/snapd", tree / "usr/lib/snapd", symlinks=True)
        strip(tree / "usr/lib/snapd", SNAPD_BALLAST)
        profile = find(root, "etc/apparmor.d/usr.lib.snapd.snap-confine*").read_text()
        for name in ("usr.lib.snapd.snap-confine", "usr.lib.snapd.snap-confine.real"):
            write(tree / "etc/apparmor.d" / name, profile)
        info = (root / "usr/lib/snapd/info").read_text().splitlines()
        version = next(line.removeprefix("VERSION=") for line in info if line.startswith("VERSION="))
        self.pack(tree, part, "snapd", version, "snapd")

    def core24(self, part: Path) -> None:
        """Pack the base."""
        tree = self._work / "core24"
        remove(tree)
        self.call("cp", "-a", self._work / "base", tree)
        strip(tree, BASE_BALLAST)
        for name in MOUNT_POINTS:
            (tree / name).mkdir(parents=True, exist_ok=True)
        (tree / "usr/bin/snapctl").symlink_to("../lib/snapd/snapctl")
        self.pack(tree, part, "core24", "1", "base")

    def pack(self, tree: Path, part: Path, name: str, version: str, kind: str) -> None:
        """Make a snap of a directory; quick unpacking matters more than its size."""
        text = f"name: {name}\nversion: '{version}'\ntype: {kind}\nsummary: stand-in\ndescription: stand-in\n"
        write(tree / "meta/snap.yaml", f"{text}architectures: [amd64]\n")
        flags = ("-noappend", "-comp", "gzip", "-no-xattrs", "-quiet", "-no-progress", "-all-root")
        self.call("mksquashfs", tree, part, *flags)
        remove(tree)

    def accelerator(self, part: Path) -> None:
        """Try whether KVM boots the kernel: in a virtual machine, /dev/kvm may exist and not work."""
        append = ("-serial", "stdio", "-append", "console=ttyS0 panic=-1 epa.probe")
        command = [*qemu(self._work, ["kvm"]), *Shape().arguments(), *append]
        try:
            done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE)
            passed = b"epa.probe.passed" in done.stdout
        except subprocess.TimeoutExpired:
            passed = False
        part.write_text("kvm" if passed else "tcg")

    def disk(self, part: Path) -> None:
        """Make the root disk, boot it, and install the two snaps."""
        tree = self._work / "root"
        remove(tree)
        self.call("cp", "-a", self._work / "rootfs", tree)
        configure(tree)
        shutil.copytree(self.modules().parent, tree / "usr/lib/modules", symlinks=True, dirs_exist_ok=True)
        self.call("mke2fs", "-q", "-t", "ext4", "-d", tree, part, f"{DISK_SIZE // MIB}M")
        remove(tree)
        files = self._work / "first"
        remove(files)
        files.mkdir()
        for name in ("snapd.snap", "core24.snap"):
            shutil.copy(self._work / name, files)
        with Machine(files, built=self._work, disk=part, kept=True) as machine:
            self.say("root.img: first boot")
            machine.run("snap", "wait", "system", "seed.loaded", timeout=900)
            for name in ("snapd.snap", "core24.snap"):
                self.say(f"root.img: snap install {name}")
                machine.run("snap", "install", "--dangerous", f"/job/{name}", timeout=900)
        remove(files)


def configure(tree: Path) -> None:
    """Make the root file system start quickly, with long time-outs and with the agent."""
    strip(tree, ROOT_BALLAST)
    (tree / "job").mkdir()
    write(tree / "etc/hostname", "machine\n")
    write(tree / "etc/fstab", "")
    write(tree / "etc/machine-id", "")
    write(tree / "etc/modprobe.d/slow.conf", "".join(f"blacklist {module}\n" for module in BLACKLISTED))
    write(tree / "etc/systemd/journald.conf.d/quick.conf", "[Journal]\nStorage=volatile\n")
    units = tree / "etc/systemd/system"
    write(tree / "etc/systemd/system.conf.d/slow.conf", f"[Manager]\nDefaultEnvironment={SNAPD_ENVIRONMENT}\n")
    write(units / "service.d/slow.conf", "[Service]\nTimeoutStartSec=600\nTimeoutStopSec=300\n")
    write(units / "systemd-udev-trigger.service.d/quick.conf", TRIGGER)
    write(units / "agent.service", AGENT_UNIT)
    (units / "multi-user.target.wants/agent.service").symlink_to("../agent.service")
    for unit in MASKED:
        remove(units / unit)
        (units / unit).symlink_to("/dev/null")


def unpack(module: Path, directory: Path) -> str:
    """Copy a module uncompressed, as busybox needs it, and return its name."""
    name = module.name.removesuffix(".xz")
    content = module.read_bytes()
    (directory / name).write_bytes(lzma.decompress(content) if module.suffix == ".xz" else content)
    return name


def check_host() -> None:
    """Check, before anything changes, that the build can work on this host."""
    if os.geteuid() != 0:
        raise BuildError("building a root file system needs root: run it with sudo, or in a container")
    release = Path("/etc/os-release")
    if not release.exists() or "ID=debian" not in release.read_text().splitlines():
        raise BuildError("the build works on Debian only: run it in a container of Debian")
    if os.uname().machine != "x86_64":
        raise BuildError(f"the machine is an x86_64, and cannot be built on {os.uname().machine}")


def build(work: Path) -> None:
    """Build in this directory, if this host can."""
    check_host()
    Builder(work).build()


def main() -> int:
    """Build, or print why that is not possible."""
    return run_build("python -m tests.machine.build", "Make the machine.", BUILT, build)


if __name__ == "__main__":
    sys.exit(main())
