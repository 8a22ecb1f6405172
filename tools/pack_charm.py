# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Packs the charm with the snap inside it: with `charmcraft pack` if that runs here, else by following charmcraft.yaml.

`python -m tools.pack_charm [--arch arm64] [--snap FILE] [--python 3.12] [--output FILE]`. charmcraft packs only on
Ubuntu 24.04 with python3-apt, and only for that machine's architecture. Elsewhere this script lays out the same zip
with charmcraft's own models and dispatch, and with wheels for the given Python and architecture: for tests, not for
publishing.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any, Final, cast

import yaml
from charmcraft import const
from charmcraft.dispatch import create_dispatch
from charmcraft.models.metadata import CharmMetadata
from charmcraft.models.project import PlatformCharm
from craft_cli import EmitterMode, emit

from tools.packing import (
    ARCHITECTURES,
    ROOT,
    PackError,
    architecture,
    check_architecture,
    document,
    drop_foreign_bytecode,
    python_environment,
    run,
    running_python,
    workplace,
)

#: The Python of ubuntu@24.04, the charm's base.
BASE_PYTHON: Final = "3.12"

#: The packages that have no wheel, and those that have none for an architecture. pip builds them here without a C
#: compiler, so the result runs on every architecture: charmhelpers has no C part, and that of markupsafe is optional.
_BUILT: Final = ("charmhelpers",)
_BUILT_FOR: Final = {"s390x": ("markupsafe",)}


def pack(output: Path, snap: Path | None, python: str = BASE_PYTHON, target: str | None = None) -> Path:
    """Lay out the charm as charmcraft does, with `snap` inside (None: an empty file), and zip it into `output`.

    `target` is the architecture of the charm and its snap (None: this machine's). Raises PackError.
    """
    project = document(ROOT / const.CHARMCRAFT_FILENAME)
    target = target or architecture()
    if target not in project["platforms"]:
        raise PackError(f"charmcraft.yaml has no platform {target}: use one of {', '.join(project['platforms'])}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with workplace() as place:
        stage = place / "charm"
        stage.mkdir()
        environment = python_environment(python, target, place)
        for name, part in cast("dict[str, Any]", project["parts"]).items():
            _build(name, part, stage, environment, python, snap, target)
        drop_foreign_bytecode(stage, python)
        check_architecture(stage, target)
        write_metadata(project, stage, target)
        emit.init(EmitterMode.QUIET, "pack_charm", "packs the charm")
        create_dispatch(prime_dir=stage)
        emit.ended_ok()
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in stage.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(stage))
    return output


def charmcraft_runs() -> bool:
    """Whether `charmcraft pack --destructive-mode` works here."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return False
    ubuntu = (system.get("ID"), system.get("VERSION_ID")) == ("ubuntu", "24.04")
    return ubuntu and importlib.util.find_spec("apt") is not None


def _build(
    name: str,
    part: dict[str, Any],
    stage: Path,
    environment: dict[str, str],
    python: str,
    snap: Path | None,
    target: str,
) -> None:
    if part["plugin"] == "python":
        _install(part["python-requirements"], stage / "venv", environment, python, target)
        for directory in ("src", "lib"):
            if (ROOT / directory).is_dir():
                shutil.copytree(ROOT / directory, stage / directory, ignore=shutil.ignore_patterns("__pycache__"))
    elif part["plugin"] == "dump":
        for file in part["stage"]:
            source = snap if file in part["organize"].values() else ROOT / file
            (stage / file).write_bytes(source.read_bytes() if source else b"")
    elif part["plugin"] == "nil":
        run(["bash", "-c", f"set -euo pipefail\n{part['override-build']}"], ROOT, {"CRAFT_PART_INSTALL": str(stage)})
    else:
        raise PackError(f"part {name} of charmcraft.yaml has plugin {part['plugin']}, not python, dump or nil")


def _install(requirements: list[str], venv: Path, environment: dict[str, str], python: str, target: str) -> None:
    """Make the virtual environment with packages and without programs, as charmcraft does."""
    packages = venv / "lib" / f"python{python}" / "site-packages"
    command = ["python3", "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), "--requirement"]
    locked = "\n".join((ROOT / file).read_text("utf-8") for file in requirements)
    blocks = re.split(r"\n(?=[a-z])", locked)
    names = (*_BUILT, *_BUILT_FOR.get(target, ()))
    without_wheel = tuple(f"{name}==" for name in names)
    building = {"PIP_NO_BINARY": ",".join(names), "PIP_NO_CACHE_DIR": "1", "CC": "false"}
    with workplace() as place:
        built, wheels = place / "built.txt", place / "wheels.txt"
        built.write_text("\n".join(block for block in blocks if block.startswith(without_wheel)), encoding="utf-8")
        wheels.write_text("\n".join(block for block in blocks if not block.startswith(without_wheel)), encoding="utf-8")
        run([*command, str(built)], ROOT, {"PATH": environment["PATH"], **building})
        run([*command, str(wheels)], ROOT, environment)
    shutil.rmtree(packages / "bin", ignore_errors=True)
    home = Path(sys.base_prefix, "bin") if python == running_python() else Path("/usr/bin")
    settings = f"home = {home}\ninclude-system-site-packages = false\nversion = {python}\n"
    (venv / "pyvenv.cfg").write_text(settings, encoding="utf-8")


def write_metadata(project: dict[str, Any], stage: Path, target: str) -> None:
    """Write what Juju and ops read: metadata, configuration, actions and manifest of a charmcraft project."""
    manifest = {
        "charmcraft-version": importlib.import_module("charmcraft").__version__,
        "bases": [{"name": "ubuntu", "channel": "24.04", "architectures": [target]}],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about members of charmcraft that we do not use
        charm = cast("Any", PlatformCharm).unmarshal(project)
        metadata = CharmMetadata.from_charm(charm).to_yaml_string()
    (stage / const.METADATA_FILENAME).write_text(metadata, encoding="utf-8")
    for name, content in (
        (const.JUJU_CONFIG_FILENAME, project["config"]),
        (const.JUJU_ACTIONS_FILENAME, project.get("actions", {})),
        (const.MANIFEST_FILENAME, manifest),
    ):
        (stage / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _packed(snap: Path, target: str) -> Path:
    if not snap.is_file():
        raise PackError(f"{snap} is missing: pack the snap first (python -m tools.pack_snap --arch {target})")
    return snap


def main() -> int:
    """Pack, and print the path of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, help="the architecture to pack for (default: this machine's)")
    parser.add_argument("--snap", type=Path, help="the snap to put inside (default: the snap in dist)")
    parser.add_argument("--python", help="the Python to pack for (default: the base's own); never runs charmcraft")
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    try:
        target: str = arguments.arch or architecture()
        name = f"epa-orchestrator_{target}.charm"
        snap = _packed(arguments.snap or ROOT / "dist" / f"epa-orchestrator_{target}.snap", target)
        if charmcraft_runs() and not (arguments.arch or arguments.python or arguments.snap or arguments.output):
            run(["charmcraft", "pack", "--destructive-mode", "--output", "dist"], ROOT)
            print(ROOT / "dist" / name)
        else:
            print(pack(arguments.output or ROOT / "dist" / name, snap, arguments.python or BASE_PYTHON, target))
    except (PackError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
