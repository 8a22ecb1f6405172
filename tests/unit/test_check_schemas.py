# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import check_schemas

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with copies of the checked files, in place of the repository."""
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    (tmp_path / "snap").mkdir()
    for name in ("snap/snapcraft.yaml", ".readthedocs.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(check_schemas, "ROOT", tmp_path)
    return tmp_path


def test_all_files_are_good(copy: Path) -> None:
    assert check_schemas.main() == 0


#: A mistake in each file: the file, what is replaced with what, and what the complaint names.
MISTAKES = (
    (".github/workflows/ci.yaml", "runs-on:", "runson:", "'runson'"),
    (".github/workflows/integration.yaml", "persist-credentials: false", "fetch-depth: 1", "artipacked"),
    (".github/workflows/promote.yaml", '"$FROM"', '"${{ inputs.from }}"', "template-injection"),
    (".github/dependabot.yaml", "interval: monthly", "interval: often", "'often'"),
    (".github/ISSUE_TEMPLATE/bug.yaml", "type: dropdown", "type: menu", "menu"),
    (".github/ISSUE_TEMPLATE/config.yaml", "about:", "says:", "'says'"),
    ("snap/snapcraft.yaml", "confinement: strict", "confinement: tight", "'tight'"),
)


def test_each_mistake_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, good, bad, _ in MISTAKES:
        text = (copy / name).read_text("utf-8")
        assert good in text
        (copy / name).write_text(text.replace(good, bad, 1), encoding="utf-8")
    assert check_schemas.main() == 1
    complaints = capsys.readouterr().err
    assert [complaint for *_, complaint in MISTAKES if complaint not in complaints] == []


def test_missing_file_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / ".github/dependabot.yaml").unlink()
    assert check_schemas.main() == 1
    assert "no file is there for the schema vendor.dependabot" in capsys.readouterr().err
