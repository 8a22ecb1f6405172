"""What charmcraft.yaml and snapcraft.yaml declare is what the code does, and the modules keep to their roles."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import daemon_health
import epa_orchestrator
import orchestrator_snap
from charm import BUNDLED, PRINCIPAL, RESOURCE
from config import CharmConfig
from epa_orchestrator.allocation.settings import Settings, option_names, parse_settings

ROOT = Path(__file__).parents[3]
CHARMCRAFT: dict[str, Any] = yaml.safe_load((ROOT / "charmcraft.yaml").read_text("utf-8"))
SNAPCRAFT: dict[str, Any] = yaml.safe_load((ROOT / "snap" / "snapcraft.yaml").read_text("utf-8"))
OPTIONS: dict[str, dict[str, Any]] = CHARMCRAFT["config"]["options"]
ENDPOINTS: dict[str, dict[str, Any]] = CHARMCRAFT["requires"]

#: Who may connect is a matter of the snap, which the charm leaves to the operator of the machine.
CHARM_MODULES = {path.stem for path in (ROOT / "src").glob("*.py")}

NOT_IN_THE_CHARM = {"allowed-uids", "allowed-gids"}
#: What the daemon takes from its environment where nothing is set, and the charm sets.
DEFAULT_OF_THE_CHARM = {"log-level": "info"}
OF_THE_CHARM_ALONE = {"snap-channel", "snap-revision", "connect-plugs", "require-isolated-cpus"}

JUJU_TYPES = {str: "string", bool: "boolean", int: "int"}


def imports(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


# --- the charm's modules ---


def test_the_charm_stays_small() -> None:
    assert len((ROOT / "src" / "charm.py").read_text("utf-8").splitlines()) < 250


@pytest.mark.parametrize(
    "module", ["orchestrator_snap", "daemon_health", "snapd", "isolation", "config", "juju_texts", "errors"]
)
def test_the_workload_knows_nothing_of_juju(module: str) -> None:
    assert not imports(ROOT / "src" / f"{module}.py") & {"ops", "ops_tracing", "charm", "actions"}


def test_the_daemon_knows_nothing_of_the_charm() -> None:
    for path in (ROOT / "src" / "epa_orchestrator").rglob("*.py"):
        foreign = {"ops", "charmlibs"} | CHARM_MODULES
        assert not imports(path) & foreign, path.name


# --- charmcraft.yaml ---


def test_the_options_are_the_charms_own_and_the_daemons() -> None:
    assert OPTIONS.keys() == OF_THE_CHARM_ALONE | set(option_names()) - NOT_IN_THE_CHARM


@pytest.mark.parametrize("option", sorted(set(option_names()) - NOT_IN_THE_CHARM))
def test_an_option_of_the_daemon_has_the_daemons_default(option: str) -> None:
    default = OPTIONS[option]["default"]
    expected = DEFAULT_OF_THE_CHARM.get(option, Settings().value(option))
    assert parse_settings({option: default}).value(option) == expected


@pytest.mark.parametrize("option", sorted(OF_THE_CHARM_ALONE - {"connect-plugs"}))
def test_an_option_of_the_charm_has_the_models_default(option: str) -> None:
    assert OPTIONS[option]["default"] == getattr(CharmConfig(), option.replace("-", "_"))


def test_the_hypervisor_is_connected_by_default() -> None:
    assert OPTIONS["connect-plugs"]["default"] == "openstack-hypervisor:epa-info"


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_an_option_has_the_type_of_its_default_and_a_description(option: str) -> None:
    declared = OPTIONS[option]
    assert declared["type"] == JUJU_TYPES[type(declared["default"])]
    assert declared["description"].endswith(".")


@pytest.mark.parametrize("action", sorted(CHARMCRAFT["actions"]))
def test_an_action_takes_no_other_parameters_than_it_declares(action: str) -> None:
    assert CHARMCRAFT["actions"][action]["additionalProperties"] is False


def test_the_actions_are_those_of_the_manual() -> None:
    assert CHARMCRAFT["actions"].keys() == {
        "list-allocations",
        "show-machine",
        "release",
        "refresh-snap",
        "get-status",
    }


@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS))
def test_an_endpoint_says_whether_it_is_optional(endpoint: str) -> None:
    assert ENDPOINTS[endpoint]["optional"] is (endpoint != PRINCIPAL)
    assert ENDPOINTS[endpoint]["limit"] == 1


def test_deployments_can_relate_to_the_charm_as_before() -> None:
    assert CHARMCRAFT["subordinate"] is True
    assert (ENDPOINTS[PRINCIPAL]["interface"], ENDPOINTS[PRINCIPAL]["scope"]) == ("sunbeam-machine", "container")


def test_the_charm_is_for_one_base_two_architectures_and_a_current_juju() -> None:
    assert CHARMCRAFT["base"] == "ubuntu@24.04"
    assert CHARMCRAFT["platforms"].keys() == {"amd64", "arm64"}
    assert CHARMCRAFT["assumes"] == ["juju >= 3.6"]


def test_the_resource_is_the_one_that_the_code_looks_for() -> None:
    assert CHARMCRAFT["resources"].keys() == {RESOURCE}
    assert CHARMCRAFT["resources"][RESOURCE]["type"] == "file"


def test_the_bundled_snap_is_staged_where_the_code_looks_for_it() -> None:
    files = CHARMCRAFT["parts"]["files"]
    assert BUNDLED in files["stage"]
    assert list(files["organize"].values()) == [BUNDLED]


# --- snapcraft.yaml ---


def test_the_snap_has_the_version_of_the_package() -> None:
    assert SNAPCRAFT["version"] == epa_orchestrator.__version__


def test_the_snap_has_the_names_that_the_charm_uses() -> None:
    assert SNAPCRAFT["name"] == orchestrator_snap.NAME
    assert SNAPCRAFT["base"] == orchestrator_snap.BASE
    assert SNAPCRAFT["slots"].keys() == {orchestrator_snap.SLOT}
    assert SNAPCRAFT["confinement"] == "strict"


def test_the_socket_is_where_the_charm_looks_for_it() -> None:
    listen = SNAPCRAFT["apps"]["daemon"]["sockets"]["epa"]["listen-stream"]
    data = f"/var/snap/{orchestrator_snap.NAME}/current"
    assert listen.replace("$SNAP_DATA", data) == str(daemon_health.SOCKET)


def test_the_shared_directory_is_the_sockets() -> None:
    slot = SNAPCRAFT["slots"][orchestrator_snap.SLOT]
    listen = SNAPCRAFT["apps"]["daemon"]["sockets"]["epa"]["listen-stream"]
    assert slot["source"]["write"] == [str(Path(listen).parent)]


@pytest.mark.parametrize("hook", ["configure", "install", "post-refresh"])
def test_a_hook_is_there_and_can_be_run(hook: str) -> None:
    path = ROOT / "snap" / "hooks" / hook
    assert os.access(path, os.X_OK)
    assert "epa_orchestrator.configure" in path.read_text("utf-8")
    assert SNAPCRAFT["hooks"][hook]["plugs"] == ["topology"]


def test_there_are_no_other_hooks() -> None:
    assert {path.name for path in (ROOT / "snap" / "hooks").iterdir()} == SNAPCRAFT["hooks"].keys()


def test_the_snap_may_read_what_discovery_reads() -> None:
    readable = SNAPCRAFT["plugs"]["topology"]["read"]
    source = (ROOT / "src" / "epa_orchestrator" / "hardware" / "machine.py").read_text("utf-8")
    for path in re.findall(r'"(devices/[a-z_/]+)"', source):
        assert any(f"/sys/{path}".startswith(f"{directory}/") for directory in readable), path
