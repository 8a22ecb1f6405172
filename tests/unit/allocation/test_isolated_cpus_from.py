# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The pool `isolated` has the CPUs of the source that the operator chose, and of no other in its place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.pools import NO_ISOLATED_CPUS, Pools
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.allocation.usable_settings import usable_settings
from epa_orchestrator.hardware.isolated_cpus import ISOLATED_FILES
from epa_orchestrator.hardware.sysfs import RecordedSysfs, SysfsTree
from epa_orchestrator.names import IsolatedCpusFrom
from tools.synthetic import Shape, build, write_tree

CPU, NODE = "devices/system/cpu", "devices/system/node"
CPUSET = "fs/cgroup/cpuset.cpus.isolated"

#: One node of eight cores; each source has CPUs of its own.
FILES = build(Shape(cores_per_l3=8, isolated="1")) | {f"{CPU}/nohz_full": "2-3", CPUSET: "4,6"}

#: The sources, and what they have on that host.
SOURCES: list[tuple[IsolatedCpusFrom, str]] = [("isolcpus", "1"), ("nohz_full", "2-3"), ("cpuset", "4,6")]


def options(source: str, **others: object) -> dict[str, Any]:
    return {"isolated-cpus-from": source, **{name.replace("_", "-"): value for name, value in others.items()}}


def host_with(source: str, files: dict[str, str] = FILES, **others: object) -> Host:
    return Host(RecordedSysfs(files), parse_settings(options(source, **others)))


def shown(pools: Pools) -> tuple[str, str, str | None]:
    return str(pools.isolated.configured), str(pools.isolated.eligible), pools.isolated.problem


class WatchedTree(SysfsTree):
    """A sysfs tree that notes which files a request looks at."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.looked: list[str] = []

    def read(self, path: str) -> str | None:
        self.looked.append(path)
        return super().read(path)

    def contents(self, paths: Iterable[str]) -> tuple[object, ...]:
        paths = tuple(paths)
        self.looked += paths
        return super().contents(paths)

    def names(self, directory: str) -> list[str] | None:
        self.looked.append(directory)
        return super().names(directory)


def watched(root: Path, source: str) -> tuple[WatchedTree, Host]:
    write_tree(FILES, root)
    tree = WatchedTree(root)
    return tree, Host(tree, parse_settings(options(source)))


@pytest.mark.parametrize(("source", "cpus"), SOURCES)
def test_pool_has_the_cpus_of_its_source(source: str, cpus: str) -> None:
    pool = host_with(source).pools().isolated
    assert (str(pool.configured), str(pool.eligible), pool.problem) == (cpus, cpus, None)
    assert (pool.name, pool.source) == ("isolated", "isolated")


@pytest.mark.parametrize(("source", "_"), SOURCES)
@pytest.mark.parametrize("empty", [None, "", "(null)"])
def test_empty_source_is_refused_as_ever_whatever_the_others_have(
    source: IsolatedCpusFrom, _: str, empty: str | None
) -> None:
    path = ISOLATED_FILES[source]
    files = {name: text for name, text in FILES.items() if name != path} | ({} if empty is None else {path: empty})
    assert shown(host_with(source, files).pools()) == ("", "", NO_ISOLATED_CPUS)


def test_refusal_without_isolated_cpus_is_the_one_that_shipped_hypervisors_know() -> None:
    assert NO_ISOLATED_CPUS == "No CPUs available: No Isolated CPUs configured"


@pytest.mark.parametrize(
    ("source", "file"),
    [("isolcpus", f"{CPU}/isolated"), ("nohz_full", f"{CPU}/nohz_full"), ("cpuset", CPUSET)],
)
def test_request_looks_at_the_file_of_its_source_only(source: str, file: str, tmp_path: Path) -> None:
    tree, host = watched(tmp_path, source)
    pools = host.pools()
    tree.looked.clear()
    assert host.known_pools() is pools
    assert tree.looked == [f"{CPU}/online", file, f"{NODE}/online", f"{NODE}/node0/cpulist"]


@pytest.mark.parametrize(("source", "_"), SOURCES)
def test_change_of_the_source_is_seen_at_once(source: IsolatedCpusFrom, _: str, tmp_path: Path) -> None:
    _tree, host = watched(tmp_path, source)
    host.pools()
    (tmp_path / ISOLATED_FILES[source]).write_text("5-7\n")
    assert host.known_pools() is None
    assert shown(host.pools()) == ("5-7", "5-7", None)
    (tmp_path / ISOLATED_FILES[source]).unlink()
    assert host.known_pools() is None
    assert shown(host.pools()) == ("", "", NO_ISOLATED_CPUS)


@pytest.mark.parametrize(("source", "_"), SOURCES)
def test_changes_of_other_sources_change_nothing(source: IsolatedCpusFrom, _: str, tmp_path: Path) -> None:
    _tree, host = watched(tmp_path, source)
    pools = host.pools()
    for other in ISOLATED_FILES.keys() - {source}:
        (tmp_path / ISOLATED_FILES[other]).write_text("5-7\n")
    assert host.known_pools() is pools
    host.read_again()
    assert host.pools() is pools


def test_another_source_counts_from_the_next_look_on() -> None:
    host = host_with("isolcpus")
    for source, cpus in [*SOURCES, *SOURCES[::-1]]:
        host.use(parse_settings(options(source)))
        assert shown(host.pools()) == (cpus, cpus, None)
        assert host.known_pools() is host.pools()


def test_reading_of_one_source_is_never_used_with_the_settings_of_another(tmp_path: Path) -> None:
    """The settings may change in another thread while the host is read."""
    chosen = parse_settings(options("nohz_full"))

    class Slow(SysfsTree):
        def read_list(self, path: str) -> str | None:
            host.use(chosen)
            return super().read_list(path)

    write_tree(FILES, tmp_path)
    host = Host(Slow(tmp_path), parse_settings(options("isolcpus")))
    first = host.pools()
    assert (str(first.isolated.configured), first.settings.isolated_cpus_from) == ("1", "isolcpus")
    assert host.known_pools() is None
    assert shown(host.pools()) == ("2-3", "2-3", None)


def test_general_pool_may_not_overlap_the_cpus_of_the_source() -> None:
    general = host_with("nohz_full", cpu_pool="1,3").pools().general
    assert general is not None
    assert general.problem is not None
    assert "cpu-pool overlaps the isolated CPUs 3;" in general.problem
    general = host_with("nohz_full", cpu_pool="1,4").pools().general
    assert general is not None
    assert (str(general.eligible), general.problem) == ("1,4", None)


@pytest.mark.parametrize("files", [FILES, build(Shape(cores_per_l3=8))])
def test_unusable_source_grants_no_isolated_cpu(files: dict[str, str]) -> None:
    host = Host(RecordedSysfs(files), usable_settings(options("rubbish", cpu_pool="7")))
    pools = host.pools()
    _, eligible, problem = shown(pools)
    assert eligible == ""
    assert problem == (
        "No CPUs of pool isolated can be granted, because it is not known which ones they are:"
        " isolated-cpus-from='rubbish' is not valid: set it to 'isolcpus', 'nohz_full' or 'cpuset'"
    )
    assert pools.general is not None
    assert str(pools.general.eligible) == "7"
    (warning,) = host.warnings()
    assert warning == (
        "isolated-cpus-from='rubbish' is not valid: set it to 'isolcpus', 'nohz_full' or 'cpuset'; until this is"
        " corrected, no CPUs of pool isolated are granted"
    )


def test_source_that_may_not_be_read_grants_nothing() -> None:
    files = {path: text for path, text in FILES.items() if path != CPUSET}
    pools = Host(RecordedSysfs(files, hidden=[CPUSET]), parse_settings(options("cpuset"))).pools()
    assert pools.machine is None
    assert pools.isolated.problem == (
        f"No CPUs can be granted because the machine cannot be read: sysfs {CPUSET} is there but cannot be read; in a"
        " snap, run: sudo snap connect epa-orchestrator:topology"
    )
