# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Links: those between the project's files lead to a file and a heading."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_links import REPOSITORY, broken_links, documents, headings_of, links_in


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "other.md").write_text("# A title\n\n## `code` and more\n")
    (tmp_path / "docs" / "picture.svg").write_text("<svg/>")
    return tmp_path


@pytest.mark.parametrize(
    ("link", "mistake"),
    [
        ("../other.md", None),
        ("../other.md#a-title", None),
        ("../other.md#code-and-more", None),
        ("../other.md#another-title", "leads to no heading"),
        ("../missing.md", "leads to no file"),
        ("picture.svg", None),
        ("#here", None),
        ("#there", "leads to no heading"),
        (f"{REPOSITORY}/blob/main/other.md#a-title", None),
        (f"{REPOSITORY}/blob/main/other.md#b", "leads to no heading"),
        (f"{REPOSITORY}/tree/main/docs", None),
        (f"{REPOSITORY}/blob/main/missing.py", "leads to no file"),
        ("https://example.com/missing", None),
    ],
)
def test_links_are_judged(root: Path, link: str, mistake: str | None) -> None:
    page = root / "docs" / "page.md"
    page.write_text(f"# Here\n\nA [link]({link}).\n")
    assert broken_links(page, root) == ([f"docs/page.md: {link} {mistake}"] if mistake else [])


def test_links_in_tables_and_pictures_count_and_those_in_code_do_not() -> None:
    text = "| a |\n|---|\n| [x](one) |\n\n![p](two)\n\n```\n[no](three)\n```\n\n`[no](four)`\n"
    assert list(links_in(text)) == ["one", "two"]


def test_headings_of_the_same_text_get_numbers() -> None:
    assert headings_of("# A\n\n## A\n\n## A\n") == {"a", "a-1", "a-2"}


def test_hidden_and_built_directories_are_left_out(root: Path) -> None:
    for name in (".venv", "build"):
        (root / name).mkdir()
        (root / name / "x.md").write_text("[x](missing)")
    assert documents(root) == [root / "other.md"]
