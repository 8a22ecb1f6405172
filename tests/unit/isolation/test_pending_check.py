# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A6: a change that waits for update-grub or a reboot is found, and other boots are left alone."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.findings import Finding
from tests.unit.isolation.grub_hosts import DEFAULTS, GRUB_CFG, ISOLATION, OURS, PI_LINE, adds, grub_cfg, grub_host
from tests.unit.isolation.line_hosts import find, host_files

GOOD = Finding("A6", "pass", "The boot loader's files ask for what the running kernel has")
OTHER_ENTRY = Finding("A6", "pass", "The running kernel was started by another entry of /boot/grub/grub.cfg")
REBOOT = "reboot"
UPDATE_GRUB = "run 'sudo update-grub', then reboot"
TRIAL = f"menuentry 'trial' {{\n  linux /boot/vmlinuz root=/dev/sda ro quiet splash {ISOLATION}\n}}"
HUGEPAGES = "hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=64"


@pytest.mark.parametrize(
    "files",
    [
        grub_host("", ""),
        grub_host(ISOLATION, ISOLATION, adds(ISOLATION)),
        grub_host(f"{ISOLATION} {HUGEPAGES}", f"{ISOLATION} {HUGEPAGES}", adds(f"{ISOLATION} {HUGEPAGES}")),
        grub_host("nohz-full=2 isolcpus=2", "isolcpus=2 nohz_full=2", adds("nohz_full=2 isolcpus=2")),
        grub_host("", "", adds("mitigations=off")),
        grub_host("mitigations=off", "", adds("nosmt")),
        grub_host("", "", custom=TRIAL),
    ],
)
def test_equal_lines_are_no_fault(files: dict[str, str]) -> None:
    assert find("A6", files) == GOOD


@pytest.mark.parametrize(
    ("running", "in_grub_cfg", "wanted", "seen"),
    [
        ("", "", "isolcpus=2-3", "have isolcpus=2-3, which /boot/grub/grub.cfg has not"),
        ("isolcpus=2-3", "isolcpus=2-3", "", "lack isolcpus=2-3, which /boot/grub/grub.cfg has"),
        (
            "isolcpus=2",
            "isolcpus=2",
            "isolcpus=2-3",
            "have isolcpus=2-3, which /boot/grub/grub.cfg has not and lack isolcpus=2, which /boot/grub/grub.cfg has",
        ),
        (
            HUGEPAGES,
            HUGEPAGES,
            "hugepagesz=2M hugepages=64 hugepagesz=1G hugepages=4",
            "have the same parameters as /boot/grub/grub.cfg in another order",
        ),
        ("isolcpus=2-3", "", "isolcpus=2-3", "have isolcpus=2-3, which /boot/grub/grub.cfg has not"),
    ],
)
def test_update_grub_has_not_run(running: str, in_grub_cfg: str, wanted: str, seen: str) -> None:
    finding = find("A6", grub_host(running, in_grub_cfg, adds(wanted)))
    assert finding == Finding("A6", "warn", f"/etc/default/grub and grub.d {seen}", UPDATE_GRUB)


@pytest.mark.parametrize(
    ("running", "in_grub_cfg", "seen"),
    [
        ("", "isolcpus=2-3", "has isolcpus=2-3, which the running kernel has not"),
        ("isolcpus=2-3", "", "lacks isolcpus=2-3, which the running kernel has"),
        (
            "isolcpus=2 nohz_full=2",
            "isolcpus=2-3 nohz_full=2",
            "has isolcpus=2-3, which the running kernel has not and lacks isolcpus=2, which the running kernel has",
        ),
        ("", "hugepages=64", "has hugepages=64, which the running kernel has not"),
    ],
)
def test_the_host_has_not_rebooted(running: str, in_grub_cfg: str, seen: str) -> None:
    finding = find("A6", grub_host(running, in_grub_cfg, adds(in_grub_cfg)))
    assert finding == Finding("A6", "warn", f"/boot/grub/grub.cfg {seen}", REBOOT)


def test_a_one_shot_boot_of_another_entry_is_no_fault() -> None:
    files = grub_host(ISOLATION, "", custom=TRIAL)
    assert find("A6", files) == OTHER_ENTRY


def test_a_recovery_boot_is_no_fault() -> None:
    files = grub_host("", ISOLATION, adds(ISOLATION))
    running = "BOOT_IMAGE=/boot/vmlinuz-6.8.0-31-generic root=/dev/sda ro recovery nomodeset dis_ucode_ldr"
    assert find("A6", files | {"proc/cmdline": running}) == OTHER_ENTRY


def test_an_entry_of_another_system_excuses_nothing() -> None:
    files = grub_host("", "isolcpus=2") | {DEFAULTS: "GRUB_CMDLINE_LINUX=isolcpus=2\n"}
    running = "BOOT_IMAGE=/boot/vmlinuz root=/dev/sdb1 ro isolcpus=1"
    assert find("A6", files | {"proc/cmdline": running}).remedy == REBOOT


def test_both_variables_make_a_normal_entry() -> None:
    files = grub_host("isolcpus=2 nohz_full=2", "isolcpus=2 nohz_full=2", adds("nohz_full=2"))
    assert find("A6", files | {"etc/default/grub.d/50-x.cfg": "GRUB_CMDLINE_LINUX='isolcpus=2'\n"}) == GOOD


def test_drop_ins_are_read_in_the_order_of_their_names() -> None:
    files = grub_host("isolcpus=3", "isolcpus=3") | {
        "etc/default/grub.d/zz.cfg": 'GRUB_CMDLINE_LINUX_DEFAULT="isolcpus=3"\n',
        "etc/default/grub.d/50-cloudimg-settings.cfg": 'GRUB_CMDLINE_LINUX_DEFAULT="isolcpus=1"\n',
        "etc/default/grub.d/zzz.cfg.dpkg-old": 'GRUB_CMDLINE_LINUX_DEFAULT="isolcpus=2"\n',
        "etc/default/grub.d/.zzz.cfg": 'GRUB_CMDLINE_LINUX_DEFAULT="isolcpus=2"\n',
    }
    assert find("A6", files) == GOOD


def test_single_quotes_lose_the_own_line_of_the_operator() -> None:
    drop_in = "GRUB_CMDLINE_LINUX_DEFAULT='$GRUB_CMDLINE_LINUX_DEFAULT nohz_full=2'\n"
    files = grub_host("isolcpus=2 nohz_full=2", "isolcpus=2 nohz_full=2", drop_in)
    assert find("A6", files | {"etc/default/grub.d/50-x.cfg": adds("isolcpus=2")}).remedy == UPDATE_GRUB


def test_variables_of_grub_are_replaced() -> None:
    drop_in = 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT \\$tuned_params"\n'
    files = grub_host("isolcpus=2", "", drop_in)
    header = 'set tuned_params="isolcpus=2"'
    assert find("A6", files | {GRUB_CFG: grub_cfg("quiet $tuned_params", header=header)}) == GOOD


def test_a_variable_with_two_values_is_not_checked() -> None:
    header = "set tuned_params=isolcpus=2\nset tuned_params=isolcpus=3"
    files = grub_host("isolcpus=2", "") | {GRUB_CFG: grub_cfg("quiet ${tuned_params}", header=header)}
    assert find("A6", files).seen == "needs GRUB, to evaluate a variable in /boot/grub/grub.cfg"


def test_shell_code_is_not_evaluated() -> None:
    code = 'GRUB_CMDLINE_LINUX_DEFAULT="$(cat /proc/cmdline)"\n'
    assert find("A6", grub_host("", "", code)).seen == f"needs a shell to evaluate /{OURS}"
    assert find("A6", grub_host("", "isolcpus=2", code)).remedy == REBOOT


@pytest.mark.parametrize("path", [DEFAULTS, OURS, "etc/default/grub.d"])
def test_denied_settings_are_not_checked_unless_a_reboot_is_due(path: str) -> None:
    files = grub_host("", "")
    files.pop(path, None)
    denied = [path] if path != OURS else [path, "etc/default/grub.d"]
    finding = find("A6", files, denied=denied)
    assert (finding.result, finding.seen) == ("not-checked", f"needs /{denied[-1]}, which was not recorded")
    files |= {GRUB_CFG: grub_cfg("isolcpus=2")}
    assert find("A6", files, denied=denied).remedy == REBOOT


def test_without_settings_grub_cfg_is_still_compared() -> None:
    files = grub_host("", "isolcpus=2")
    del files[DEFAULTS]
    assert find("A6", files).remedy == REBOOT
    assert find("A6", files | {GRUB_CFG: grub_cfg("")}) == GOOD


@pytest.mark.parametrize(
    ("denied", "seen"),
    [
        ([], "needs /boot/grub/grub.cfg, which is not there"),
        ([GRUB_CFG], "needs /boot/grub/grub.cfg, which was not recorded"),
    ],
)
def test_without_grub_cfg_nothing_is_checked(denied: list[str], seen: str) -> None:
    finding = find("A6", host_files("isolcpus=2-3"), denied=denied)
    assert (finding.result, finding.seen) == ("not-checked", seen)


@pytest.mark.parametrize("text", ["", "blscfg\n", "menuentry 'x' {\n  chainloader /x.efi\n}\n", "\0linux", "linux"])
def test_a_grub_cfg_without_entries_is_not_checked(text: str) -> None:
    files = grub_host("isolcpus=2", "") | {GRUB_CFG: text}
    assert find("A6", files).seen == "needs an entry for this system in /boot/grub/grub.cfg"


def test_a_running_line_without_the_name_of_its_image_is_compared_too() -> None:
    files = grub_host("", "isolcpus=2", adds("isolcpus=2")) | {"proc/cmdline": "root=/dev/sda quiet\n"}
    assert find("A6", files).seen == "/boot/grub/grub.cfg has isolcpus=2, which the running kernel has not"


@pytest.mark.parametrize(
    ("line", "result", "seen"),
    [
        ("isolcpus=2-3 rootwait\n", "pass", "/boot/firmware/cmdline.txt asks for what the running kernel has"),
        (
            "isolcpus=3 rootwait\n",
            "warn",
            (
                "/boot/firmware/cmdline.txt has isolcpus=3, which the running kernel has not"
                " and lacks isolcpus=2-3, which the running kernel has"
            ),
        ),
    ],
)
def test_a_raspberry_pi_has_its_line_in_one_file(line: str, result: str, seen: str) -> None:
    files = host_files("isolcpus=2-3") | {PI_LINE: line}
    finding = find("A6", files)
    assert (finding.result, finding.seen) == (result, seen)
    assert finding.remedy == ("" if result == "pass" else REBOOT)
