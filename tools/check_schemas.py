# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Checks the files that GitHub and snapcraft read against their schemas, and the workflows for security problems.

`python -m tools.check_schemas`. It needs no network: check-jsonschema contains the schemas, and zizmor leaves out the
checks that ask GitHub. charmcraft.yaml is checked by `tools.check_charm`.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from tools.packing import ROOT

#: It lies among the forms, and is none.
_ISSUE_CONFIG: Final = ".github/ISSUE_TEMPLATE/config.yaml"
#: The patterns of the files that each schema of check-jsonschema is for.
SCHEMAS: Final = {
    "vendor.github-workflows": (".github/workflows/*.y*ml",),
    "vendor.dependabot": (".github/dependabot.y*ml",),
    "vendor.github-issue-config": (_ISSUE_CONFIG,),
    "vendor.github-issue-forms": (".github/ISSUE_TEMPLATE/*.y*ml",),
    "vendor.readthedocs": (".readthedocs.y*ml",),
    "vendor.snapcraft": ("snap/snapcraft.yaml", "examples/*/snap/snapcraft.yaml"),
}


def main() -> int:
    """Print the problems; returns 0 when there are none."""
    programs = [["zizmor", "--quiet", "--no-progress", "--offline", "--persona=pedantic", str(ROOT)]]
    for schema, patterns in SCHEMAS.items():
        found = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
        files = [str(path) for path in found if _ISSUE_CONFIG in patterns or path != ROOT / _ISSUE_CONFIG]
        if not files:
            print(f"no file is there for the schema {schema}: correct SCHEMAS", file=sys.stderr)
            return 1
        programs.append([sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files])
    return max(_complains(program) for program in programs)


def _complains(program: list[str]) -> int:
    """Run a program; returns 1 and shows what it prints if it finds a problem."""
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
