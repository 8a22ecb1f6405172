# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Control groups: finds a process's systemd unit and snap in its /proc/PID/cgroup, by names that no user can choose.

Only the system's own systemd makes control groups that are inside nothing but slices. What is inside other groups is
made by users and containers, who may give it any name.
"""

from __future__ import annotations

import re
from typing import Final

#: A snap's name, with the key of a parallel instance, and the dot before its app or hook, in a unit or AppArmor label.
SNAP: Final = r"snap\.(?P<name>[a-z0-9-]{1,40}(?:_[a-z0-9]{1,10})?)\."
_SNAP_UNIT: Final = re.compile(rf"{SNAP}.+")
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(?:service|scope)")
_SLICE: Final = ".slice"


def unit_of(cgroups: str) -> str | None:
    """The systemd unit of a process, from the text of its /proc/PID/cgroup."""
    return unit_of_path(cgroup_path(cgroups))


def unit_of_path(path: str) -> str | None:
    """The systemd unit that a control group belongs to: the outermost one, inside nothing but slices."""
    parts = path.removeprefix("/").split("/")
    outermost = next((part for part in parts if not part.endswith(_SLICE)), "")
    return outermost if _UNIT.fullmatch(outermost) else None


def snap_of_unit(unit: str) -> str | None:
    """The snap whose app or hook runs in a systemd unit, such as `nova` for `snap.nova.api.service`."""
    found = _SNAP_UNIT.fullmatch(unit)
    return found["name"] if found else None


def cgroup_path(cgroups: str) -> str:
    """The path in the hierarchy that systemd uses: that of version 2, or the one that is named after it.

    Of all characters that end a line for Python, the kernel keeps only a line feed out of the names of control groups.
    """
    version_2 = ""
    for line in cgroups.rstrip("\n").split("\n"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "name=systemd":
            return path
        if not controllers:
            version_2 = path
    return version_2
