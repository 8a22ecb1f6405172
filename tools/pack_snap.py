# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Packs the snap without snapcraft and without the store, by following the parts of snap/snapcraft.yaml.

`python -m tools.pack_snap [--arch arm64] [--python 3.12] [--output FILE]`. Each part's `override-build` runs as
snapcraft runs it, with CRAFT_PART_INSTALL as the directory for its files and a `craftctl` that sets the version. The
rest of snapcraft.yaml becomes meta/snap.yaml. The script refuses parts and members that it does not know. For another
architecture than this machine's, pip takes the wheels of that architecture.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, Final, cast

import yaml

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
    workplace,
)

#: The Python of each base: wheels with compiled parts must be for this version.
BASE_PYTHON: Final = {"core24": "3.12"}

#: Top-level members of snapcraft.yaml that snap.yaml has under the same name.
_SAME: Final = (
    *("name", "version", "title", "summary", "description", "license", "base", "grade", "confinement"),
    *("environment", "plugs", "slots", "apps", "hooks"),
)
_ONLY_SNAPCRAFT: Final = ("platforms", "parts", "compression", "adopt-info")


def pack(
    output: Path,
    python: str | None = None,
    version: str | None = None,
    target: str | None = None,
    root: Path = ROOT,
    name: str | None = None,
) -> Path:
    """Pack the snap of the project in `root` for the architecture `target` (None: this machine's) into `output`.

    `version` replaces the version that the parts set, `name` the snap's name. Raises PackError.
    """
    project = document(root / "snap" / "snapcraft.yaml")
    project["name"] = name or project["name"]
    if unknown := sorted(set(project) - {*_SAME, *_ONLY_SNAPCRAFT}):
        raise PackError(f"snapcraft.yaml has members that this script does not know: {', '.join(unknown)}")
    python = python or BASE_PYTHON[project["base"]]
    target = target or architecture()
    if target not in project["platforms"]:
        raise PackError(f"snapcraft.yaml has no platform {target}: use one of {', '.join(project['platforms'])}")
    output.parent.mkdir(parents=True, exist_ok=True)
    options = ["-noappend", "-comp", project["compression"], "-all-root", "-no-xattrs", "-quiet", "-no-progress"]
    with workplace() as place:
        stage = place / "snap"
        stage.mkdir()
        for title, part in cast("dict[str, Any]", project["parts"]).items():
            environment = python_environment(python, target, place)
            made = _build(title, part, stage, root, environment | {"CRAFTCTL_SETTINGS": str(_craftctl(place))})
            if title == project.get("adopt-info"):
                project["version"] = version or made
        if not project.get("version"):
            raise PackError(
                f"part {project['adopt-info']} of snapcraft.yaml sets no version: it needs craftctl set version=…"
            )
        drop_foreign_bytecode(stage, python)
        check_architecture(stage, target)
        _write_meta(project, stage, root, target)
        run(["mksquashfs", str(stage), str(output), *options], root)
    return output


def _craftctl(place: Path) -> Path:
    """Make the program craftctl, first on the parts' PATH; returns the file where it writes what a part sets."""
    settings, program = place / "settings", place / "bin" / "craftctl"
    settings.write_text("", encoding="utf-8")
    program.write_text('#!/bin/sh\n[ "$1" = set ] && printf "%s\\n" "$2" >> "$CRAFTCTL_SETTINGS"\n', encoding="utf-8")
    program.chmod(0o755)
    return settings


def _build(name: str, part: dict[str, Any], stage: Path, root: Path, environment: dict[str, str]) -> str:
    """Build a part into the stage; returns the version that it sets, or an empty text."""
    known = {"plugin", "source", "build-packages", "override-build", "prime"}
    if part["plugin"] != "nil" or part["source"] != "." or set(part) - known:
        raise PackError(f"part {name} of snapcraft.yaml has members or a plugin that this script does not know")
    script = f"set -euo pipefail\n{part['override-build']}"
    run(["bash", "-c", script], root, {**environment, "CRAFT_PART_INSTALL": str(stage)})
    for entry in cast("list[str]", part.get("prime", [])):
        if not entry.startswith("-"):
            raise PackError(f"part {name} of snapcraft.yaml primes {entry}: this script can only exclude files (-PATH)")
        shutil.rmtree(stage / entry[1:], ignore_errors=True)
    settings = Path(environment["CRAFTCTL_SETTINGS"]).read_text("utf-8").splitlines()
    return next((line.removeprefix("version=") for line in settings if line.startswith("version=")), "")


def _write_meta(project: dict[str, Any], stage: Path, root: Path, target: str) -> None:
    """Write meta/snap.yaml and the hooks."""
    meta = stage / "meta"
    meta.mkdir()
    if (root / "snap" / "hooks").is_dir():
        shutil.copytree(root / "snap" / "hooks", meta / "hooks")
    description = {key: project[key] for key in _SAME if key in project} | {"architectures": [target]}
    (meta / "snap.yaml").write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")


def main() -> int:
    """Pack, and print the path of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, help="the architecture to pack for (default: this machine's)")
    parser.add_argument("--python", help="the Python to pack for (default: the base's own)")
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    try:
        target: str = arguments.arch or architecture()
        output = arguments.output or ROOT / "dist" / f"epa-orchestrator_{target}.snap"
        print(pack(output, arguments.python, target=target))
    except PackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
