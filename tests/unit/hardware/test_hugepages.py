# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hugepages: the kernel's counts as they are now, also on a kernel without node directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from epa_orchestrator.hardware.hugepages import (
    HiddenPagesError,
    Hugepages,
    are_hidden,
    read_hugepages,
    read_hugepages_of,
    read_promised,
)
from epa_orchestrator.hardware.sysfs import RecordedSysfs, SysfsTree
from tools.synthetic import Shape, build

TWO_SIZES = build(Shape(packages=2, hugepages={2048: (8, 3), 1048576: (4, 1)}))


def test_sizes_are_in_order() -> None:
    assert read_hugepages(RecordedSysfs(TWO_SIZES), 0) == (Hugepages(2048, 8, 3), Hugepages(1048576, 4, 1))


@pytest.mark.parametrize(
    ("node", "size_kb", "expected"),
    [(1, 1048576, Hugepages(1048576, 4, 1)), (1, 64, None), (2, 2048, None)],
)
def test_one_size(node: int, size_kb: int, expected: Hugepages | None) -> None:
    assert read_hugepages_of(RecordedSysfs(TWO_SIZES), node, size_kb) == expected


def test_reads_the_counts_each_time(tmp_path: Path) -> None:
    directory = tmp_path / "devices/system/node/node0/hugepages/hugepages-2048kB"
    directory.mkdir(parents=True)
    (directory / "nr_hugepages").write_text("8\n")
    (directory / "free_hugepages").write_text("8\n")
    assert read_hugepages(SysfsTree(tmp_path), 0) == (Hugepages(2048, 8, 8),)
    (directory / "free_hugepages").write_text("3\n")
    assert read_hugepages(SysfsTree(tmp_path), 0) == (Hugepages(2048, 8, 3),)
    assert read_hugepages(SysfsTree(tmp_path), 1) == ()


def test_hugepages_of_a_kernel_without_nodes() -> None:
    pages = "kernel/mm/hugepages/hugepages-1048576kB"
    sysfs = RecordedSysfs({f"{pages}/nr_hugepages": "4", f"{pages}/free_hugepages": "1"})
    assert read_hugepages(sysfs, 0) == (Hugepages(1048576, 4, 1),)
    assert read_hugepages(sysfs, 1) == ()


def test_one_size_of_a_kernel_without_nodes() -> None:
    pages = "kernel/mm/hugepages/hugepages-1048576kB"
    sysfs = RecordedSysfs({f"{pages}/nr_hugepages": "4", f"{pages}/free_hugepages": "1"})
    assert read_hugepages_of(sysfs, 0, 1048576) == Hugepages(1048576, 4, 1)


@pytest.mark.parametrize(("text", "promised"), [("3", 3), ("0", 0), (None, None), ("-1", None), ("", None)])
def test_promised_pages_of_one_size(text: str | None, promised: int | None) -> None:
    path = "kernel/mm/hugepages/hugepages-2048kB/resv_hugepages"
    assert read_promised(RecordedSysfs({path: text} if text is not None else {}), 2048) == promised


PAGES = "devices/system/node/node0/hugepages"
COUNTS = f"{PAGES}/hugepages-2048kB/nr_hugepages"
OTHERS = {path: text for path, text in TWO_SIZES.items() if not path.startswith(PAGES)}


class TestHiddenHugepages:
    """A confined snap without its plug: the directory is there, and this process may not look into it."""

    @pytest.mark.parametrize("hidden", [[PAGES], [PAGES, COUNTS]], ids=["directory", "directory and files"])
    def test_are_no_sizes(self, hidden: list[str]) -> None:
        sysfs = RecordedSysfs(OTHERS, hidden=hidden)
        assert read_hugepages(sysfs, 0) == ()
        assert are_hidden(sysfs, 0)
        assert not are_hidden(sysfs, 1)

    def test_of_one_size_are_an_error_with_the_remedy(self) -> None:
        sysfs = RecordedSysfs(OTHERS, hidden=[PAGES, COUNTS])
        with pytest.raises(HiddenPagesError) as caught:
            read_hugepages_of(sysfs, 0, 2048)
        assert str(caught.value) == (
            "The hugepages of NUMA node 0 cannot be read: in a snap, run: sudo snap connect"
            " epa-orchestrator:sys-devices-system-node"
        )

    def test_of_one_size_in_an_unreadable_file_are_an_error(self) -> None:
        sysfs = RecordedSysfs(OTHERS, {f"{PAGES}/hugepages-2048kB": ["nr_hugepages"]})
        with pytest.raises(HiddenPagesError):
            read_hugepages_of(sysfs, 0, 2048)

    def test_never_stand_for_those_of_the_whole_machine(self) -> None:
        all_nodes = {"kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "99"}
        sysfs = RecordedSysfs(OTHERS | all_nodes, hidden=[PAGES, "devices/system/node"])
        assert read_hugepages(sysfs, 0) == ()
