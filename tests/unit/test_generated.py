# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Generated files are written, or with --check only compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import generated


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, str]:
    """A file that is up to date, and one that is not there."""
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    (tmp_path / "fresh").write_text("1")
    return {tmp_path / "fresh": "1", tmp_path / "stale": "2"}


def run(monkeypatch: pytest.MonkeyPatch, texts: dict[Path, str], *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["write.py", *words])
    return generated.write_or_check("write.py", None, texts)


def test_stale_file_is_written(
    texts: dict[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, texts) == 0
    assert capsys.readouterr().out == "wrote stale\n"
    assert run(monkeypatch, texts, "--check") == 0


def test_check_names_a_stale_file_and_leaves_it(
    texts: dict[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, texts, "--check") == 1
    assert capsys.readouterr().out == "stale is not up to date: run python tools/write.py\n"
    assert [path.exists() for path in texts] == [True, False]
