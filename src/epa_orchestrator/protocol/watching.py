# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Watching: the models of the lines that a watcher gets, and their bytes on the wire.

Each line is one JSON object with the field `event`, and ends with a newline.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from epa_orchestrator.names import PoolName
from epa_orchestrator.protocol.answers import Allocation, Listing, PageRecord, PoolSummary, add_warnings


class StateEvent(Listing):
    """The first line: what a listing has, and the hugepage records."""

    event: Literal["state"] = Field(description="`state`")
    other_pool: Listing | None = Field(
        default=None,
        description="The listing of the other pool; left out when there is no general pool and no claim of one.",
    )
    hugepages: dict[str, list[PageRecord]] = Field(description="By service, its hugepage records.")


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class ClaimEvent(_Event):
    """A service's claim has changed."""

    event: Literal["claim"] = Field(description="`claim`")
    service_name: str = Field(description="The service.")
    before: Allocation | None = Field(description="Its claim before the change; `null` when it had none.")
    after: Allocation | None = Field(description="Its claim now; `null` when it has none.")
    taken_from: dict[str, str] = Field(
        description="The services that lost CPUs to this one in this change, and which, a CPU list."
    )
    taken_from_others: int = Field(
        default=0, exclude_if=operator.not_, description="How many more services lost CPUs; they are not named."
    )
    taken_by: str | None = Field(default=None, description="The service that took CPUs from this one in this change.")


class HugepagesEvent(_Event):
    """A hugepage record has changed."""

    event: Literal["hugepages"] = Field(description="`hugepages`")
    service_name: str = Field(description="The service.")
    node_id: int = Field(description="The NUMA node.")
    size_kb: int = Field(description="The size of one page in KiB.")
    before: int = Field(description="How many pages were recorded before.")
    after: int = Field(description="How many are recorded now.")


class PoolState(BaseModel):
    """What a listing says of a pool, without its claims."""

    total_available_cpus: int = Field(description="How many CPUs of the pool are eligible.")
    remaining_available_cpus: int = Field(description="How many CPUs of the pool are free.")
    cpu_pool: PoolSummary = Field(description="The CPUs of the pool.")
    outdated_placements: tuple[str, ...] = Field(description="As in a listing.")


class MachineEvent(_Event):
    """What can be granted has changed, or what an operator has to know: all of it as it is now."""

    event: Literal["machine"] = Field(description="`machine`")
    online_cpus: str = Field(description="The CPUs that are online; empty while the machine cannot be read.")
    isolated_cpus: str = Field(description="The CPUs that count as isolated.")
    pools: dict[PoolName, PoolState] = Field(description="By name, the pools; `general` only if there is one.")
    state_error: str | None = Field(default=None, description="Why the daemon serves only the reading actions.")
    warnings: tuple[str, ...] = Field(
        default=(), exclude_if=operator.not_, description="The warnings that a listing has now."
    )


WatchEvent = StateEvent | ClaimEvent | HugepagesEvent | MachineEvent


def encode(event: HugepagesEvent | MachineEvent) -> bytes:
    """A line on the wire."""
    return event.model_dump_json(exclude_none=True).encode() + b"\n"


def encode_state(listing: bytes, other_pool: bytes | None, hugepages: bytes, warnings: Sequence[str]) -> bytes:
    """The first line, from encoded listings without warnings and the encoded records of hugepages."""
    other = b"" if other_pool is None else b',"other_pool":' + other_pool
    line = b"".join((b'{"event":"state",', listing[1:-1], other, b',"hugepages":', hugepages, b"}"))
    return add_warnings(line, warnings) + b"\n"


def encode_claim(
    service: str,
    before: bytes | None,
    after: bytes | None,
    taken_from: Mapping[str, str],
    *,
    others: int = 0,
    taken_by: str | None = None,
) -> bytes:
    """The line of a changed claim; `before` and `after` are encoded `Allocation`s, None for no claim.

    `others` more services than `taken_from` names lost CPUs to this one.
    """
    more = b',"taken_from_others":%d' % others if others else b""
    taker = b"" if taken_by is None else b',"taken_by":' + to_json(taken_by)
    return b"".join(
        (
            b'{"event":"claim","service_name":',
            to_json(service),
            b',"before":',
            before or b"null",
            b',"after":',
            after or b"null",
            b',"taken_from":',
            to_json(taken_from),
            more,
            taker,
            b"}\n",
        )
    )
