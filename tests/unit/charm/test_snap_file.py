# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Which snap files are ours."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import snap_file
from snap_file import SnapFile
from tests.fake_snapd.snaps import write_snap

from .workload import error_of

ROOT = Path(__file__).parents[3]
SOCKETS = {"epa": {"listen-stream": "$SNAP_DATA/data/epa.sock"}}
HOOKS: dict[str, dict[str, Any]] = {"configure": {}, "install": {}, "post-refresh": {}}


def pack(tmp_path: Path, meta: object) -> Path:
    """A snap with this meta/snap.yaml, and nothing else."""
    stage = tmp_path / "stage" / "meta"
    stage.mkdir(parents=True)
    (stage / "snap.yaml").write_text(meta if isinstance(meta, str) else yaml.safe_dump(meta), encoding="utf-8")
    path = tmp_path / "a.snap"
    subprocess.run(["mksquashfs", str(stage.parent), str(path), "-quiet", "-no-progress"], check=True)
    return path


@pytest.mark.parametrize(
    ("content", "is_blank"),
    [(b"", True), (b"\n", True), (b" \r\n", True), (b"hsqs", False), (b"\0", False), (b" " * 65, False)],
)
def test_a_file_of_blanks_stands_for_no_snap(tmp_path: Path, content: bytes, is_blank: bool) -> None:
    path = tmp_path / "a.snap"
    path.write_bytes(content)
    assert snap_file.is_blank(path) is is_blank


def meta(**members: Any) -> dict[str, Any]:
    """What snapcraft makes of our snapcraft.yaml, with these members changed."""
    described = {"name": "epa-orchestrator", "version": "1", "apps": {"daemon": {"sockets": SOCKETS}}, "hooks": HOOKS}
    return described | members


@pytest.mark.parametrize(
    ("members", "ours"),
    [
        ({}, True),
        ({"apps": {"daemon": {"daemon": "simple"}}}, False),
        ({"apps": {"other": {"sockets": SOCKETS}}}, False),
        ({"apps": None}, False),
        ({"hooks": {"configure": {}}}, False),
        ({"hooks": ["configure", "install", "post-refresh"]}, False),
    ],
)
def test_ours_has_the_socket_and_the_hooks(members: dict[str, Any], ours: bool, tmp_path: Path) -> None:
    assert snap_file.describe(pack(tmp_path, meta(**members))) == SnapFile("1", ours)


def test_snapcraft_yaml_describes_our_snap(tmp_path: Path) -> None:
    described = yaml.safe_load((ROOT / "snap" / "snapcraft.yaml").read_text("utf-8"))
    assert snap_file.describe(pack(tmp_path, described | {"version": "1"})) == SnapFile("1", is_ours=True)


def test_older_snap_of_the_tests_is_not_ours() -> None:
    described = yaml.safe_load((ROOT / "tests" / "machine" / "older" / "meta" / "snap.yaml").read_text("utf-8"))
    assert "hooks" not in described


@pytest.mark.parametrize("text", ["name: other", "- a", "{", "a: &a [*a]", ""])
def test_other_description_is_no_snap_of_ours(text: str, tmp_path: Path) -> None:
    assert snap_file.describe(pack(tmp_path, text)) is None


def test_file_that_is_no_snap_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.snap").write_bytes(b"rubbish")
    assert snap_file.describe(tmp_path / "a.snap") is None
    assert snap_file.describe(tmp_path / "missing.snap") is None
    assert snap_file.describe(tmp_path) is None


@pytest.mark.parametrize("text", ["!!bool x", "!!int ''", "!!timestamp x", "59:" * 400 + "59.5", "<<"])
def test_values_that_yaml_cannot_convert_are_text(text: str, tmp_path: Path) -> None:
    described = yaml.safe_dump(meta()) + f"more: {text}\n"
    assert snap_file.describe(pack(tmp_path, described)) == SnapFile("1", is_ours=True)


def test_version_is_text_as_it_is_written(tmp_path: Path) -> None:
    assert snap_file.describe(pack(tmp_path, "name: epa-orchestrator\nversion: 1.10")) == SnapFile(
        "1.10", is_ours=False
    )


def test_merge_keys_are_not_followed(tmp_path: Path) -> None:
    lines = ["name: epa-orchestrator", "m0: &m0 {key: value}"]
    lines += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    start = time.monotonic()
    assert snap_file.describe(pack(tmp_path, "\n".join(lines))) == SnapFile("", is_ours=False)
    assert time.monotonic() - start < 5


def test_description_that_is_too_long_is_no_snap_of_ours(tmp_path: Path) -> None:
    described = yaml.safe_dump(meta()) + "#" * (64 * 1024 * 1024)
    assert snap_file.describe(pack(tmp_path, described)) is None


def test_unsquashfs_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unsquashfs").write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    (tmp_path / "unsquashfs").chmod(0o755)
    monkeypatch.setattr(snap_file, "_UNSQUASHFS", str(tmp_path / "unsquashfs"))
    monkeypatch.setattr(snap_file, "_TIMEOUT", 0.2)
    start = time.monotonic()
    assert snap_file.describe(tmp_path / "a.snap") is None
    assert time.monotonic() - start < 10


def test_missing_unsquashfs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snap_file, "_UNSQUASHFS", str(tmp_path / "missing"))
    assert error_of(lambda: snap_file.describe(write_snap(tmp_path / "a.snap", "1"))) == (
        f"{tmp_path}/missing is missing: run 'sudo apt install squashfs-tools'"
    )
