# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The build of the pages: a broken link fails it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import build_docs


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "docs"
    directory.mkdir()
    shutil.copy(build_docs.SOURCES / "conf.py", directory)
    shutil.copytree(build_docs.SOURCES / "_static", directory / "_static")
    monkeypatch.setattr(build_docs, "SOURCES", directory)
    monkeypatch.setenv("PYTHONPATH", str(build_docs.ROOT / "src"))
    return directory


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("# Title\n\nA [link](#title).\n", 0),
        ("# Title\n\nA [link](missing.md).\n", 1),
        ("# Title\n\nA [link](#missing).\n", 1),
    ],
)
def test_only_pages_whose_links_lead_somewhere_are_built(sources: Path, text: str, code: int) -> None:
    (sources / "index.md").write_text(text)
    assert build_docs.build(sources.parent / "pages") == code


def test_a_page_that_no_other_leads_to_is_an_error(sources: Path) -> None:
    (sources / "index.md").write_text("# Title\n")
    (sources / "alone.md").write_text("# Alone\n")
    assert build_docs.build(sources.parent / "pages") == 1
