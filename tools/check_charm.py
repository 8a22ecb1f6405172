# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Checks charmcraft.yaml against charmcraft's schema, and the packed charm with `charmcraft analyze`.

`python -m tools.check_charm`. The analyzer does not expand the variable in the dispatch that charmcraft generates, so
it gets a copy with the expanded variable. All of its results must be good except one: it does not find ops, because it
looks in the directory of older plugins.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final, cast

from tools.pack_charm import pack
from tools.packing import PackError, running_python

_GOOD: Final = ("ok", "nonapplicable", "python", "operator", "ignored")


def main() -> int:
    """Print the problems; returns 0 when there are none."""
    try:
        with tempfile.TemporaryDirectory() as directory:
            charm = pack(Path(directory, "checked.charm"), None, running_python())
            readable = _with_plain_dispatch(charm, Path(directory, "readable.charm"))
            complaints = _analyze(readable)
    except PackError as error:
        complaints = [str(error)]
    for complaint in complaints:
        print(f"charmcraft.yaml: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


def _with_plain_dispatch(charm: Path, copy: Path) -> Path:
    with zipfile.ZipFile(charm) as source, zipfile.ZipFile(copy, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == "dispatch":
                content = content.replace(b'"${dispatch_path}/src/charm.py"', b"src/charm.py")
            target.writestr(entry, content)
    return copy


def _analyze(charm: Path) -> list[str]:
    command = [sys.executable, "-m", "charmcraft", "analyze", "--format=json", str(charm)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        results = cast("list[dict[str, str]]", json.loads(done.stdout))
    except ValueError:
        return [f"charmcraft analyze failed: {done.stderr.strip()[-500:]}"]
    found = {result["name"]: result["result"] for result in results}
    missing = [f"{name} was not checked" for name in ("metadata", "entrypoint", "juju-config") if name not in found]
    bad = [result for result in results if result["result"] not in _GOOD and result["name"] != "framework"]
    return missing + [f"{result['name']}: {result['result']} {result.get('text', '')}" for result in bad]


if __name__ == "__main__":
    sys.exit(main())
