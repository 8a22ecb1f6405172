# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The hook reads the proposed options from snapctl, applies them, and reports a refusal in one sentence."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator import paths
from epa_orchestrator.allocation.settings import load_settings, option_names, parse_settings
from epa_orchestrator.configure import hook as hook_module
from epa_orchestrator.configure.hook import main, proposed_options
from tests.unit.configure.builders import USED, Snap

ROOT = Path(__file__).parents[3]


class Hook:
    """The environment of the hook, with a substitute for snapctl."""

    def __init__(self, installed: Snap, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed = installed
        self.asked = installed.base / "asked"
        self._monkeypatch = monkeypatch
        self.set("EPA_SETTINGS", installed.settings)
        self.set("SNAP_DATA", installed.data)
        self.set("SNAP_COMMON", installed.common)
        self.set("EPA_SYSFS", installed.sys)
        self.propose({})

    def set(self, name: str, value: object) -> None:
        self._monkeypatch.setenv(name, str(value))

    def snapctl(self, body: str) -> None:
        """Replace snapctl by a shell script with this body."""
        program = self.installed.base / "bin" / "snapctl"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$@" > {self.asked}\n{body}\n')
        program.chmod(0o755)
        self.set("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def propose(self, options: object) -> None:
        """Make snapctl print these options."""
        self.snapctl(f"printf %s {shlex.quote(json.dumps(options))}")


@pytest.fixture
def hook(installed: Snap, monkeypatch: pytest.MonkeyPatch) -> Hook:
    return Hook(installed, monkeypatch)


def fails(hook: Hook, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr of a hook that fails and changes no file."""
    before = hook.installed.content()
    assert main() == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.endswith("\n")
    assert written.err[:-1].isprintable()
    assert hook.installed.content() == before
    return written.err[:-1]


def test_hook_applies_the_proposed_options_silently(hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    hook.propose(USED)
    assert main() == 0
    assert capsys.readouterr() == ("", "")
    assert load_settings(hook.installed.settings) == parse_settings(USED)


def test_hook_asks_for_all_options_as_one_document(hook: Hook) -> None:
    assert proposed_options() == {}
    assert hook.asked.read_text().split() == ["get", "-d", *option_names()]


def test_defaults_are_applied_without_options(hook: Hook) -> None:
    hook.snapctl("true")
    assert main() == 0
    assert load_settings(hook.installed.settings) == parse_settings({})


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("echo 'error: no such context' >&2; exit 1", "The options cannot be read: error: no such context"),
        ("printf 'one\\ntwo\\n' >&2; exit 3", "The options cannot be read: one\N{REPLACEMENT CHARACTER}two"),
        ("echo {", "The options cannot be read: Expecting property name enclosed in double quotes"),
        ("echo []", "settings must be one JSON object of options, such as"),
        ("exit 3", "The options cannot be read: snapctl ended with 3"),
        ("printf '%0100000d' 0 | tr 0 '['", "The options cannot be read: the nesting is too deep"),
        ('echo \'{"cpu-pool": 1, "cpu-pool": 2}\'', "The options cannot be read: it has the key 'cpu-pool' twice"),
        ("printf '\\377'", "The options cannot be read: 'utf-8' codec can't decode byte"),
    ],
)
def test_failing_snapctl_is_an_error(body: str, sentence: str, hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    hook.snapctl(body)
    assert fails(hook, capsys).startswith(sentence)


def test_hanging_snapctl_is_an_error(
    hook: Hook, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_module, "_SNAPCTL_TIMEOUT", 0.2)
    hook.snapctl("exec sleep 60")
    assert fails(hook, capsys) == "The options cannot be read: snapctl took over 0.2 seconds"


def test_missing_snapctl_is_an_error(hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    hook.set("PATH", hook.installed.base / "empty")
    assert fails(hook, capsys) == "The options cannot be read: [Errno 2] No such file or directory: 'snapctl'"


def test_hook_fails_without_a_path_for_the_settings(hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    hook.set("EPA_SETTINGS", "")
    assert paths.settings_file() is None
    assert fails(hook, capsys) == "EPA_SETTINGS is not set: set it to the path of the settings file"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"resize-policy": "up"}, "resize-policy='up' is not valid: set it to 'in-place' or 'reallocate'"),
        ({"cpu-pool": "2"}, "cpu-pool=2 overlaps the isolated CPUs 2: remove them from cpu-pool"),
        (
            {"reserved-cpus": 6},
            (
                "reserved-cpus=6 would remove CPUs in use from their pool: 6 (held by nova); release them first,"
                " or choose other CPUs"
            ),
        ),
    ],
)
def test_refusal_is_one_sentence_on_stderr(
    options: dict[str, Any], sentence: str, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    hook.installed.claim("6")
    hook.propose(options)
    assert fails(hook, capsys) == sentence


@pytest.mark.parametrize(
    ("path", "reason"), [("data/settings.json", "it is not a regular file"), ("common/lock", "Is a directory")]
)
def test_directory_in_the_place_of_a_file_is_an_error(
    path: str, reason: str, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    (hook.installed.base / path).mkdir()
    assert reason in fails(hook, capsys)


def run_script(name: str, hook: Hook) -> subprocess.CompletedProcess[str]:
    """Run one of the snap's hooks as snapd does."""
    python = hook.installed.base / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # a link would lose the virtual environment
    python.chmod(0o755)
    hook.set("PYTHONPATH", Path(hook_module.__file__).parents[2])
    return subprocess.run([str(ROOT / "snap" / "hooks" / name)], check=False, capture_output=True, text=True)


def test_refresh_from_the_older_snap_runs_its_hooks(hook: Hook) -> None:
    hook.propose({"cpu-pool": "0 - 2,64", "numa-policy": "of-a-later-release"})
    for name in ("post-refresh", "configure"):
        done = run_script(name, hook)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["configure", "install", "post-refresh"])
def test_hook_scripts_run_the_hook(name: str, hook: Hook) -> None:
    hook.propose(USED)
    assert run_script(name, hook).returncode == 0
    assert load_settings(hook.installed.settings) == parse_settings(USED)
    hook.propose({"cpu-pool": "5-2"})
    done = run_script(name, hook)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cpu-pool='5-2' is not valid: ")
    assert load_settings(hook.installed.settings) == parse_settings(USED)
