# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Folding: stores the files that every CPU has once, so that a recording of 1,000 CPUs stays small."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from epa_orchestrator.cpuset import CpuSet

#: The directory of one CPU in a path, and what stands for it in a recording.
_CPU_DIRECTORY = re.compile(r"/cpu([0-9]+)/")
_CPU_TEMPLATE: Final = "/cpu{}/"


def fold(files: dict[str, str]) -> dict[str, str | dict[str, str]]:
    """Put the files that every CPU has under one path, `.../cpu{}/...`, as {text: the CPUs whose file holds it}."""
    folded: dict[str, str | dict[str, str]] = {}
    per_cpu: dict[str, dict[str, list[int]]] = {}
    for path, text in files.items():
        match = _CPU_DIRECTORY.search(path)
        if match is None:
            folded[path] = text
        else:
            template = path[: match.start()] + _CPU_TEMPLATE + path[match.end() :]
            per_cpu.setdefault(template, {}).setdefault(text, []).append(int(match[1]))
    for template, cpus_by_text in per_cpu.items():
        folded[template] = {text: str(CpuSet(cpus)) for text, cpus in cpus_by_text.items()}
    return dict(sorted(folded.items()))


def unfold(folded: dict[str, Any]) -> dict[str, str]:
    """Undo `fold`.

    Raises ValueError where a value is neither text nor {text: CPU list}.
    """
    files: dict[str, str] = {}
    for path, value in folded.items():
        if isinstance(value, str):
            files[path] = value
        elif isinstance(value, dict) and _CPU_TEMPLATE in path:
            for text, cpus in cast("dict[str, Any]", value).items():
                if not isinstance(cpus, str):
                    raise ValueError(f"'{path}' does not map texts to CPU lists")
                files.update((path.replace(_CPU_TEMPLATE, f"/cpu{cpu}/", 1), text) for cpu in CpuSet.parse(cpus))
        else:
            raise ValueError(f"'{path}' holds neither text nor texts by CPU list")
    return files
