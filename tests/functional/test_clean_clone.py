# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A newcomer gets from a clean clone to a running program: README and tutorial, typed with nothing but the clone.

It needs git and a package index, as pip does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from .documented import README, ROOT, Step, Terminal, steps_in
from .harness import clean_environment

pytestmark = pytest.mark.network

TUTORIAL: Final = ROOT / "docs" / "tutorial" / "index.md"
ADDRESS: Final = "https://github.com/canonical/epa-orchestrator"
#: The two parts of the README's first command.
FIRST_COMMAND: Final = re.compile(r"^(python3 -m venv .*) && (\S*/epa-orchestrator serve .*)$", re.MULTILINE)
#: The time (s) that an installation may take on a busy machine.
PATIENCE: Final = 180.0


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository to clone: the checkout's; of sources without one, a new one with all their files."""
    if (ROOT / ".git").exists():
        return ROOT
    repository = tmp_path_factory.mktemp("sources") / "repository"
    shutil.copytree(ROOT, repository, ignore=shutil.ignore_patterns(".tox", ".venv", "build", "dist"))
    for command in ("init -q", "add --all", "-c user.name=test -c user.email=test commit -q -m all"):
        subprocess.run(["git", *command.split()], cwd=repository, check=True)
    return repository


@pytest.fixture
def terminal(repository: Path) -> Iterator[Terminal]:
    """The terminal of a user who has nothing of this project; its public address leads to the repository."""
    environment = clean_environment()
    del environment["PYTHONPATH"]
    with Terminal(environment, PATIENCE) as terminal:
        settings = f'[url "{repository.as_uri()}"]\ninsteadOf = {ADDRESS}\n[safe]\ndirectory = *\n'
        (terminal.home / ".gitconfig").write_text(settings)
        yield terminal


def test_readme_works_in_a_clean_clone(terminal: Terminal) -> None:
    text = README.read_text(encoding="utf-8")
    ((install, serve),) = FIRST_COMMAND.findall(text)
    steps = [Step(f"git clone -q {ADDRESS} clone && cd clone", None), Step(install, None), Step(serve, None)]
    assert not (failures := terminal.failures([*steps, *steps_in(text)])), "\n".join(failures)


def test_tutorial_works_on_this_machine(terminal: Terminal) -> None:
    if 1 not in os.sched_getaffinity(0):
        pytest.skip("the tutorial pins a process to CPU 1, where this process may not run")
    steps = steps_in(TUTORIAL.read_text(encoding="utf-8"))
    assert not (failures := terminal.failures(steps)), "\n".join(failures)
    left = [terminal.home / name for name in ("epa-orchestrator", ".local/state/epa-orchestrator")]
    assert not [path for path in left if path.exists()]


def test_failing_command_is_noticed(terminal: Terminal) -> None:
    assert terminal.failures([Step(".venv/bin/pip install -q .", None)])
