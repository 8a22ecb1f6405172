# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Hugepages that the kernel has promised, and what the host tells the operator in warnings."""

from __future__ import annotations

import dataclasses

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from tools.synthetic import Shape, build

#: Two nodes of four cores with one thread each, and four free pages on each.
SHAPE = Shape(packages=2, cores_per_l3=4, isolated="1-3,5-7", hugepages={2048: (8, 4)})


class CountingSysfs(RecordedSysfs):
    """A recorded tree that counts how many files are read."""

    asked = 0

    def read(self, path: str) -> str | None:
        self.asked += 1
        return super().read(path)


class Made:
    """A made-up host whose files can change."""

    def __init__(self, **changes: object) -> None:
        self.files = build(dataclasses.replace(SHAPE, **changes))  # pyright: ignore[reportArgumentType]
        self.sysfs = CountingSysfs(self.files)
        self.host = Host(self.sysfs, Settings())

    def put(self, path: str, text: str) -> None:
        self.files[path] = text


@pytest.fixture
def made() -> Made:
    return Made()


# --- promised hugepages ---

PROMISED = "kernel/mm/hugepages/hugepages-2048kB/resv_hugepages"


@pytest.mark.parametrize(("promised", "on_each_node"), [(0, 0), (3, 0), (4, 0), (6, 2), (8, 4), (20, 16)])
def test_promised_pages_count_where_other_nodes_cannot_provide_them(
    made: Made, promised: int, on_each_node: int
) -> None:
    """Each of the two nodes has four free pages."""
    made.host.pools()
    made.put(PROMISED, str(promised))
    every = made.host.hugepages_by_node([0, 1])
    assert [pages.promised for node_id in (0, 1) for pages in every[node_id]] == [on_each_node] * 2
    assert {node_id: made.host.hugepages(node_id) for node_id in (0, 1)} == every


def test_other_nodes_are_read_only_for_promised_pages(made: Made) -> None:
    made.host.pools()
    made.sysfs.asked = 0
    made.host.hugepages_of(0, 2048)
    assert made.sysfs.asked == 3  # promised, total and free


def test_other_nodes_are_read_until_they_can_provide_what_is_promised() -> None:
    made = Made(packages=8)
    made.host.pools()
    made.put(PROMISED, "6")
    made.sysfs.asked = 0
    made.host.hugepages_of(0, 2048)
    assert made.sysfs.asked == 3 + 2


# --- warnings ---


def test_a_host_without_problems_has_no_warnings(made: Made) -> None:
    made.host.pools()
    assert made.host.warnings() == ()


def test_warnings_are_the_same_object_until_something_changes(made: Made) -> None:
    made.host.use(parse_settings({"default-allocation-percent": 100}))
    made.host.pools()
    warnings = made.host.warnings()
    made.host.pools()
    assert made.host.warnings() is warnings


def test_promised_pages_that_cannot_be_read_are_a_warning(made: Made) -> None:
    del made.files[PROMISED]
    made.host.pools()
    (warning,) = made.host.warnings()
    assert warning == (
        "Hugepages of 2M that the kernel has promised to processes count as free, because resv_hugepages in"
        " /sys/kernel/mm/hugepages cannot be read: in a snap, run: sudo snap connect epa-orchestrator:topology"
    )


def test_sizes_without_pages_need_no_warning() -> None:
    made = Made(hugepages={2048: (0, 0)})
    del made.files[PROMISED]
    made.host.pools()
    assert made.host.warnings() == ()


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"default-allocation-percent": 100}, "default-allocation-percent=100 grants every free CPU"),
        ({"large-system-threshold": 4, "large-system-reserved-cpus": 0}, "large-system-reserved-cpus=0 grants every"),
        ({"cpu-pool": "1"}, "No CPUs available in pool general: cpu-pool overlaps the isolated CPUs 1"),
    ],
)
def test_options_that_leave_nothing_to_share_or_grant_are_warnings(
    made: Made, options: dict[str, object], warning: str
) -> None:
    made.host.pools()
    made.host.use(parse_settings(options))
    made.host.pools()
    (found,) = made.host.warnings()
    assert found.startswith(warning)


@pytest.mark.parametrize("options", [{"default-allocation-percent": 99}, {"large-system-reserved-cpus": 0}])
def test_options_that_leave_cpus_to_share_are_no_warning(made: Made, options: dict[str, object]) -> None:
    made.host.use(parse_settings(options))
    made.host.pools()
    assert made.host.warnings() == ()


def test_a_warning_goes_with_its_cause(made: Made) -> None:
    made.host.use(parse_settings({"default-allocation-percent": 100}))
    made.host.pools()
    made.host.use(parse_settings({}))
    made.host.pools()
    assert made.host.warnings() == ()
