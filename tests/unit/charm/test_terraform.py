# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The Terraform module agrees with charmcraft.yaml, its example sets options that exist, and bad input is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any, cast

import hcl2
import pytest
import yaml

import epa_orchestrator

ROOT = Path(__file__).parents[3]
MODULE = ROOT / "terraform"
EXAMPLES = sorted((MODULE / "examples").iterdir())
CHARMCRAFT: dict[str, Any] = yaml.safe_load((ROOT / "charmcraft.yaml").read_text("utf-8"))
UUID = "11111111-2222-3333-4444-555555555555"

needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="there is no terraform program here")


def plain(value: Any) -> Any:
    """A parsed value without the quotes of HCL's texts and the parser's own marks."""
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {plain(name): plain(member) for name, member in members.items() if not name.startswith("__")}
    if isinstance(value, list):
        return [plain(element) for element in cast("list[Any]", value)]
    return value[1:-1] if isinstance(value, str) and value.startswith('"') else value


def parsed(directory: Path) -> dict[str, list[Any]]:
    """All blocks of a directory's files, by their kind."""
    found: dict[str, list[Any]] = {}
    for file in sorted(directory.glob("*.tf")):
        with file.open(encoding="utf-8") as text:
            for kind, blocks in plain(cast("Any", hcl2).load(text)).items():
                found.setdefault(kind, []).extend(blocks)
    return found


def named(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """The bodies of blocks with one label."""
    return {name: body for block in blocks for name, body in block.items()}


BLOCKS = parsed(MODULE)
VARIABLES = named(BLOCKS["variable"])
OUTPUTS = named(BLOCKS["output"])


def application() -> dict[str, Any]:
    """The module's only resource."""
    (resource,) = BLOCKS["resource"]
    (kind,) = resource
    assert kind == "juju_application"
    (body,) = resource[kind].values()
    return body


def endpoints(role: str) -> dict[str, str]:
    """The map that the output of this role should have: an endpoint by its name in Terraform's style."""
    return {endpoint.replace("-", "_"): endpoint for endpoint in CHARMCRAFT[role]}


# --- the module ---


def test_module_has_no_other_kinds_of_blocks() -> None:
    """A module with a provider block cannot be used with count, for_each or depends_on."""
    assert BLOCKS.keys() == {"output", "resource", "terraform", "variable"}


def test_application_sets_what_a_subordinate_may_have() -> None:
    assert application().keys() == {"name", "model_uuid", "charm", "config", "resources", "endpoint_bindings"}


def test_charm_is_this_one() -> None:
    (charm,) = application()["charm"]
    assert charm.keys() == {"name", "base", "channel", "revision"}
    assert charm["name"] == CHARMCRAFT["name"]
    assert VARIABLES["base"]["default"] == CHARMCRAFT["base"]
    assert VARIABLES["app_name"]["default"] == CHARMCRAFT["name"]


@pytest.mark.parametrize("role", ["provides", "requires"])
def test_output_has_the_endpoints_of_the_charm(role: str) -> None:
    assert OUTPUTS[role]["value"] == endpoints(role)


def test_outputs_are_those_of_charm_modules() -> None:
    assert OUTPUTS.keys() == {"application", "provides", "requires"}
    assert OUTPUTS["application"]["value"] == "${juju_application.epa_orchestrator}"


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_variable_has_a_type_and_a_description_and_is_used(name: str) -> None:
    assert VARIABLES[name]["type"]
    assert VARIABLES[name]["description"].endswith(".")
    assert f"${{var.{name}}}" in json.dumps(application())


@pytest.mark.parametrize("directory", [MODULE, *EXAMPLES], ids=lambda path: path.name)
def test_provider_is_juju_1(directory: Path) -> None:
    (terraform,) = parsed(directory)["terraform"]
    assert terraform["required_version"] == ">= 1.5"
    assert terraform["required_providers"] == [{"juju": {"source": "juju/juju", "version": ">= 1.0, < 2.0"}}]


def test_readme_lists_all_variables_and_outputs() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (MODULE / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted([*VARIABLES, *OUTPUTS])


# --- the examples ---


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_sets_inputs_and_options_that_exist(example: Path) -> None:
    (module,) = named(parsed(example)["module"]).values()
    assert (example / module["source"]).resolve() == MODULE
    assert module.keys() - {"source"} <= VARIABLES.keys()
    assert {name for name, variable in VARIABLES.items() if "default" not in variable} <= module.keys()
    assert module["config"].keys() <= CHARMCRAFT["config"]["options"].keys()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_integrates_both_sides_of_the_container_relation(example: Path) -> None:
    (integration,) = named(parsed(example)["resource"])["juju_integration"].values()
    ours, machines = integration["application"]
    assert ours["endpoint"] == "${module.epa_orchestrator.requires.sunbeam_machine}"
    assert machines["endpoint"] == CHARMCRAFT["requires"]["sunbeam-machine"]["interface"]


@pytest.mark.parametrize("document", ["terraform/README.md", "docs/how-to/deploy-with-terraform.md"])
def test_configuration_in_the_documents_is_one_for_this_module(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    (block,) = [block for block in text.split("```")[1::2] if 'module "epa_orchestrator"' in block]
    blocks = plain(cast("Any", hcl2).loads(textwrap.dedent(block.partition("\n")[2])))
    (module,) = named(blocks["module"]).values()
    assert module["source"].endswith(f"epa-orchestrator//terraform?ref=v{epa_orchestrator.__version__}")
    assert module.keys() - {"source"} <= VARIABLES.keys()
    assert module["config"].keys() <= CHARMCRAFT["config"]["options"].keys()
    (integration,) = named(blocks["resource"])["juju_integration"].values()
    ours, machines = integration["application"]
    assert ours["endpoint"] == "${module.epa_orchestrator.requires.sunbeam_machine}"
    assert machines["endpoint"] == "sunbeam-machine"


# --- with terraform ---


@needs_terraform
def test_files_have_terraforms_style() -> None:
    command = ["terraform", "fmt", "-check", "-recursive", MODULE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture(scope="module")
def variables_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module with these variables and nothing else: it needs no provider, so terraform can plan it anywhere."""
    directory = tmp_path_factory.mktemp("variables")
    shutil.copy(MODULE / "variables.tf", directory)
    subprocess.run(["terraform", "init", "-input=false"], cwd=directory, capture_output=True, check=True)
    return directory


def refusal(directory: Path, variables: dict[str, Any]) -> str:
    """What terraform says of these values, on one line; empty if it accepts them."""
    (directory / "terraform.tfvars.json").write_text(json.dumps({"model_uuid": UUID} | variables), encoding="utf-8")
    command = ["terraform", "plan", "-input=false", "-no-color"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return " ".join(done.stderr.replace("│", " ").split()) if done.returncode else ""


ACCEPTED: list[dict[str, Any]] = [
    {},
    {"app_name": "epa2-a", "channel": "2026.1/edge/fix-7", "revision": 0},
    {"config": {"reserved-cpus": "4-5"}, "resources": {"epa-orchestrator-snap": "3"}},
    {
        "endpoint_bindings": [{"space": "alpha"}]
        + [{"space": "b", "endpoint": name} for name in endpoints("requires").values()]
    },
    {"endpoint_bindings": [{"space": "b", "endpoint": name} for name in endpoints("provides").values()]},
]


@needs_terraform
@pytest.mark.parametrize("variables", ACCEPTED)
def test_sensible_values_are_accepted(variables_only: Path, variables: dict[str, Any]) -> None:
    assert refusal(variables_only, variables) == ""


@needs_terraform
@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"app_name": "epa-1"}, "app_name must be a name for Juju"),
        ({"app_name": "EPA"}, "app_name must be a name for Juju"),
        ({"model_uuid": "openstack-machines"}, "model_uuid must be the UUID of a model, not its name"),
        ({"base": "ubuntu@22.04"}, "base must be ubuntu@24.04"),
        ({"channel": "edge"}, "channel must be a track and a risk"),
        ({"channel": "latest/nightly"}, "channel must be a track and a risk"),
        ({"revision": 1.5}, "revision must be a whole number"),
        ({"revision": -1}, "revision must be a whole number"),
        ({"resources": {"snap": "3"}}, "resources may have epa-orchestrator-snap alone"),
        ({"resources": {"epa-orchestrator-snap": "./a.snap"}}, "resources must name a revision on Charmhub"),
        ({"endpoint_bindings": [{"space": "a", "endpoint": "epa-info"}]}, "endpoint_bindings may name cos-agent"),
    ],
)
def test_mistake_is_refused_with_a_sentence(variables_only: Path, variables: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(variables_only, variables)
