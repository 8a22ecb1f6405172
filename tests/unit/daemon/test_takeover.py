# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Takeover: what the first start leaves out of the older daemon's state, and what a later state is said to be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon.takeover import first_start, later_state
from epa_orchestrator.state.errors import LegacyStateError
from epa_orchestrator.state.loading import load

NOVA = Claim("nova", "isolated", CpuSet([2]), CpuSet(), "legacy")


def write(path: Path, cpus: dict[str, str], pages: dict[str, int] | None = None) -> Path:
    records = {service: [{"node_id": 0, "size_kb": 2048, "count": count}] for service, count in (pages or {}).items()}
    path.write_text(
        json.dumps({"version": 1, "allocations_db": {"allocations": cpus}, "hugepages_db": {"allocations": records}})
    )
    return path


def test_first_start_without_an_older_state_warns_of_nothing(tmp_path: Path) -> None:
    assert first_start(tmp_path / "state.db", tmp_path / "state.json") == ()
    assert load(tmp_path / "state.db").created is not None


def test_first_start_names_what_it_leaves_out(tmp_path: Path) -> None:
    older = write(tmp_path / "state.json", {"nova": "2", "": "4-5"}, {"ovs": -5})
    assert first_start(tmp_path / "state.db", older) == (
        f"{older}: not imported: the claim of service '' on CPUs '4-5', because its name is empty",
        f"{older}: not imported: a hugepage record of service 'ovs', because its count is -5",
    )
    assert set(load(tmp_path / "state.db").ledger.claims) == {"nova"}


def test_first_start_names_eight_records_at_most(tmp_path: Path) -> None:
    older = write(tmp_path / "state.json", {}, {f"service-{number}": 0 for number in range(30)})
    warnings = first_start(tmp_path / "state.db", older)
    assert len(warnings) == 9
    assert warnings[-1].endswith("not imported: 22 more records")


def test_first_start_makes_no_database_of_a_bad_state(tmp_path: Path) -> None:
    older = write(tmp_path / "state.json", {"": "1", "nova": "2-x"})
    with pytest.raises(LegacyStateError, match=r"was not imported, because .*'nova' is not a CPU list"):
        first_start(tmp_path / "state.db", older)
    assert not (tmp_path / "state.db").exists()


def test_later_state_is_named_with_the_services_that_hold_nothing_here(tmp_path: Path) -> None:
    older = write(tmp_path / "state.json", {"nova": "2", "ceph": "3", "ovs": "4"})
    (warning,) = later_state(older, os.stat(older).st_mtime - 1, {"nova": NOVA})
    assert f"{older} was written after this daemon took over" in warning
    assert "It names services that hold no CPUs here: 'ceph', 'ovs'." in warning
    assert "then remove the file" in warning


def test_later_state_names_three_services_at_most(tmp_path: Path) -> None:
    older = write(tmp_path / "state.json", {f"s{number}\x1b": str(number) for number in range(9)})
    (warning,) = later_state(older, 0.0, {})
    assert (
        "'s0\N{REPLACEMENT CHARACTER}', 's1\N{REPLACEMENT CHARACTER}', 's2\N{REPLACEMENT CHARACTER}' and 6 more"
        in warning
    )
    assert warning.isprintable()


def test_state_from_before_the_takeover_is_not_named(tmp_path: Path) -> None:
    older = write(tmp_path / "state.json", {"ceph": "3"})
    assert later_state(older, os.stat(older).st_mtime, {}) == ()
    assert later_state(tmp_path / "missing", 0.0, {}) == ()
    assert later_state(tmp_path / "state.json" / "below", 0.0, {}) == ()


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unreadable(path: Path) -> None:
    path.write_bytes(b"[" * 200_000)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, sparse, link, unreadable])
def test_hostile_file_is_named_without_its_content(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "state.json")
    (warning,) = later_state(tmp_path / "state.json", 0.0, {})
    assert "may be granted again. Restart the services" in warning
