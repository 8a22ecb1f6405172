# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Option values: the types of options that are more than a number or a word, read as people and snapd write them."""

from __future__ import annotations

import re
from typing import Annotated, Final, NamedTuple, cast

from pydantic import BeforeValidator, Field

from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.units import format_size, parse_size

#: The value of `cpu-pool` that means no general pool: the name of the default in the older snap.
_NO_GENERAL_POOL: Final = "isolated"

#: Blanks next to a dash or a comma, which people write in CPU lists and the kernel does not.
_BLANKS: Final = re.compile(r"\s*([-,])\s*", re.ASCII)

_AN_OWNER_CGROUP: Final = "service=cgroup, such as openstack-hypervisor=machine.slice"


class ReservedHugepages(NamedTuple):
    """The number of hugepages of `size_kb` KiB on a node that are never granted."""

    node_id: int
    size_kb: int
    pages: int

    def __str__(self) -> str:
        """As people write it: `0:2M:16`."""
        return f"{self.node_id}:{format_size(self.size_kb)}:{self.pages}"


class OwnerCgroup(NamedTuple):
    """A control group where a service's processes run; `cgroup` is its path below the root, without outer slashes."""

    service: str
    cgroup: str

    def __str__(self) -> str:
        """As people write it: `ceph-osd=system.slice/ceph-osd.slice`."""
        return f"{self.service}={self.cgroup}"


#: libvirt's virtual machines run there, and not under the snap that asks for their CPUs.
HYPERVISOR_CGROUPS: Final = (OwnerCgroup("openstack-hypervisor", "machine.slice"),)


def as_written(value: object) -> object:
    """The value of an option as people write it: sets and lists are texts."""
    if isinstance(value, CpuSet):
        return str(value)
    if isinstance(value, tuple):
        return ",".join(map(str, cast("tuple[object, ...]", value)))
    return value


def _cpu_list(value: object) -> CpuSet:
    """A CPU list; a lone CPU may come as a number, which is what `snap set cpu-pool=4` stores."""
    if isinstance(value, CpuSet):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("give a CPU list such as 2-5,8")
    return CpuSet.parse(_BLANKS.sub(r"\1", value))


def _cpu_pool(value: object) -> CpuSet:
    return EMPTY if isinstance(value, str) and value.strip() == _NO_GENERAL_POOL else _cpu_list(value)


def _reserved_hugepages(value: object) -> tuple[ReservedHugepages, ...]:
    if isinstance(value, tuple):
        return cast("tuple[ReservedHugepages, ...]", value)
    if not isinstance(value, str):
        raise ValueError("give node:size:count, separated by commas, such as 0:2M:16")
    entries = [_reserved_entry(item) for item in value.split(",")] if value.strip() else []
    if len({(entry.node_id, entry.size_kb) for entry in entries}) < len(entries):
        raise ValueError("a node and size is named twice")
    return tuple(entries)


def _reserved_entry(text: str) -> ReservedHugepages:
    try:
        node_id, size, pages = map(str.strip, text.split(":"))
        size_kb = _number(size) if size.isdecimal() else parse_size(size)
        return ReservedHugepages(_number(node_id), size_kb, _number(pages))
    except ValueError:
        raise ValueError(f"'{text[:40]}' is not node:size:count, such as 0:2M:16") from None


def _owner_cgroups(value: object) -> tuple[OwnerCgroup, ...]:
    """Services with their control groups, as text with commas or as a list; a service may have several."""
    if isinstance(value, str):
        value = value.split(",") if value.strip() else []
    if not isinstance(value, list | tuple):
        raise ValueError(f"give {_AN_OWNER_CGROUP}, separated by commas")
    return tuple(dict.fromkeys(map(_owner_cgroup, cast("list[object]", value))))


def _owner_cgroup(value: object) -> OwnerCgroup:
    if isinstance(value, OwnerCgroup):
        return value
    service, _, path = value.partition("=") if isinstance(value, str) else ("", "", "")
    service, path = service.strip(), path.strip()
    cgroup = path.strip("/")
    if not (service and cgroup):
        raise ValueError(f"'{str(value)[:80]}' is not {_AN_OWNER_CGROUP}")
    if not f"{service}{cgroup}".isprintable():
        raise ValueError(f"the cgroup of '{service[:80]}' has control characters: give {_AN_OWNER_CGROUP}")
    if any(name in ("", ".", "..") for name in cgroup.split("/")):
        raise ValueError(f"'{path[:80]}' is no path of a cgroup: give {_AN_OWNER_CGROUP}")
    return OwnerCgroup(service, cgroup)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise ValueError("this is no number that an option can have")
    return int(text)


def _ids(value: object) -> tuple[object, ...]:
    """Ids as a JSON list; a lone one may come as a number and several as text, which is what `snap set` stores."""
    if isinstance(value, str):
        value = [int(word) if word.strip().isdecimal() else word for word in value.split(",") if word.strip()]
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ValueError("give a list of numeric ids such as [1000, 1001]")
    return tuple(cast("list[object]", value))


CpuList = Annotated[CpuSet, BeforeValidator(_cpu_list)]
CpuPool = Annotated[CpuSet, BeforeValidator(_cpu_pool)]
Ids = Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], BeforeValidator(_ids)]
ReservedPages = Annotated[tuple[ReservedHugepages, ...], BeforeValidator(_reserved_hugepages)]
OwnerCgroups = Annotated[tuple[OwnerCgroup, ...], BeforeValidator(_owner_cgroups)]
