# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The boot loader's files are read into the lines that they give to the next boots."""

from __future__ import annotations

import pytest

from epa_orchestrator.isolation.boot_loader import Entry, read_boot_loader
from epa_orchestrator.isolation.host_files import RecordedHost, Unread
from epa_orchestrator.isolation.shell_settings import Uncertain
from tests.unit.isolation.grub_hosts import DEFAULTS, GRUB_CFG, OURS, PI_LINE, adds, grub_cfg, grub_host


def test_entries_of_this_system_in_their_order() -> None:
    loader = read_boot_loader(RecordedHost({GRUB_CFG: grub_cfg("isolcpus=2", custom="linux16 /x a=b")}))
    assert loader.entries == (
        Entry("root=/dev/sda ro  isolcpus=2", normal=True),
        Entry("root=/dev/sda ro  isolcpus=2", normal=True),
        Entry("root=/dev/sda ro recovery nomodeset dis_ucode_ldr", normal=False),
        Entry("a=b", normal=False),
    )


def test_entries_without_section_marks_are_normal() -> None:
    loader = read_boot_loader(RecordedHost({GRUB_CFG: "linuxefi /vmlinuz ro isolcpus=2\n"}))
    assert loader.entries == (Entry("ro isolcpus=2", normal=True),)


def test_configured_line_joins_both_variables() -> None:
    files = grub_host("", "", adds("nohz_full=2")) | {"etc/default/grub.d/1.cfg": "GRUB_CMDLINE_LINUX=isolcpus=2"}
    assert read_boot_loader(RecordedHost(files)).configured == "isolcpus=2 quiet splash nohz_full=2"


def test_absent_files_are_unread() -> None:
    loader = read_boot_loader(RecordedHost({}))
    assert (loader.configured, loader.entries, loader.pi_line) == (Unread(DEFAULTS), Unread(GRUB_CFG), Unread(PI_LINE))


def test_drop_ins_count_without_the_main_file() -> None:
    assert read_boot_loader(RecordedHost({OURS: adds("isolcpus=2")})).configured == "  isolcpus=2"


def test_code_makes_the_configured_line_uncertain() -> None:
    files = {DEFAULTS: "GRUB_CMDLINE_LINUX=$(x)\n"}
    assert read_boot_loader(RecordedHost(files)).configured == Uncertain(DEFAULTS)


@pytest.mark.parametrize("denied", [DEFAULTS, "etc/default/grub.d"])
def test_denied_settings_are_unread(denied: str) -> None:
    assert read_boot_loader(RecordedHost({}, [denied])).configured == Unread(denied, "denied")
