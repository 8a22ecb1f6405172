# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Suggestions: commands that a text tells a person to run, quoted for a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def command_line(name: str, service: str, *arguments: object, options: Iterable[object] = ()) -> str:
    """A command about a service. After "--" a name that begins with "-" is no option."""
    words = [service, *arguments]
    all_words = [*options, "--", *words] if service.startswith("-") else [*words, *options]
    return shlex.join(["epa-orchestrator", name, *map(str, all_words)])


def removal_of_record(service: str, node: int, size: str) -> str:
    """The command that removes a hugepage record."""
    return command_line("hugepages", service, options=("--node", node, "--size", size, "--count", -1))
