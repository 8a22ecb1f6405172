# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Noise file: keeps the baselines of claims' noise next to the database, so that they survive a restart of the daemon.

Nothing depends on it: a file that is damaged, foreign, too large or missing is started over, and one that cannot be
written is left out. It is not synced, because the counters begin again at the next boot.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon.claim_noise import Baseline, Baselines
from epa_orchestrator.errors import EpaError
from epa_orchestrator.files import read_regular_file
from epa_orchestrator.isolation.facts import go_on
from epa_orchestrator.isolation.noise import Noise
from epa_orchestrator.names import MAX_NAME_LENGTH, PoolName
from epa_orchestrator.state.database_files import NOISE, NOISE_PART

#: 2,000 claims with a hundred devices each have 6 MB.
_MOST_BYTES: Final = 16 << 20

#: Until the end of the year 9999.
_Seconds = Annotated[float, Field(ge=0, lt=253_402_300_800, allow_inf_nan=False)]
_Text = Annotated[str, Field(max_length=MAX_NAME_LENGTH)]


class _Entry(BaseModel):
    """The baseline of one claim."""

    model_config = ConfigDict(strict=True)

    service: _Text
    pool: PoolName
    cpus: str
    asked_at: _Seconds | None
    since: _Seconds
    noise: dict[str, Any]


class _Head(BaseModel):
    """The first line of the file; each of the others is an entry."""

    model_config = ConfigDict(strict=True)

    format: Literal["epa-orchestrator-noise/1"] = "epa-orchestrator-noise/1"
    boot_id: _Text
    claims: int


def load(directory: Path, rest: Callable[[], None] = go_on) -> Baselines:
    """The baselines in a state directory; none where they cannot be used. `rest` is called after each of them."""
    try:
        content = read_regular_file(directory / NOISE, _MOST_BYTES, follow_link=False)
        first, *lines = content.removesuffix(b"\n").split(b"\n")
        head = _Head.model_validate_json(first)
        if len(lines) != head.claims:
            return Baselines()
        found = Baselines(head.boot_id)
        for line in lines:
            entry = _Entry.model_validate_json(line)
            found.of[entry.service] = _baseline(entry)
            rest()
    except (OSError, EpaError, ValueError):
        return Baselines()
    return found


def save(directory: Path, baselines: Baselines, rest: Callable[[], None] = go_on) -> None:
    """Write the baselines to a state directory; those of an unknown boot are of no use later.

    `rest` is called after each of them. Raises OSError.
    """
    if baselines.boot_id is None:
        return
    # One line after the other, because no other thread runs while one is encoded.
    lines = [_Head(boot_id=baselines.boot_id, claims=len(baselines.of)).model_dump_json()]
    for service, baseline in baselines.of.items():
        lines.append(_entry(service, baseline).model_dump_json())
        rest()
    part = directory / NOISE_PART
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.writelines(f"{line}\n".encode() for line in lines)
    part.replace(directory / NOISE)


def _baseline(entry: _Entry) -> Baseline:
    noise = Noise.from_document(entry.noise)
    return Baseline(entry.pool, CpuSet.parse(entry.cpus), entry.asked_at, entry.since, noise)


def _entry(service: str, baseline: Baseline) -> _Entry:
    return _Entry.model_construct(
        None,
        service=service,
        pool=baseline.pool,
        cpus=str(baseline.cpus),
        asked_at=baseline.asked_at,
        since=baseline.since,
        noise=baseline.noise.document(),
    )
