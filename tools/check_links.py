# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Checks each link between the project's own files: `python -m tools.check_links`. It needs no network.

Sphinx checks the links inside docs/. This also checks those of README.md and its neighbours, and addresses of this
repository on GitHub, which have to name a file that exists, and a heading in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from mdit_py_plugins.anchors.index import slugify

ROOT: Final = Path(__file__).resolve().parents[1]
REPOSITORY: Final = "https://github.com/canonical/epa-orchestrator"
_IN_REPOSITORY: Final = (f"{REPOSITORY}/blob/main/", f"{REPOSITORY}/tree/main/")
#: Directories that hold no text of this project.
_NOT_OURS: Final = frozenset(("build", "dist", "node_modules"))


def documents(root: Path) -> list[Path]:
    """The project's Markdown files."""
    found = root.rglob("*.md")
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") or part in _NOT_OURS for part in path.relative_to(root).parts[:-1])
    )


def broken_links(path: Path, root: Path) -> list[str]:
    """A sentence for each link of a Markdown file that leads to no file or heading below `root`."""
    sentences = ((link, _mistake(link, path, root)) for link in links_in(path.read_text(encoding="utf-8")))
    return [f"{path.relative_to(root)}: {link} {mistake}" for link, mistake in sentences if mistake]


def links_in(text: str) -> Iterator[str]:
    """The targets of a text's links and pictures, in order."""
    for block in MarkdownIt("commonmark").enable("table").parse(text):
        for token in block.children or ():
            target = token.attrs.get("href") or token.attrs.get("src")
            if target:
                yield str(target)


def headings_of(text: str) -> set[str]:
    """The anchors that GitHub and MyST give to a text's headings."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    titles = [
        "".join(part.content for part in content.children or ())
        for opening, content in pairwise(tokens)
        if opening.type == "heading_open"
    ]
    anchors: set[str] = set()
    for title in titles:
        anchor, number = slugify(title), 1
        while anchor in anchors:
            anchor, number = f"{slugify(title)}-{number}", number + 1
        anchors.add(anchor)
    return anchors


def _mistake(link: str, path: Path, root: Path) -> str | None:
    for address in _IN_REPOSITORY:
        if link.startswith(address):
            return _missing(root / link.removeprefix(address).partition("#")[0], link.partition("#")[2])
    if "://" in link or link.startswith("mailto:"):
        return None
    name, _, anchor = link.partition("#")
    return _missing(path.parent / name if name else path, anchor)


def _missing(target: Path, anchor: str) -> str | None:
    if not target.exists():
        return "leads to no file"
    if anchor and target.suffix == ".md" and anchor not in headings_of(target.read_text(encoding="utf-8")):
        return "leads to no heading"
    return None


def main() -> int:
    """Print the broken links; the exit code is 1 if there are any."""
    broken = [sentence for path in documents(ROOT) for sentence in broken_links(path, ROOT)]
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
