# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Control groups: units and snaps as systemd makes them, and none that a user or a container could have made."""

from __future__ import annotations

import pytest

from epa_orchestrator.control_groups import cgroup_path, snap_of_unit, unit_of


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/ovs.service\n", "ovs.service"),
        ("0::/system.slice/snap.nova.api.service\n", "snap.nova.api.service"),
        ("0::/system.slice/system-x.slice/x@1.service/payload\n", "x@1.service"),
        ("0::/user.slice/user-0.slice/session-4.scope\n", "session-4.scope"),
        ("0::/init.scope\n", "init.scope"),
        ("0::/machine.slice/machine-a\\x2db.scope/system.slice/ovs.service\n", "machine-a\\x2db.scope"),
        # What a process with a subtree of its own makes in it is not its unit.
        ("0::/system.slice/docker.service/root.service\n", "docker.service"),
        # systemd-run --user --unit=snap.nova.compute, which any user may run.
        ("0::/user.slice/user-1.slice/user@1.service/app.slice/snap.nova.compute.service\n", "user@1.service"),
        # Root in a container has made these.
        ("0::/lxc.payload.c1/system.slice/nova-compute.service\n", None),
        ("0::/docker/0a1b/system.slice/nova-compute.service\n", None),
        ("0::/kubepods/besteffort/pod1/nova-compute.service\n", None),
        ("0::/../system.slice/nova-compute.service\n", None),
        ("0::/system.slice/x, pid 1.service\n", None),
        ("0::/system.slice\n", None),
        ("9:name=systemd:/system.slice/a.service\n1:cpu:/x.service\n0::/\n", "a.service"),
        ("1:cpu:/x.service\n0::/system.slice/b.service\n", "b.service"),
        ("0::/\n", None),
        ("", None),
        ("rubbish\n::\n:::\n", None),
    ],
)
def test_the_unit_of_a_control_group(cgroups: str, unit: str | None) -> None:
    assert unit_of(cgroups) == unit


@pytest.mark.parametrize(
    ("unit", "snap"),
    [
        ("snap.nova.api.service", "nova"),
        ("snap.nova_blue.api.service", "nova_blue"),
        ("snap.juju.juju-0a1b.scope", "juju"),
        ("snap.nova", None),
        ("ovs.service", None),
        ("x-snap.nova.api.service", None),
    ],
)
def test_the_snap_of_a_unit(unit: str, snap: str | None) -> None:
    assert snap_of_unit(unit) == snap


def test_the_path_is_that_of_systemds_hierarchy() -> None:
    assert cgroup_path("9:name=systemd:/a/b\n3:cpuset:/c\n0::/d\n") == "/a/b"
    assert cgroup_path("3:cpuset:/c\n0::/d:e\n") == "/d:e"


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_a_name_that_looks_like_a_line_is_still_a_name(end: str) -> None:
    forged = f"/user.slice/user-1.slice/user@1.service/x{end}1:name=systemd:/system.slice/snap.nova.api.service"
    assert cgroup_path(f"0::{forged}\n") == forged
    assert unit_of(f"0::{forged}\n") == "user@1.service"
    assert unit_of(f"4:memory:{forged}\n1:name=systemd:/system.slice/a.service\n0::/\n") == "a.service"
