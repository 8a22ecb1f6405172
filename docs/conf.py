# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Tells Sphinx how to build the documentation from the Markdown files in this directory.

`python -m tools.build_docs` runs it. The values are explained in https://www.sphinx-doc.org/en/master/usage/configuration.html.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from epa_orchestrator import __version__

project = "epa-orchestrator"
author = "The epa-orchestrator authors"
copyright = f"2026 {author}"  # noqa: A001  # Sphinx gives it this name
release = __version__
language = "en"

extensions = ["myst_parser", "sphinx_copybutton"]

nitpicky = True
# Texts show words of the command line, such as --json, as they are typed.
smartquotes = False

myst_heading_anchors = 5
# Most blocks are sessions on a terminal.
highlight_language = "text"
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"epa-orchestrator {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {
    "source_repository": "https://github.com/canonical/epa-orchestrator/",
    "source_branch": "main",
    "source_directory": "docs/",
}
