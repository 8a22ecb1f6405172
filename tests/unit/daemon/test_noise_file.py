# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Noise file: baselines survive a restart, and no file stands in the way of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.daemon import noise_file
from epa_orchestrator.daemon.claim_noise import Baselines, ClaimNoise, Listened
from epa_orchestrator.state.database_files import NOISE, NOISE_PART
from tests.unit.daemon.audited import BOOTED_AT, facts_of


@pytest.fixture
def baselines() -> Baselines:
    noise = ClaimNoise()
    claims = [
        Listened("ovs", "isolated", CpuSet([2, 3]), (), BOOTED_AT + 5),
        Listened("\N{GRINNING FACE}", "general", CpuSet([1]), None, None),
    ]
    noise.listen(facts_of(ticks=(1, 2, 3, 4), eth0=(0, 0, 5, 0)), claims)
    return noise.baselines


def test_baselines_are_read_as_they_were_written(baselines: Baselines, tmp_path: Path) -> None:
    noise_file.save(tmp_path, baselines)
    assert noise_file.load(tmp_path) == baselines
    assert {path.name for path in tmp_path.iterdir()} == {NOISE}
    assert (tmp_path / NOISE).stat().st_mode & 0o777 == 0o600


def test_a_missing_file_has_no_baselines(tmp_path: Path) -> None:
    assert noise_file.load(tmp_path) == Baselines()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"{", b""),
        (b"/1", b"/2"),
        (b'"2-3"', b'"x"'),
        (b'"cpus"', b'"cpu"'),
        (b'"ipis":0', b'"ipis":null'),
        (b'"isolated"', b'"none"'),
        (b'"boot_id":', b'"boot":'),
        (b'"seconds":', b'"s":'),
        (b'"claims":2', b'"claims":3'),
        (b'"seconds":', b'"seconds":1e999,"s":'),
        (b'"seconds":', b'"seconds":' + b"[" * 100_000),
        (b'"seconds":', b'"seconds":' + b"9" * 10_000 + b',"s":'),
        (b'"ipis":0', b'"ipis":1e999'),
        (b"}\n", b"}"),
    ],
)
def test_a_damaged_file_is_started_over(old: bytes, new: bytes, baselines: Baselines, tmp_path: Path) -> None:
    noise_file.save(tmp_path, baselines)
    content = (tmp_path / NOISE).read_bytes()
    assert old in content
    (tmp_path / NOISE).write_bytes(content.replace(old, new, 1))
    assert noise_file.load(tmp_path) == Baselines()
    noise_file.save(tmp_path, baselines)
    assert noise_file.load(tmp_path) == baselines


def test_a_file_of_any_kind_is_no_error(baselines: Baselines, tmp_path: Path) -> None:
    path = tmp_path / NOISE
    os.mkfifo(path)
    assert noise_file.load(tmp_path) == Baselines()
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert noise_file.load(tmp_path) == Baselines()
    noise_file.save(tmp_path, baselines)
    assert not path.is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_is_too_large_is_not_read(
    baselines: Baselines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise_file.save(tmp_path, baselines)
    monkeypatch.setattr(noise_file, "_MOST_BYTES", 100)
    assert noise_file.load(tmp_path) == Baselines()


def test_a_part_that_a_crash_left_is_replaced(baselines: Baselines, tmp_path: Path) -> None:
    (tmp_path / NOISE_PART).symlink_to(tmp_path / "elsewhere")
    noise_file.save(tmp_path, baselines)
    assert {path.name for path in tmp_path.iterdir()} == {NOISE}


def test_a_directory_in_the_way_is_an_error(baselines: Baselines, tmp_path: Path) -> None:
    (tmp_path / NOISE_PART).mkdir()
    with pytest.raises(OSError, match="directory"):
        noise_file.save(tmp_path, baselines)


def test_baselines_of_an_unknown_boot_are_not_written(tmp_path: Path) -> None:
    noise_file.save(tmp_path, Baselines())
    assert list(tmp_path.iterdir()) == []


def test_it_rests_after_each_claim(baselines: Baselines, tmp_path: Path) -> None:
    rests: list[str] = []
    noise_file.save(tmp_path, baselines, lambda: rests.append("save"))
    noise_file.load(tmp_path, lambda: rests.append("load"))
    assert rests == ["save", "save", "load", "load"]
