# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""charmcraft.yaml and snapcraft.yaml agree with the code, and each module imports only what its role allows."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import daemon_health
import epa_orchestrator
import installation
import orchestrator_snap
from charm import BUNDLED, COLLECTOR, PRINCIPAL, RESOURCE
from config import CharmConfig
from epa_orchestrator.allocation.settings import Settings, option_names, parse_settings

ROOT = Path(__file__).parents[3]
REPOSITORY = "https://github.com/canonical/epa-orchestrator"
CHARMCRAFT: dict[str, Any] = yaml.safe_load((ROOT / "charmcraft.yaml").read_text("utf-8"))
SNAPCRAFT: dict[str, Any] = yaml.safe_load((ROOT / "snap" / "snapcraft.yaml").read_text("utf-8"))
OPTIONS: dict[str, dict[str, Any]] = CHARMCRAFT["config"]["options"]
ENDPOINTS: dict[str, dict[str, Any]] = CHARMCRAFT["requires"]
PROVIDED: dict[str, dict[str, Any]] = CHARMCRAFT["provides"]

CHARM_MODULES = {path.stem for path in (ROOT / "src").glob("*.py")}

#: Without this option the daemon takes the value from its environment.
CHARM_DEFAULTS = {"log-level": "info"}
CHARM_OPTIONS = {"snap-name", "snap-channel", "snap-revision", "connect-plugs", "require-isolated-cpus"}

JUJU_TYPES = {str: "string", bool: "boolean", int: "int"}


def imports(path: Path) -> set[str]:
    """The top-level packages that a module imports, also inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


# --- the charm's modules ---


@pytest.mark.parametrize("module", sorted(CHARM_MODULES))
def test_module_stays_small(module: str) -> None:
    assert len((ROOT / "src" / f"{module}.py").read_text("utf-8").splitlines()) < 300


@pytest.mark.parametrize("module", sorted(CHARM_MODULES - {"charm", "actions"}))
def test_workload_module_does_not_import_ops(module: str) -> None:
    assert not imports(ROOT / "src" / f"{module}.py") & {"ops", "ops_tracing", "charm", "actions"}


def test_daemon_does_not_import_the_charm() -> None:
    for path in (ROOT / "src" / "epa_orchestrator").rglob("*.py"):
        foreign = {"ops", "charmlibs"} | CHARM_MODULES
        assert not imports(path) & foreign, path.name


# --- charmcraft.yaml ---


def test_options_are_the_charms_own_and_the_daemons() -> None:
    assert OPTIONS.keys() == CHARM_OPTIONS | set(option_names())


@pytest.mark.parametrize("option", sorted(option_names()))
def test_daemon_option_has_the_daemons_default(option: str) -> None:
    default = OPTIONS[option]["default"]
    expected = CHARM_DEFAULTS.get(option, Settings().value(option))
    assert parse_settings({option: default}).value(option) == expected


@pytest.mark.parametrize("option", sorted(CHARM_OPTIONS - {"connect-plugs"}))
def test_charm_option_has_the_models_default(option: str) -> None:
    assert OPTIONS[option]["default"] == getattr(CharmConfig(), option.replace("-", "_"))


def test_hypervisor_is_connected_by_default() -> None:
    assert OPTIONS["connect-plugs"]["default"] == "openstack-hypervisor:epa-info"


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_option_has_the_type_of_its_default_and_a_description(option: str) -> None:
    declared = OPTIONS[option]
    assert declared["type"] == JUJU_TYPES[type(declared["default"])]
    assert declared["description"].endswith(".")


@pytest.mark.parametrize("action", sorted(CHARMCRAFT["actions"]))
def test_action_declares_all_its_parameters(action: str) -> None:
    assert CHARMCRAFT["actions"][action]["additionalProperties"] is False


def test_actions_are_those_of_the_documentation() -> None:
    assert CHARMCRAFT["actions"].keys() == {
        "list-allocations",
        "show-machine",
        "release",
        "refresh-snap",
        "get-status",
        "settle-claims",
        "audit-isolation",
        "explain",
        "history",
        "record",
        "report",
    }


@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS | PROVIDED))
def test_endpoint_declares_optional_and_limit(endpoint: str) -> None:
    declared = (ENDPOINTS | PROVIDED)[endpoint]
    assert declared["optional"] is (endpoint != PRINCIPAL)
    assert declared["limit"] == 1


def test_collector_endpoint_has_the_interface_of_collectors() -> None:
    assert {name: declared["interface"] for name, declared in PROVIDED.items()} == {COLLECTOR: "cos_agent"}


def test_principal_relation_is_unchanged() -> None:
    assert CHARMCRAFT["subordinate"] is True
    assert (ENDPOINTS[PRINCIPAL]["interface"], ENDPOINTS[PRINCIPAL]["scope"]) == ("sunbeam-machine", "container")


def test_base_platforms_and_juju_version() -> None:
    assert CHARMCRAFT["base"] == "ubuntu@24.04"
    assert CHARMCRAFT["platforms"].keys() == {"amd64", "arm64", "s390x"}
    assert CHARMCRAFT["assumes"] == ["juju >= 3.6"]


def test_endpoints_have_the_names_of_the_older_charm() -> None:
    """Juju refuses the refresh of an application whose related endpoint is missing."""
    assert ENDPOINTS.keys() == {PRINCIPAL, "tracing", "receive-ca-cert"}
    assert ENDPOINTS["tracing"]["interface"] == "tracing"


def test_resource_has_the_name_in_the_code() -> None:
    assert CHARMCRAFT["resources"].keys() == {RESOURCE}
    assert CHARMCRAFT["resources"][RESOURCE]["type"] == "file"


def test_charm_has_the_version_of_the_package(tmp_path: Path) -> None:
    """Juju shows the file `version` as the charm's version."""
    script = CHARMCRAFT["parts"]["version"]["override-build"]
    environment = {"CRAFT_PART_INSTALL": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run(["bash", "-euc", script], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "version").read_text("utf-8") == f"{epa_orchestrator.__version__}\n"


def test_bundled_snap_is_staged_under_the_name_in_the_code() -> None:
    files = CHARMCRAFT["parts"]["files"]
    assert BUNDLED in files["stage"]
    assert list(files["organize"].values()) == [BUNDLED]


def test_newest_version_in_the_changelog_is_that_of_the_package() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    unreleased, newest, *_ = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert (unreleased, newest) == ("Unreleased", epa_orchestrator.__version__)
    assert f"[Unreleased]: {REPOSITORY}/compare/v{newest}...main\n" in changelog
    assert re.search(rf"^\[{re.escape(newest)}\]: {REPOSITORY}/", changelog, re.MULTILINE)


# --- for Charmhub's review ---


def test_icon_is_a_flat_circle_on_100_by_100() -> None:
    icon = ElementTree.parse(ROOT / "icon.svg").getroot()
    assert (icon.get("width"), icon.get("height"), icon.get("viewBox")) == ("100", "100", "0 0 100 100")
    background = {name: value for name, value in icon[0].attrib.items() if name != "fill"}
    assert background == {"cx": "50", "cy": "50", "r": "50"}
    assert icon[0].tag.endswith("}circle")
    assert "Gradient" not in (ROOT / "icon.svg").read_text("utf-8")
    assert "icon.svg" in CHARMCRAFT["parts"]["files"]["stage"]


def test_licence_is_the_standard_text() -> None:
    """The hash by which Charmhub's review knows the Apache licence 2.0, and so the same as Debian's copy."""
    text = (ROOT / "LICENSE").read_text("utf-8").strip()
    assert hashlib.sha512(text.encode()).hexdigest().startswith("fdae7ed259455ca9fa45939e7f25cbb4")


@pytest.mark.parametrize("link", ["documentation", "issues", "source", "website", "contact"])
def test_link_is_an_address(link: str) -> None:
    assert CHARMCRAFT["links"][link].startswith("https://")


@pytest.mark.parametrize("name", [*OPTIONS, *CHARMCRAFT["actions"], CHARMCRAFT["name"]])
def test_name_has_lower_case_words_and_hyphens(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)


@pytest.mark.parametrize("environment", ["format", "lint", "unit", "integration"])
def test_tox_has_the_environments_of_charmcrafts_profile(environment: str) -> None:
    assert f"[testenv:{environment}]\n" in (ROOT / "tox.ini").read_text("utf-8")


# --- snapcraft.yaml ---

#: The plugs that the hooks need to read the host, and those that the audit needs.
PLUGS = ["sys-devices-system-node", "topology"]
AUDIT_PLUGS = ["isolation", "system-observe"]


def test_snap_has_the_version_of_the_package(tmp_path: Path) -> None:
    """The part sets it with craftctl: here a program that notes its arguments."""
    part = SNAPCRAFT["adopt-info"]
    program = tmp_path / "craftctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/told\n', "utf-8")
    program.chmod(0o755)
    first = SNAPCRAFT["parts"][part]["override-build"].partition("python3")[0]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-euc", first], cwd=ROOT, env={"PATH": path}, check=True)
    assert (tmp_path / "told").read_text("utf-8") == f"set version={epa_orchestrator.__version__}\n"


def test_snap_has_the_names_that_the_charm_uses() -> None:
    assert SNAPCRAFT["name"] == orchestrator_snap.NAME
    assert SNAPCRAFT["base"] == installation.BASE
    assert SNAPCRAFT["slots"].keys() == {orchestrator_snap.SLOT}
    assert SNAPCRAFT["confinement"] == "strict"


def test_socket_is_at_the_path_in_the_code() -> None:
    listen = SNAPCRAFT["apps"]["daemon"]["sockets"]["epa"]["listen-stream"]
    data = f"/var/snap/{orchestrator_snap.NAME}/current"
    assert listen.replace("$SNAP_DATA", data) == str(daemon_health.SOCKET)


def test_slot_shares_the_sockets_directory() -> None:
    slot = SNAPCRAFT["slots"][orchestrator_snap.SLOT]
    listen = SNAPCRAFT["apps"]["daemon"]["sockets"]["epa"]["listen-stream"]
    assert slot["source"]["write"] == [str(Path(listen).parent)]


@pytest.mark.parametrize("hook", ["configure", "install", "post-refresh"])
def test_hook_is_executable_and_runs_configure(hook: str) -> None:
    path = ROOT / "snap" / "hooks" / hook
    assert os.access(path, os.X_OK)
    assert "epa_orchestrator.configure" in path.read_text("utf-8")
    assert SNAPCRAFT["hooks"][hook]["plugs"] == PLUGS


@pytest.mark.parametrize("app", ["daemon", "epa-orchestrator"])
def test_app_has_all_plugs_that_read_the_host(app: str) -> None:
    assert [plug for plug in SNAPCRAFT["apps"][app]["plugs"] if plug != "network-bind"] == PLUGS + AUDIT_PLUGS


def test_charm_connects_all_plugs_that_read_the_host() -> None:
    assert [orchestrator_snap.NODE_PLUG, *orchestrator_snap.OPTIONAL_PLUGS] == PLUGS + AUDIT_PLUGS


def test_node_plug_is_that_of_the_older_snap() -> None:
    """snapd keeps a connection over a refresh by the plug's name."""
    assert SNAPCRAFT["plugs"]["sys-devices-system-node"] == {
        "interface": "system-files",
        "read": ["/sys/devices/system/node"],
    }


def test_only_the_hook_of_a_refresh_replays() -> None:
    hooks = {path.name for path in (ROOT / "snap" / "hooks").iterdir() if "--replay" in path.read_text("utf-8")}
    assert hooks == {"post-refresh"}


def test_no_other_hooks_exist() -> None:
    assert {path.name for path in (ROOT / "snap" / "hooks").iterdir()} == SNAPCRAFT["hooks"].keys()


def test_snap_may_read_all_paths_of_discovery() -> None:
    readable = SNAPCRAFT["plugs"]["topology"]["read"]
    source = (ROOT / "src" / "epa_orchestrator" / "hardware" / "machine.py").read_text("utf-8")
    for path in re.findall(r'"(devices/[a-z_/]+)"', source):
        assert any(f"/sys/{path}".startswith(f"{directory}/") for directory in readable), path


def test_every_source_file_names_its_licence() -> None:
    rooms = ("src", "lib", "tests", "tools", "benchmarks", "examples", "docs")
    sources = [path for room in rooms for path in (ROOT / room).rglob("*.*") if path.suffix in (".py", ".c")]
    assert len(sources) > 500
    without = [
        path.relative_to(ROOT).as_posix()
        for path in sources
        if (text := path.read_text("utf-8")) and "SPDX-License-Identifier: Apache-2.0" not in text[:200]
    ]
    assert without == []
