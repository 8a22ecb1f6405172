# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The files of GRUB on a host, as Ubuntu 24.04 writes them."""

from __future__ import annotations

from tests.unit.isolation.line_hosts import host_files

DEFAULTS = "etc/default/grub"
GRUB_CFG = "boot/grub/grub.cfg"
OURS = "etc/default/grub.d/zz-epa-orchestrator.cfg"
PI_LINE = "boot/firmware/cmdline.txt"

ISOLATION = "isolcpus=domain,managed_irq,2-3 nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1"

_UBUNTU_DEFAULTS = """GRUB_DEFAULT=0
GRUB_DISTRIBUTOR=`( . /etc/os-release; echo ${NAME:-Ubuntu} ) 2>/dev/null || echo Ubuntu`
GRUB_CMDLINE_LINUX_DEFAULT="quiet splash"
GRUB_CMDLINE_LINUX=""
"""


def grub_cfg(line: str, *, custom: str = "", header: str = "") -> str:
    """A grub.cfg whose normal entries have the arguments `line`, and whose 40_custom has `custom`."""
    kernel = "/boot/vmlinuz-6.8.0-31-generic root=/dev/sda ro"
    return f"""
### BEGIN /etc/grub.d/00_header ###
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
fi
{header}
### END /etc/grub.d/00_header ###

### BEGIN /etc/grub.d/10_linux ###
if [ "${{recordfail}}" != 1 ]; then
  set vt_handoff=vt.handoff=7
else
  set vt_handoff=
fi
menuentry 'Ubuntu' --class ubuntu $menuentry_id_option 'gnulinux-simple-1' {{
\tsearch --no-floppy --fs-uuid --set=root 1
\tlinux\t{kernel}  {line} $vt_handoff
\tinitrd\t/boot/initrd.img-6.8.0-31-generic
}}
submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced-1' {{
\tmenuentry 'Ubuntu, with Linux 6.8.0-31-generic' --class ubuntu {{
\t\tlinux\t{kernel}  {line} $vt_handoff
\t}}
\tmenuentry 'Ubuntu, with Linux 6.8.0-31-generic (recovery mode)' --class ubuntu {{
\t\tlinux\t{kernel} recovery nomodeset dis_ucode_ldr
\t}}
}}
### END /etc/grub.d/10_linux ###

### BEGIN /etc/grub.d/30_os-prober ###
menuentry 'Another Linux (on /dev/sdb1)' {{
\tlinux /boot/vmlinuz root=/dev/sdb1 ro isolcpus=1
}}
### END /etc/grub.d/30_os-prober ###

### BEGIN /etc/grub.d/40_custom ###
{custom}
### END /etc/grub.d/40_custom ###
"""


def grub_host(running: str, in_grub_cfg: str, drop_in: str | None = None, *, custom: str = "") -> dict[str, str]:
    """A host that runs with `running`, and will boot with `in_grub_cfg`; `drop_in` is the text of our own file."""
    files = host_files(f"quiet splash {running} vt.handoff=7") | {
        DEFAULTS: _UBUNTU_DEFAULTS,
        GRUB_CFG: grub_cfg(f"quiet splash {in_grub_cfg}", custom=custom),
    }
    return files if drop_in is None else files | {OURS: drop_in}


def adds(parameters: str) -> str:
    """The text of a drop-in that adds parameters."""
    return f'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT {parameters}"\n'
