# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The workflows run commands that this repository has, on the platforms that are released, with few rights."""

from __future__ import annotations

import configparser
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import craft_platforms
import pytest
import yaml
from charmcraft.services.package import PackageService

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
WORKFLOWS: dict[str, dict[str, Any]] = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in FILES}
CHARMCRAFT: dict[str, Any] = yaml.safe_load((ROOT / "charmcraft.yaml").read_text("utf-8"))
RELEASE = WORKFLOWS["release"]["jobs"]

TOX = configparser.ConfigParser(interpolation=None)
TOX.read(ROOT / "tox.ini")


#: Each job, by the workflow's name and its own.
JOBS = {f"{workflow}-{name}": job for workflow, content in WORKFLOWS.items() for name, job in content["jobs"].items()}


def commands(workflow: str) -> str:
    """All that a workflow runs."""
    return "\n".join(commands_of(job) for job in WORKFLOWS[workflow]["jobs"].values())


def commands_of(job: dict[str, Any]) -> str:
    """All that a job runs."""
    return "\n".join(step["run"] for step in job.get("steps", []) if "run" in step)


def name_of_charm(platform: str) -> str:
    """The name of the file that `charmcraft pack` makes, from its own function."""
    project = SimpleNamespace(get=lambda: SimpleNamespace(name=CHARMCRAFT["name"]))
    plan = SimpleNamespace(plan=lambda: [SimpleNamespace(platform=platform)])
    services = {"project": project, "build_plan": plan}
    return PackageService.get_charm_name(cast("Any", SimpleNamespace(_services=services)))


def environments(workflow: str) -> set[str]:
    """The environments of tox that a workflow runs."""
    named = set(re.findall(r"tox -e (\S+)", commands(workflow)))
    if '"$PART"' in named:
        named |= set(WORKFLOWS[workflow]["jobs"]["parts"]["strategy"]["matrix"]["part"])
    return named - {'"$PART"'}


# --- what runs ---


def test_ci_runs_all_that_must_be_green() -> None:
    assert environments("ci") == set(TOX["tox"]["env_list"].split(", "))


@pytest.mark.parametrize("workflow", sorted(WORKFLOWS))
def test_environments_exist(workflow: str) -> None:
    assert {f"testenv:{name}" for name in environments(workflow)} <= set(TOX.sections())


@pytest.mark.parametrize("workflow", sorted(WORKFLOWS))
def test_python_modules_exist(workflow: str) -> None:
    modules = re.findall(r"python3 -m ((?:tools|tests)\.\S+)", commands(workflow))
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_ci_installs_the_packages_that_ci_run_installs() -> None:
    needed = re.findall(r"missing\+=\(([^)]+)\)", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert set(" ".join(needed).split()) <= set(commands("ci").split())


def test_oldest_python_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert re.findall(r"uvx --python (\S+) ", commands("ci")) == [project["requires-python"].removeprefix(">=")]


@pytest.mark.parametrize("workflow", sorted(WORKFLOWS))
def test_commands_are_correct_bash(workflow: str) -> None:
    done = subprocess.run(["bash", "-n"], input=commands(workflow), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_charmcraft_test_finds_a_task_that_deploys_the_packed_charm() -> None:
    suites = yaml.safe_load((ROOT / "spread.yaml").read_text("utf-8"))["suites"]
    (task,) = [path for suite in suites for path in (ROOT / suite).glob("*/task.yaml")]
    script = yaml.safe_load(task.read_text("utf-8"))["execute"]
    assert 'juju deploy --model "${MODEL}" "${CRAFT_ARTIFACT}" epa-orchestrator\n' in script
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- what is released ---


def test_release_waits_for_all_tests() -> None:
    assert RELEASE["edge"]["needs"] == ["pack"]
    called = {name: RELEASE[name]["uses"] for name in RELEASE["pack"]["needs"]}
    assert called == {name: f"./.github/workflows/{name}.yaml" for name in ("ci", "integration")}


def test_release_makes_all_platforms_that_github_has() -> None:
    packed = [entry["architecture"] for entry in RELEASE["pack"]["strategy"]["matrix"]["include"]]
    assert packed == RELEASE["edge"]["strategy"]["matrix"]["architecture"]
    assert set(packed) == CHARMCRAFT["platforms"].keys() - {"s390x"}


def test_snap_is_packed_to_where_the_charm_takes_it_from() -> None:
    (source,) = CHARMCRAFT["parts"]["files"]["organize"]
    assert f'--output "{source.replace("${CRAFT_ARCH_BUILD_FOR}", "$ARCHITECTURE")}"' in commands("release")
    packing = [line for line in commands("release").splitlines() if " pack " in line]
    assert [line.split()[0] for line in packing] == ["snapcraft", "charmcraft"]


def test_charm_is_uploaded_under_the_name_that_charmcraft_gives_it() -> None:
    """charmcraft names the file by the platform's key."""
    plan = craft_platforms.get_build_plan("charmcraft", project_data=CHARMCRAFT)
    names = {name_of_charm(build.platform) for build in plan}
    assert names == {f"epa-orchestrator_{platform}.charm" for platform in CHARMCRAFT["platforms"]}
    (uploaded,) = re.findall(r'charmcraft upload --format=json "(.*?)"', commands("release"))
    assert uploaded.replace("$ARCHITECTURE", "s390x") in names


def test_upload_finds_the_project_but_no_library() -> None:
    """`charmcraft upload` 4.5 fails without a charmcraft.yaml, and looks up the libraries next to it on Charmhub."""
    assert "cp charmcraft.yaml dist" in commands_of(RELEASE["pack"]).splitlines()
    assert "checkout" not in str(RELEASE["edge"]["steps"])


def test_resource_is_that_of_the_charm() -> None:
    (resource,) = CHARMCRAFT["resources"]
    assert f'--resource="{resource}:$resource"' in commands("release")
    assert f"upload-resource {CHARMCRAFT['name']} {resource} " in commands("release")


# --- rights ---


@pytest.mark.parametrize("workflow", sorted(WORKFLOWS))
def test_workflow_has_no_rights_and_one_group(workflow: str) -> None:
    assert WORKFLOWS[workflow]["permissions"] == {}
    assert WORKFLOWS[workflow]["concurrency"]["group"].startswith(workflow)


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_job_reads_at_most_the_sources_and_ends(job: dict[str, Any]) -> None:
    assert job.get("permissions", {}).items() <= {"contents": "read"}.items()
    assert "uses" in job or job["timeout-minutes"] <= 120


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_checkout_keeps_no_credentials(job: dict[str, Any]) -> None:
    checkouts = [step for step in job.get("steps", []) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_job_with_secrets_has_an_environment_and_no_sources(job: dict[str, Any]) -> None:
    if "secrets." in str(job):
        assert job["environment"] in ("edge", "promote")
        assert {step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step} <= {
            "actions/download-artifact"
        }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_by_hash_with_their_version(path: Path) -> None:
    uses = re.findall(r"^[ -]*uses: (.*)", path.read_text("utf-8"), re.MULTILINE)
    pinned = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[0-9.]+")
    local = re.compile(r"\./\.github/workflows/\w+\.yaml # .*")
    assert [line for line in uses if not pinned.fullmatch(line) and not local.fullmatch(line)] == []
