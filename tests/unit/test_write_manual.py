# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The manual page has the text of every command's help, and ships with the completion in the snap."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from typer.main import get_command

from epa_orchestrator.cli.app import application
from tools.write_manual import COMPLETION, MANUAL, ROOT, completion, manual

COMMANDS: dict[str, Any] = getattr(get_command(application()), "commands")  # noqa: B009  # typer's type says no more than command
TEXT = manual().replace("\\-", "-").replace("\\(aq", "'").replace("\\(ga", "`").replace("\\e", "\\")


def test_files_are_up_to_date() -> None:
    assert MANUAL.read_text(encoding="utf-8") == manual()
    assert COMPLETION.read_text(encoding="utf-8") == completion()


@pytest.mark.parametrize("name", COMMANDS)
def test_manual_has_each_commands_help(name: str) -> None:
    command = COMMANDS[name]
    assert f'.SS "epa-orchestrator {name} ' in TEXT
    for paragraph in command.help.split("\n\n"):
        assert " ".join(paragraph.split()) in TEXT
    for parameter in command.params:
        assert parameter.hidden or parameter.help in TEXT
    for example in command.examples:
        assert f"\n{example}\n" in TEXT


def test_manual_explains_the_exit_codes() -> None:
    assert re.search(r"\.SH EXIT STATUS\n0 done, 1 refused or failed, 2 wrong use .*3 .*4 ", TEXT)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_manual_has_no_mistake_for_roff() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-c", "-ww", str(MANUAL)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Examples:" in done.stdout


def test_snap_ships_both() -> None:
    snap = yaml.safe_load((ROOT / "snap" / "snapcraft.yaml").read_text(encoding="utf-8"))
    build = snap["parts"]["daemon"]["override-build"]
    assert f'"$CRAFT_PART_INSTALL/{snap["apps"]["epa-orchestrator"]["completer"]}"' in build
    assert '"$CRAFT_PART_INSTALL/share/man/man1/epa-orchestrator.1"' in build


def test_completion_in_the_snap_runs_the_snaps_command() -> None:
    assert '_EPA_ORCHESTRATOR_COMPLETE=complete_bash "$SNAP/bin/epa-orchestrator"' in completion()
