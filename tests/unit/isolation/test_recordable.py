# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A recording of a host has nothing that others must not know, and everything that the audit reads."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.boot_loader import read_boot_loader
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.recordable import known_parameters, recordable

SECRET = "hunter2"


def test_unknown_words_of_a_kernel_line_are_hidden_in_their_places() -> None:
    line = f"BOOT_IMAGE=/vmlinuz root=UUID=ab isolcpus=2-3 password={SECRET} nohz-full=2 -- isolcpus=4"
    assert recordable("proc/cmdline", line) == "BOOT_IMAGE=/vmlinuz _ isolcpus=2-3 _ nohz-full=2 -- isolcpus=4"


def test_known_parameters_keep_their_order() -> None:
    assert known_parameters(f"hugepagesz=1G x={SECRET} hugepages=4 isolcpus=2") == [
        "hugepagesz=1G",
        "hugepages=4",
        "isolcpus=2",
    ]


def test_status_keeps_only_the_lines_that_are_read() -> None:
    status = "Name:\tovs\nUmask:\t0022\nPid:\t7\nUid:\t1000\nCpus_allowed_list:\t2-3\nnonvoluntary_ctxt_switches:\t9\n"
    assert recordable("proc/7/task/8/status", status) == (
        "Name:\tovs\nPid:\t7\nCpus_allowed_list:\t2-3\nnonvoluntary_ctxt_switches:\t9\n"
    )


def test_stat_has_no_addresses_but_all_fields() -> None:
    fields = [str(number) for number in range(3, 53)]
    reduced = recordable("proc/7/stat", f"7 (a ) b) {' '.join(fields)}\n") or ""
    assert reduced.startswith("7 (a ) b) 3 4 5 ")
    words = reduced.rpartition(")")[2].split()
    hidden = [number for number, word in enumerate(words, 3) if word == "0"]
    assert hidden == [26, 27, 28, 29, 30, 35, *range(45, 52)]
    assert len(words) == 50


@pytest.mark.parametrize("name", ["environ", "cmdline", "maps"])
def test_other_files_of_a_process_are_never_recorded(name: str) -> None:
    assert recordable(f"proc/7/{name}", SECRET) is None
    assert recordable(f"proc/7/task/8/{name}", SECRET) is None


def test_interrupts_lose_blanks_only() -> None:
    assert recordable("proc/interrupts", "     CPU0   CPU1\n 4:     0     17  IO-APIC  4-edge  ttyS0\n") == (
        " CPU0 CPU1\n 4: 0 17 IO-APIC 4-edge ttyS0\n"
    )


GRUB = f"""# the password is {SECRET}
GRUB_TIMEOUT=5
GRUB_SUPERUSER="{SECRET}"
GRUB_CMDLINE_LINUX="console=ttyS0 token={SECRET}"
GRUB_CMDLINE_LINUX_DEFAULT="quiet isolcpus=2-3 $GRUB_EXTRA"
"""

GRUB_CFG = f"""set superusers="{SECRET}"
password_pbkdf2 root {SECRET}
set extra="nohz_full=2-3 {SECRET}"
### BEGIN /etc/grub.d/10_linux ###
menuentry 'Ubuntu on {SECRET}' {{
	linux	/boot/vmlinuz-6.8.0 root=UUID={SECRET} ro quiet isolcpus=2-3 ${{extra}}
}}
menuentry 'Ubuntu (recovery mode)' {{
	linux	/boot/vmlinuz-6.8.0 root=UUID={SECRET} ro recovery nomodeset
}}
### END /etc/grub.d/10_linux ###
"""


def test_boot_loader_says_the_same_of_isolation_without_its_secrets() -> None:
    files = {"etc/default/grub": GRUB, "boot/grub/grub.cfg": GRUB_CFG}
    reduced = {path: recordable(path, text) or "" for path, text in files.items()}
    assert SECRET not in "".join(reduced.values())
    before, after = (said_of_isolation(each) for each in (files, reduced))
    assert before == after
    assert before == (["isolcpus=2-3"], [(["isolcpus=2-3", "nohz_full=2-3"], True), (["recovery"], False)])


def said_of_isolation(files: dict[str, str]) -> tuple[list[str], list[tuple[list[str], bool]]]:
    """The known parameters in the settings of GRUB, and in each entry, with whether that is a normal one."""
    loader = read_boot_loader(RecordedHost(files))
    assert isinstance(loader.configured, str)
    assert isinstance(loader.entries, tuple)
    return known_parameters(loader.configured), [(known_parameters(each.line), each.normal) for each in loader.entries]


@pytest.mark.parametrize(
    "text", ['A="$(cat /etc/secret)"', "A=`cat /etc/secret`", 'GRUB_CMDLINE_LINUX="$(x isolcpus=2)"']
)
def test_what_only_a_shell_can_evaluate_is_as_uncertain_as_before(text: str) -> None:
    text += '\nGRUB_CMDLINE_LINUX_DEFAULT="isolcpus=2 $A"\n'
    reduced = recordable("etc/default/grub", text) or ""
    assert "secret" not in reduced
    loaders = [read_boot_loader(RecordedHost({"etc/default/grub": each})) for each in (text, reduced)]
    assert type(loaders[0].configured) is type(loaders[1].configured)


def test_irqbalance_keeps_its_settings() -> None:
    text = f'# {SECRET}\nIRQBALANCE_BANNED_CPULIST=2-3\nTOKEN={SECRET}\nOPTIONS="--banmod=x"\n'
    assert recordable("etc/default/irqbalance", text) == 'IRQBALANCE_BANNED_CPULIST=2-3\nOPTIONS="--banmod=x"\n'


def test_configuration_of_the_kernel_keeps_the_features_of_isolation() -> None:
    text = "CONFIG_SMP=y\nCONFIG_LOCALVERSION=x\nCONFIG_NO_HZ_FULL=y\n# CONFIG_RCU_NOCB_CPU is not set\n"
    assert recordable("boot/config-6.8.0", text) == (
        "CONFIG_SMP=y\nCONFIG_NO_HZ_FULL=y\n# CONFIG_RCU_NOCB_CPU is not set\n"
    )


@pytest.mark.parametrize(
    "path", ["proc/cmdline", "proc/7/stat", "proc/7/status", "boot/grub/grub.cfg", "etc/default/grub"]
)
@pytest.mark.parametrize("text", ["", ")", "\n" * 9, "\x00\x1b[2J", "'\"`$(", "(" * 5000, "\ufffd= =", "7 (a"])
def test_nonsense_is_no_error(path: str, text: str) -> None:
    assert isinstance(recordable(path, text), str)


def test_a_task_named_like_lines_of_status_adds_none() -> None:
    status = "Name:\tx\rPid:9\x1cState\nUmask:\t0022\nPid:\t7\n"
    assert recordable("proc/7/status", status) == "Name:\tx\rPid:9\x1cState\nPid:\t7\n"
