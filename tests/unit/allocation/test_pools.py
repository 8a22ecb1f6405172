# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The two pools: what is configured, what of it is eligible, and when nothing can be granted from one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.allocation.pools import Pools, build_pools
from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.allocation.usable_settings import usable_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.hardware.machine import Machine
from tests.machines import made_up
from tools.synthetic import Shape

#: What a shipped hypervisor looks for in the refusal, to know that this host has no pinning.
NO_PINNING = "No Isolated CPUs configured"


def pools_of(shape: Shape, **options: object) -> Pools:
    """The pools of a made-up machine under some settings."""
    chosen = parse_settings({name.replace("_", "-"): value for name, value in options.items()})
    return build_pools(made_up(shape), None, chosen)


def test_isolated_is_what_the_kernel_isolates() -> None:
    pools = pools_of(Shape(cores_per_l3=8, isolated="2-5"))
    assert (pools.isolated.name, pools.isolated.source) == ("isolated", "isolated")
    assert str(pools.isolated.configured) == "2-5"
    assert str(pools.isolated.eligible) == "2-5"
    assert pools.isolated.problem is None


def test_offline_cpus_are_configured_but_not_eligible() -> None:
    pools = pools_of(Shape(cores_per_l3=8, isolated="2-5", offline="3,7"), cpu_pool="6-7")
    assert str(pools.isolated.configured) == "2-5"
    assert str(pools.isolated.eligible) == "2,4-5"
    assert pools.general is not None
    assert str(pools.general.configured) == "6-7"
    assert str(pools.general.eligible) == "6"
    assert pools.general.problem is None


def test_without_isolated_cpus_there_is_no_capacity_and_no_fallback() -> None:
    pools = pools_of(Shape(cores_per_l3=8))
    assert pools.isolated.configured == pools.isolated.eligible == EMPTY
    assert pools.isolated.problem == f"No CPUs available: {NO_PINNING}"
    assert pools.general is None
    assert pools.eligible == EMPTY


def test_isolated_cpus_that_the_machine_does_not_have_are_not_eligible() -> None:
    pools = pools_of(Shape(cores_per_l3=4, isolated="2-9"))
    assert str(pools.isolated.configured) == "2-9"
    assert str(pools.isolated.eligible) == "2-3"


def test_there_is_no_general_pool_unless_configured() -> None:
    pools = pools_of(Shape(cores_per_l3=8, isolated="2-5"))
    assert pools.general is None
    assert pools.get("general") is None
    assert pools.get("isolated") is pools.isolated


def test_the_general_pool_is_what_the_operator_configured() -> None:
    pools = pools_of(Shape(cores_per_l3=8, isolated="2-3"), cpu_pool="4-6")
    general = pools.get("general")
    assert general is not None
    assert general is pools.general
    assert (general.name, general.source) == ("general", "configured")
    assert str(general.configured) == str(general.eligible) == "4-6"
    assert general.problem is None
    assert pools.isolated.problem is None
    assert str(pools.eligible) == "2-6"


def test_the_general_pool_works_without_isolated_cpus() -> None:
    pools = pools_of(Shape(cores_per_l3=4), cpu_pool="1-3")
    assert pools.general is not None
    assert pools.general.problem is None
    assert NO_PINNING in str(pools.isolated.problem)
    assert str(pools.eligible) == "1-3"


def test_a_general_pool_that_overlaps_the_isolated_cpus_grants_nothing() -> None:
    pools = pools_of(Shape(cores_per_l3=8, isolated="2-5"), cpu_pool="4-7")
    assert pools.general is not None
    assert pools.general.eligible == EMPTY
    problem = str(pools.general.problem)
    assert problem.startswith("No CPUs available in pool general")
    assert "4-5" in problem
    assert "cpu-pool" in problem
    assert pools.isolated.problem is None
    assert str(pools.isolated.eligible) == "2-5"


@pytest.mark.parametrize(("shape", "pool"), [(Shape(offline="2-3"), "2-3"), (Shape(), "100-107")])
def test_a_general_pool_without_online_cpus_has_no_capacity(shape: Shape, pool: str) -> None:
    general = pools_of(shape, cpu_pool=pool).general
    assert general is not None
    assert str(general.configured) == pool
    assert general.eligible == EMPTY
    assert str(general.problem).startswith("No CPUs available in pool general")


def test_reserved_cpus_are_taken_out_of_every_pool() -> None:
    pools = pools_of(Shape(cores_per_l3=8, isolated="0-3"), cpu_pool="4-7", reserved_cpus="0-1,7")
    assert str(pools.isolated.configured) == str(pools.isolated.eligible) == "2-3"
    assert pools.general is not None
    assert str(pools.general.configured) == str(pools.general.eligible) == "4-6"


def test_reserving_all_isolated_cpus_leaves_no_capacity() -> None:
    pools = pools_of(Shape(cores_per_l3=8, isolated="2-5"), reserved_cpus="0-7")
    assert pools.isolated.configured == EMPTY
    assert NO_PINNING in str(pools.isolated.problem)


def test_an_overlap_that_is_reserved_is_none() -> None:
    """A CPU that no pool has cannot be in two of them."""
    pools = pools_of(Shape(cores_per_l3=8, isolated="2-5"), cpu_pool="5-7", reserved_cpus="5")
    assert pools.general is not None
    assert pools.general.problem is None
    assert str(pools.general.eligible) == "6-7"
    assert str(pools.isolated.eligible) == "2-4"


@pytest.mark.parametrize("pool", ["", "4-7"])
def test_of_an_unreadable_machine_the_pools_are_empty_and_say_why(pool: str) -> None:
    pools = build_pools(None, "sysfs is gone", parse_settings({"cpu-pool": pool, "reserved-cpus": "7"}))
    assert pools.machine is None
    assert pools.isolated.configured == pools.isolated.eligible == EMPTY
    assert pools.isolated.problem == "sysfs is gone"
    assert not pools.isolated.eligible
    assert pools.eligible == EMPTY
    if not pool:
        assert pools.general is None
        return
    assert pools.general is not None
    assert str(pools.general.configured) == "4-6"
    assert pools.general.eligible == EMPTY
    assert pools.general.problem == "sysfs is gone"


def test_topologies_cover_the_eligible_cpus_of_each_pool() -> None:
    shape = Shape(packages=2, cores_per_l3=4, isolated="1-2,5-6", offline="6")
    pools = pools_of(shape, cpu_pool="3,7")
    assert pools.general is not None
    covered = [
        CpuSet.from_mask(sum(node.cpus for node in pool.topology().nodes.values()))
        for pool in (pools.isolated, pools.general)
    ]
    assert covered == [CpuSet([1, 2, 5]), CpuSet([3, 7])]


def test_a_reserved_thread_makes_its_core_a_shared_one() -> None:
    shape = Shape(cores_per_l3=2, threads_per_core=2, isolated="0-3")
    (cell,) = pools_of(shape, reserved_cpus="2").isolated.topology().cells
    assert sorted(map(CpuSet.from_mask, cell.cores), key=str) == [CpuSet([0, 2]), CpuSet([1, 3])]
    assert CpuSet.from_mask(cell.cpus) == CpuSet([0, 1, 3])


def test_a_claimed_cpu_outside_of_all_pools_makes_its_core_a_shared_one() -> None:
    machine = made_up(Shape(cores_per_l3=2, threads_per_core=2, isolated="0-1", offline="2-3"))
    known = {1: 0b1010, 3: 0b1010}
    pool = build_pools(machine, None, parse_settings({}), known).isolated
    alone, shared = pool.topology().cells[0], pool.topology(CpuSet([3])).cells[0]
    assert {CpuSet.from_mask(core) for core in alone.cores} == {CpuSet([0]), CpuSet([1])}
    assert {CpuSet.from_mask(core) for core in shared.cores} == {CpuSet([0]), CpuSet([1, 3])}


def test_the_operating_system_has_what_is_online_and_in_no_pool() -> None:
    shape = Shape(cores_per_l3=4, threads_per_core=2, isolated="4-5", offline="3")
    pools = pools_of(shape, cpu_pool="6", reserved_cpus="0,5")
    assert pools.general is not None
    assert str(pools.isolated.system) == str(pools.general.system) == "1-2,7"
    assert str(pools.isolated.neighbours) == "0-2,5-7"
    assert str(pools.general.neighbours) == "0-2,4-5,7"


def test_a_thread_of_the_operating_system_makes_its_core_a_shared_one() -> None:
    pool = pools_of(Shape(cores_per_l3=2, threads_per_core=2, isolated="0-1,3")).isolated
    assert {CpuSet.from_mask(core) for core in pool.topology().cells[0].cores} == {CpuSet([0, 2]), CpuSet([1, 3])}
    assert CpuSet.from_mask(pool.topology().system) == CpuSet([2])


def test_a_topology_is_built_once() -> None:
    pool = pools_of(Shape(cores_per_l3=4, isolated="0-1")).isolated
    assert pool.topology() is pool.topology(CpuSet([0, 1]))
    assert pool.topology(CpuSet([3])) is pool.topology(CpuSet([1, 3]))


def test_the_unconfigured_general_pool_grants_nothing() -> None:
    pools = pools_of(Shape(isolated="1-2"))
    assert (pools.unconfigured.name, pools.unconfigured.eligible) == ("general", EMPTY)
    assert pools.unconfigured.problem == "No CPUs available in pool general: cpu-pool is not configured"


CPUS = st.frozensets(st.integers(0, 11), max_size=12)


@settings(deadline=None)
@given(isolated=CPUS, online=CPUS.filter(bool), pool=CPUS, reserved=CPUS)
def test_pools_are_disjoint_and_online_and_leave_out_what_is_reserved(
    isolated: frozenset[int], online: frozenset[int], pool: frozenset[int], reserved: frozenset[int]
) -> None:
    machine = Machine(CpuSet(range(12)), CpuSet(online), CpuSet(isolated), (), (), (), ())
    chosen = Settings.model_validate({"cpu-pool": CpuSet(pool), "reserved-cpus": CpuSet(reserved)})
    pools = build_pools(machine, None, chosen)
    assert set(pools.isolated.configured) == isolated - reserved
    assert set(pools.isolated.eligible) == (isolated - reserved) & online
    assert (pools.general is None) == (not pool)
    if pools.general is not None:
        overlap = (pool - reserved) & isolated
        assert set(pools.general.configured) == pool - reserved
        assert set(pools.general.eligible) == (set() if overlap else (pool - reserved) & online)
        assert (pools.general.problem is None) == bool(pools.general.eligible)
        assert not pools.general.eligible & pools.isolated.eligible


# --- unusable options ---


def pools_with_mistakes(options: dict[str, object]) -> Pools:
    """The pools of a machine with isolated CPUs 2-5."""
    return build_pools(made_up(Shape(cores_per_l3=8, isolated="2-5")), None, usable_settings(options))


def test_no_pool_grants_cpus_while_the_reserved_ones_are_not_known() -> None:
    pools = pools_with_mistakes({"reserved-cpus": "x", "cpu-pool": "6-7"})
    assert pools.general is not None
    for pool in (pools.isolated, pools.general):
        assert pool.configured
        assert pool.eligible == EMPTY
        assert str(pool.problem).startswith("No CPUs can be granted, because the reserved ones are not known: reserved")
        assert NO_PINNING not in str(pool.problem)
    assert len(pools.warnings) == 1


def test_unusable_cpu_pool_is_a_general_pool_that_grants_nothing() -> None:
    pools = pools_with_mistakes({"cpu-pool": "x"})
    assert pools.general is not None
    assert pools.general.configured == pools.general.eligible == EMPTY
    assert str(pools.general.problem).startswith("No CPUs available in pool general: cpu-pool='x' is not valid")
    assert str(pools.isolated.eligible) == "2-5"
    assert len(pools.warnings) == 1


def test_host_without_isolated_cpus_says_so_even_while_the_reserved_ones_are_not_known() -> None:
    pools = build_pools(made_up(Shape(cores_per_l3=8)), None, usable_settings({"reserved-cpus": "x"}))
    assert NO_PINNING in str(pools.isolated.problem)


@pytest.mark.parametrize(
    ("pool", "warnings"),
    [
        ("6-7", ()),
        ("0,8", ("cpu-pool names CPUs 8, which this machine does not have: remove them from cpu-pool",)),
        (
            "5-6",
            ("No CPUs available in pool general: cpu-pool overlaps the isolated CPUs 5; take them out of cpu-pool",),
        ),
        ("8-9", ("cpu-pool names CPUs 8-9, which this machine does not have: remove them from cpu-pool",)),
    ],
)
def test_warnings_name_what_is_wrong_with_cpu_pool(pool: str, warnings: tuple[str, ...]) -> None:
    assert pools_of(Shape(cores_per_l3=8, isolated="2-5"), cpu_pool=pool).warnings == warnings


def test_machine_that_cannot_be_read_gives_no_warning_about_cpu_pool() -> None:
    assert build_pools(None, "unreadable", parse_settings({"cpu-pool": "0,99"})).warnings == ()


def test_warning_about_an_offline_general_pool_names_the_cpus_and_the_remedy() -> None:
    assert pools_of(Shape(cores_per_l3=8, offline="6-7"), cpu_pool="6-7").warnings == (
        "No CPUs available in pool general: CPUs 6-7 are offline (bring them online); or name others in cpu-pool",
    )


def test_warning_about_a_general_pool_names_its_reserved_cpus_too() -> None:
    (warning,) = pools_of(Shape(cores_per_l3=8, offline="6"), cpu_pool="4-6", reserved_cpus="4-5").warnings
    assert "CPU 6 is offline (bring them online) and CPUs 4-5 are reserved (take them out of reserved-cpus);" in warning
